"""Save and restore the whole TrainState, with Orbax and a manifest of checksums.

A save counts once its manifest is on disk. Until then the file ``checkpoints/saving``
names the step. It distinguishes a save that a crash cut short, which is removed, from a
checkpoint that was damaged later, which is set aside as ``<step>.corrupt``.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from jaxssl import atomic_write, errors, safe_files, text, trees
from jaxssl.checkpoint import manifest
from jaxssl.distributed import coordination, peers
from jaxssl.distributed.watchdog import LONG_SECONDS
from jaxssl.errors import DriftError, NoValidCheckpointError, UserError
from jaxssl.types import TrainState

FOLDER = "checkpoints"
SAVING = "saving"

# The name of a finished checkpoint: its step, in the form that Python writes.
STEP = re.compile(r"0|[1-9][0-9]{0,17}")

# The folder in which Orbax puts an item without a name.
ITEM = "default"


class Store(NamedTuple):
    """An open folder of checkpoints.

    Attributes:
      folder: holds one folder for each step.
      manager: Orbax's manager, which writes the steps and removes old ones.
      worker: one thread, which waits for Orbax and then writes the manifest.
      pending: the save that is not finished yet, if any.
    """

    folder: Path
    manager: ocp.CheckpointManager
    worker: ThreadPoolExecutor
    pending: list[Future]


@contextlib.contextmanager
def open_store(workdir: Path, *, keep: int) -> Iterator[Store]:
    """Open ``workdir/checkpoints`` for writing; only one run may do this at a time.

    Args:
      workdir: the run's folder.
      keep: number of newest checkpoints to keep; at least 2, because Orbax removes the
        oldest before the newest has its manifest.

    Yields:
      The store. At the end of the block its last save is finished.
    """
    folder = workdir.absolute() / FOLDER
    coordination.decide("folder", lambda: folder.mkdir(exist_ok=True))
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        create=False,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
        async_options=ocp.AsyncOptions(timeout_secs=LONG_SECONDS),
        multiprocessing_options=make_options(),
    )
    with contextlib.ExitStack() as stack:
        manager = ocp.CheckpointManager(folder, options=options)
        stack.callback(manager.close)
        worker = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        stack.callback(worker.shutdown)
        store = Store(folder, manager, worker, [])
        try:
            with peers.guard():
                yield store
                finish(store)
        except errors.PeerLostError:
            stack.pop_all()  # Closing would wait for the lost process.
            raise


def make_options() -> ocp.options.MultiprocessingOptions:
    """Let Orbax use barriers that have a time-out.

    If Orbax knows the indices of the processes, its barriers are those of the
    coordination service. Otherwise Orbax uses an all-reduce on the devices as its
    barrier, and that has no time-out.
    """
    count = coordination.count()
    everyone = set(range(count)) if count > 1 else None
    return ocp.options.MultiprocessingOptions(active_processes=everyone)


def save(
    store: Store, state: TrainState, meter: Mapping[str, Any] | None = None
) -> None:
    """Begin a save, and return once the state has been copied to the host.

    Args:
      store: where to save.
      state: the state at the end of a step; may be donated afterwards.
      meter: sums of the log interval that the step lies in, as plain numbers.

    Raises:
      RuntimeError: Orbax refused.
      OSError: this save cannot begin, or the save before it failed.
    """
    settle(store)
    step = int(state.step)
    if coordination.is_first():
        atomic_write.write(store.folder / SAVING, str(step).encode())
    tree = _drop_empty_extra(state)
    if not store.manager.save(step, args=ocp.args.StandardSave(tree)):
        raise RuntimeError(f"Orbax did not save step {step} in {store.folder}")
    leaves = trees.describe(state)
    store.pending.append(store.worker.submit(_finish, store, step, leaves, meter))


def _drop_empty_extra(state: TrainState) -> dict[str, Any]:
    """Return the tree of a checkpoint: the fields of a state by name.

    An ``extra`` without arrays is left out. Orbax compares even empty nodes, and the
    checkpoints of version 0.1 have no node ``extra``.
    """
    tree = state._asdict()
    if not jax.tree.leaves(state.extra):
        del tree["extra"]
    return tree


def settle(store: Store) -> None:
    """Wait until this process has finished its save; raise the error of the save."""
    while store.pending:
        store.pending.pop().result()


def finish(store: Store) -> None:
    """Wait until the last save counts, on every process."""
    settle(store)
    coordination.decide("finish", lambda: None)


def _finish(store: Store, step: int, leaves: dict[str, list], meter: Any) -> None:
    store.manager.wait_until_finished()
    if coordination.is_first():
        manifest.write(store.folder / str(step), leaves, meter)
        (store.folder / SAVING).unlink()


def steps(workdir: Path) -> list[int]:
    """Return the steps of the finished checkpoints of a run, oldest first."""
    names = [path.name for path in _list(workdir) if path.is_dir()]
    # Read after the folder: a save that begins while the folder is listed is excluded.
    unfinished = find_unfinished(workdir)
    return sorted({int(n) for n in names if STEP.fullmatch(n)} - {unfinished})


def _list(workdir: Path) -> list[Path]:
    """Return what the folder of checkpoints holds.

    Raises:
      UserError: the folder is something else.
    """
    folder = workdir / FOLDER
    if folder.is_dir():
        return [*folder.iterdir()]
    if os.path.lexists(folder):
        raise UserError(
            f"--workdir: {folder} is no folder; bring back the folder, or move "
            f"{folder.name} away."
        )
    return []


def find_strays(workdir: Path) -> list[str]:
    """Return the names of folders that Orbax takes for a step and that are none.

    Orbax reads a step in the digits of any script, and behind an underscore.
    """
    names = sorted(path.name for path in _list(workdir) if path.is_dir())
    return [
        name
        for name in names
        if name.split("_")[-1].isdigit() and not STEP.fullmatch(name)
    ]


def set_aside(workdir: Path) -> list[str]:
    """Return the names of the damaged checkpoints that were set aside, sorted."""
    return sorted(path.name for path in (workdir / FOLDER).glob("*.corrupt*"))


def exists(workdir: Path) -> bool:
    """Return whether a run has a checkpoint; a damaged one counts."""
    return bool(steps(workdir) or set_aside(workdir))


def find_unfinished(workdir: Path) -> int | None:
    """Return the step of a save that is under way or that a crash cut short."""
    try:
        data = safe_files.read_bytes(workdir / FOLDER / SAVING, safe_files.JSON_BYTES)
    except (FileNotFoundError, safe_files.UnreadableFile):
        return None
    step = data.decode(errors="replace")
    folder = workdir / FOLDER / step
    if STEP.fullmatch(step) is None or not folder.is_dir():
        return None
    return None if (folder / manifest.NAME).exists() else int(step)


def remove_unfinished(workdir: Path, say: text.Say) -> None:
    """Delete a save that a crash cut short; the caller must hold the workdir's lock."""
    step = find_unfinished(workdir)
    if step is not None:
        shutil.rmtree(workdir / FOLDER / str(step))
        say(f"checkpoint {step}: the save was interrupted; removed.")
    saving = workdir / FOLDER / SAVING
    if saving.is_dir() and not saving.is_symlink():
        say(f"{saving} is no file: SET ASIDE as {safe_files.set_aside(saving).name}.")
    saving.unlink(missing_ok=True)
    for temporary in (workdir / FOLDER).glob(f".{SAVING}.*"):
        temporary.unlink()


