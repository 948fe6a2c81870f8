"""What a run read and where it ended, to compare two runs of one config bit by bit.

`recorded` goes around the input pipeline and writes a line for each start and each
batch, which a kill -9 does not take away. The rest reads such records and checkpoints.
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

POLL_SECONDS = 0.0005
PATIENCE_SECONDS = 30.0


class Strike(NamedTuple):
    """When a process kills itself with signal 9.

    Attributes:
      step: once the batch of this step was read; steps count from 0.
      delay: so many seconds later.
      after: the seconds count from the moment when this file exists (after half a
        minute in vain from then); None counts from the batch.
    """

    step: int
    delay: float
    after: str | None


class Start(NamedTuple):
    """What one start of a run read.

    Attributes:
      step: where its input was opened.
      batches: step and SHA-256 of each batch, in the order in which they were read.
    """

    step: int
    batches: list[tuple[int, str]]


# --- Record


def recorded(batches: Pipeline, path: Path, strike: Strike | None) -> Pipeline:
    """Go around a pipeline: write down what is read, and strike.

    Args:
      batches: the pipeline.
      path: lines are appended here.
      strike: when to kill this process, if at all.

    Returns:
      A pipeline that gives the very same batches.
    """

    def opened(*args: Any, **settings: Any) -> Batches:
        rows: Any = batches(*args, **settings)
        # Whoever names no step asks whether the settings fit, and does not train.
        if "start_step" in settings:
            rows = _Recorded(rows, path, strike)
        return rows

    return opened


class _Recorded(Iterator[dict[str, np.ndarray]]):
    """Passes all on to the batches that it goes around."""

    def __init__(self, rows: Batches, path: Path, strike: Strike | None):
        self._rows, self._path, self._strike = rows, path, strike
        self._striker: threading.Thread | None = None
        self._write({"start": rows.step})

    def __next__(self) -> dict[str, np.ndarray]:
        if self._striker is not None:
            self._striker.join()  # A quick run must not end before it is killed.
        step = self._rows.step
        batch = next(self._rows)
        self._write({"step": step, "sha256": digest(batch)})
        if self._strike is not None and step == self._strike.step:
            self._striker = threading.Thread(target=_wait_and_kill, args=[self._strike])
            self._striker.start()
        return batch

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)


def _wait_and_kill(strike: Strike) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while strike.after and not os.path.exists(strike.after):
        if time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    time.sleep(strike.delay)
    os.kill(os.getpid(), signal.SIGKILL)


def digest(batch: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 of names, dtypes, shapes and bytes of a batch."""
    found = hashlib.sha256()
    for name in sorted(batch):
        array = np.ascontiguousarray(batch[name])
        found.update(f"{name} {array.dtype} {array.shape}\n".encode())
        found.update(array.data)
    return found.hexdigest()


# --- Compare


def read_starts(path: Path) -> list[Start]:
    """Read what `recorded` wrote, in order."""
    starts: list[Start] = []
    for line in path.read_text().splitlines():
        found = json.loads(line)
        if "start" in found:
            starts.append(Start(found["start"], []))
        else:
            starts[-1].batches.append((found["step"], found["sha256"]))
    return starts


def compare_batches(whole: list[Start], starts: list[Start]) -> tuple[int, str | None]:
    """Compare every batch of a run that was killed with that of an undisturbed one.

    Args:
      whole: of the undisturbed run.
      starts: of the other one.

    Returns:
      How many batches were read more than once, and the first difference in words.
    """
    expected = dict(whole[-1].batches)
    seen: set[int] = set()
    again = 0
    for number, start in enumerate(starts):
        for position, (step, found) in enumerate(start.batches, start=start.step):
            where = f"start {number}, batch of step {step}"
            if step != position:
                return again, f"{where}: step {position} should have come"
            if expected.get(step) != found:
                return again, f"{where}: other rows than in the undisturbed run"
            again += step in seen
            seen.add(step)
    if missing := sorted(expected.keys() - seen):
        return again, f"the batch of step {missing[0]} was never read"
    return again, None


def compare_states(whole: Path, other: Path, step: int) -> tuple[int, int, str | None]:
    """Compare one checkpoint of two runs bit by bit.

    Args:
      whole: workdir of the undisturbed run.
      other: workdir of the other one.
      step: which checkpoint.

    Returns:
      Number of leaves, number of bytes, and the first difference in words.
    """
    ours, theirs = (_read_arrays(workdir, step) for workdir in (whole, other))
    size = sum(array.nbytes for array in ours.values())
    for name in sorted(ours.keys() | theirs.keys()):
        told = _differ(ours.get(name), theirs.get(name))
        if told:
            return len(ours), size, f"{name} of step {step} {told}"
    return len(ours), size, None


def compare_metrics(whole: Path, other: Path) -> tuple[int, str | None]:
    """Compare what two runs logged, without times.

    Returns:
      Number of records, and the first difference in words.
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
    """Read a checkpoint whose manifest has been verified as flat NumPy arrays."""
    folder = workdir.absolute() / checkpoints.FOLDER / str(step)
    wrong = manifest.find_damage(folder)
    if wrong is not None:
        raise errors.NoValidCheckpointError(f"{folder} is damaged: {wrong}.")
    with ocp.PyTreeCheckpointer() as checkpointer:
        path = folder / checkpoints.ITEM
        tree = checkpointer.metadata(path).item_metadata.tree
        plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        found = checkpointer.restore(
            path, args=ocp.args.PyTreeRestore(restore_args=plain)
        )
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(found)
    }


def _differ(ours: np.ndarray | None, theirs: np.ndarray | None) -> str | None:
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
    places = np.flatnonzero(flat[0] != flat[1])
    place = tuple(int(i) for i in np.unravel_index(places[0], ours.shape))
    return (
        f"differs in {len(places)} of {ours.size} values, first at {list(place)}: "
        f"{ours[place]} undisturbed, {theirs[place]} resumed"
    )
