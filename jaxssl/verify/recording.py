"""Record what a run reads, and compare two runs of one config bit by bit.

`record` goes around the input pipeline and appends a line to a file for each start and
each batch; a kill -9 does not take these lines away. The other functions compare such
files, checkpoints and metrics of two runs.
"""

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxssl import errors
from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.data.pipeline import Batches, Pipeline
from jaxssl.run import metrics

# Seconds between two looks for the file that a kill waits for.
POLL_SECONDS = 0.0005

# Seconds after which a kill no longer waits for its file.
WAIT_SECONDS = 30.0


class KillSpec(NamedTuple):
    """When a process kills itself with signal 9.

    Attributes:
      step: the kill comes after the batch of this step was read; steps count from 0.
      delay: seconds between the batch and the kill, or between the file and the kill.
      file: the kill waits until this file exists, ``WAIT_SECONDS`` at most; None if it
        waits for the batch alone.
    """

    step: int
    delay: float
    file: str | None


class Start(NamedTuple):
    """The batches that one start of a run read.

    Attributes:
      step: the step at which the input was opened.
      batches: step and SHA-256 of each batch, in the order in which they were read.
    """

    step: int
    batches: list[tuple[int, str]]


# --- Record


def record(batches: Pipeline, path: Path, kill: KillSpec | None) -> Pipeline:
    """Return a pipeline that gives the same batches and records them.

    Args:
      batches: the pipeline.
      path: the file to which lines are appended.
      kill: when to kill this process; None for never.

    Returns:
      The recording pipeline.
    """

    def open_rows(*args: Any, **settings: Any) -> Batches:
        rows: Any = batches(*args, **settings)
        # A call without a step only checks the settings; it does not train.
        if "start_step" in settings:
            rows = _RecordedBatches(rows, path, kill)
        return rows

    return open_rows


class _RecordedBatches(Iterator[dict[str, np.ndarray]]):
    """Records each batch; everything else is that of the batches it goes around."""

    def __init__(self, rows: Batches, path: Path, kill: KillSpec | None):
        self._rows, self._path, self._kill = rows, path, kill
        self._killer: threading.Thread | None = None
        self._write({"start": rows.step})

    def __next__(self) -> dict[str, np.ndarray]:
        if self._killer is not None:
            self._killer.join()  # A quick run must not end before it is killed.
        step = self._rows.step
        batch = next(self._rows)
        self._write({"step": step, "sha256": digest(batch)})
        if self._kill is not None and step == self._kill.step:
            self._killer = threading.Thread(target=_wait_and_kill, args=[self._kill])
            self._killer.start()
        return batch

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def _wait_and_kill(kill: KillSpec) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while kill.file and not os.path.exists(kill.file):
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    time.sleep(kill.delay)
    os.kill(os.getpid(), signal.SIGKILL)


def digest(batch: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes of a batch."""
    sha256 = hashlib.sha256()
    for name in sorted(batch):
        array = np.ascontiguousarray(batch[name])
        sha256.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha256.update(array.data)
    return sha256.hexdigest()


# --- Compare


def read_starts(path: Path) -> list[Start]:
    """Read the file that `record` wrote, in order."""
    starts: list[Start] = []
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if "start" in entry:
            starts.append(Start(entry["start"], []))
        else:
            starts[-1].batches.append((entry["step"], entry["sha256"]))
    return starts


def compare_batches(whole: list[Start], starts: list[Start]) -> tuple[int, str | None]:
    """Compare every batch of a killed run with that of an undisturbed one.

    Args:
      whole: starts of the undisturbed run, of which there is one.
      starts: starts of the killed run.

    Returns:
      The number of batches that were read more than once, and the first difference in
      words, or None.
    """
    expected = dict(whole[-1].batches)
    read: set[int] = set()
    repeated = 0
    for number, start in enumerate(starts):
        for position, (step, sha256) in enumerate(start.batches, start=start.step):
            batch = f"start {number}, batch of step {step}"
            if step != position:
                return repeated, f"{batch}: step {position} should have come"
            if expected.get(step) != sha256:
                return repeated, f"{batch}: other rows than in the undisturbed run"
            repeated += step in read
            read.add(step)
    if missing := sorted(expected.keys() - read):
        return repeated, f"the batch of step {missing[0]} was never read"
    return repeated, None


def compare_states(whole: Path, other: Path, step: int) -> tuple[int, int, str | None]:
    """Compare one checkpoint of two runs bit by bit.

    Args:
      whole: workdir of the undisturbed run.
      other: workdir of the killed run.
      step: the step of the checkpoint.

    Returns:
      Number of leaves, number of bytes, and the first difference in words, or None.
    """
    ours, theirs = (_read_arrays(workdir, step) for workdir in (whole, other))
    size = sum(array.nbytes for array in ours.values())
    for name in sorted(ours.keys() | theirs.keys()):
        difference = _describe_difference(ours.get(name), theirs.get(name))
        if difference:
            return len(ours), size, f"{name} of step {step} {difference}"
    return len(ours), size, None


def compare_metrics(whole: Path, other: Path) -> tuple[int, str | None]:
    """Compare the metrics that two runs logged, without speeds.

    Returns:
      Number of records, and the first difference in words, or None.
    """
    ours, theirs = (
        [
            {k: v for k, v in record.items() if not k.startswith("speed/")}
            for record in metrics.read(workdir)
        ]
        for workdir in (whole, other)
    )
    for a, b in zip(ours, theirs, strict=False):
        for name in [*a, *(n for n in b if n not in a)]:
            if a.get(name) != b.get(name):
                return len(ours), (
                    f"{name} of the record of step {a['step']}: {a.get(name)} "
                    f"undisturbed, {b.get(name)} resumed"
                )
    if len(ours) != len(theirs):
        return len(ours), f"{len(ours)} records undisturbed, {len(theirs)} resumed"
    return len(ours), None


def _read_arrays(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Verify a checkpoint and read its leaves as NumPy arrays, by path.

    Raises:
      NoValidCheckpointError: the checkpoint is damaged.
    """
    folder = workdir.absolute() / checkpoints.FOLDER / str(step)
    damage = manifest.find_damage(folder)
    if damage is not None:
        raise errors.NoValidCheckpointError(f"{folder} is damaged: {damage}.")
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = folder / checkpoints.ITEM
        tree = checkpointer.metadata(path).item_metadata.tree
        as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        restore_args = jax.tree.map(lambda _: as_numpy, tree)
        arrays = checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(restore_args=restore_args)
        )
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays)
    }


def _describe_difference(
    ours: np.ndarray | None, theirs: np.ndarray | None
) -> str | None:
    """Return the first difference of two arrays in words, or None."""
    if ours is None or theirs is None:
        return f"is only there {'resumed' if ours is None else 'undisturbed'}"
    if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
        return (
            f"is {ours.dtype}{list(ours.shape)} undisturbed, "
            f"{theirs.dtype}{list(theirs.shape)} resumed"
        )
    if ours.tobytes() == theirs.tobytes():
        return None
    width = ours.dtype.itemsize
    flat = [np.frombuffer(x.tobytes(), f"V{width}") for x in (ours, theirs)]
    different = np.flatnonzero(flat[0] != flat[1])
    index = tuple(int(i) for i in np.unravel_index(different[0], ours.shape))
    return (
        f"differs in {len(different)} of {ours.size} values, first at {list(index)}: "
        f"{ours[index]} undisturbed, {theirs[index]} resumed"
    )