def find_newest(workdir: Path) -> tuple[int | None, dict[int, str]]:
    """Find the newest checkpoint whose bytes are as they were written.

    Args:
      workdir: the run's folder; nothing in it is changed.

    Returns:
      The step of this checkpoint, or None if the run has no checkpoint; and the damage
      of each newer checkpoint, by step.

    Raises:
      NoValidCheckpointError: there are checkpoints, and all of them are damaged.
      OSError: no checkpoint is good, and one could not be read; or a disk is gone.
    """
    damage: dict[int, str] = {}
    read_error = None
    for step in reversed(steps(workdir)):
        reason, error = manifest.examine(workdir / FOLDER / str(step))
        if reason is None:
            return step, damage
        damage[step], read_error = reason, error or read_error
    if read_error is not None:
        raise read_error
    bad = [f"{step} ({reason})" for step, reason in damage.items()]
    if bad := bad + set_aside(workdir):
        raise NoValidCheckpointError(
            f"{workdir / FOLDER} has no checkpoint that can be trusted: "
            f"{', '.join(bad)}. Bring back a copy, or train in another --workdir."
        )
    return None, damage


def restore_newest(
    workdir: Path, abstract: TrainState, say: text.Say
) -> TrainState | None:
    """Restore the newest good checkpoint, and set newer, damaged ones aside.

    Args:
      workdir: the run's folder, locked by this process.
      abstract: the state that the config asks for, with shardings.
      say: gets a line for every checkpoint that is set aside or removed.

    Returns:
      The state, or None if the run has no checkpoint yet.

    Raises:
      DriftError: the checkpoint belongs to another architecture.
      NoValidCheckpointError: all checkpoints are damaged; they stay where they are.
    """

    def choose() -> list:
        remove_unfinished(workdir, say)
        step, damage = find_newest(workdir)
        strays = [[name, "no step has this name"] for name in find_strays(workdir)]
        return [step, [[str(bad), reason] for bad, reason in damage.items()] + strays]

    step, damage = coordination.decide("newest", choose)
    state = None if step is None else restore(workdir, step, abstract)
    names = coordination.decide(
        "aside",
        lambda: [safe_files.set_aside(workdir / FOLDER / x).name for x, _ in damage],
    )
    start = "starting anew" if step is None else f"going on from step {step}"
    for (bad, reason), name in zip(damage, names, strict=True):
        say(f"CHECKPOINT {bad} IS DAMAGED: {reason}. Set aside as {name}; {start}.")
    return state


def restore(workdir: Path, step: int, abstract: TrainState) -> TrainState:
    """Restore one checkpoint whose manifest has been verified.

    Args:
      workdir: the run's folder.
      step: which checkpoint.
      abstract: the state that the config asks for, with shardings.

    Returns:
      The state, bit for bit as it was saved.

    Raises:
      DriftError: names the first leaf that differs in shape or dtype, with both.
    """
    folder = workdir.absolute() / FOLDER / str(step)
    stored, wanted = manifest.read_leaves(folder), trees.describe(abstract)
    for path in [*wanted, *stored]:
        if stored.get(path) != wanted.get(path):
            there, here = (
                trees.describe_leaf(leaves.get(path)) for leaves in (stored, wanted)
            )
            raise DriftError(
                f"{folder} was saved by another architecture: {path} is {there} there, "
                f"but the config asks for {here}. Use the config that it was trained "
                "with, or another --workdir."
            )
    options = make_options()
    with ocp.StandardCheckpointer(multiprocessing_options=options) as checkpointer:
        tree = checkpointer.restore(folder / ITEM, _drop_empty_extra(abstract))
    return abstract._replace(**tree)
