"""Checkpoints of the whole TrainState: Orbax writes them, a manifest vouches for them.

A save counts once its manifest is on disk. Until then ``checkpoints/saving`` names the
step, so that a save that a crash cut short is told from a checkpoint that was damaged
later: the first is removed, the second is set aside as ``<step>.corrupt``.
"""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from jaxssl import atomic_write, errors, text, trees
from jaxssl.checkpoint import manifest
from jaxssl.distributed import coordination, peers
from jaxssl.distributed.watchdog import LONG_SECONDS
from jaxssl.errors import DriftError, NoValidCheckpointError
from jaxssl.types import TrainState

FOLDER = "checkpoints"
SAVING = "saving"
ITEM = "default"  # The folder Orbax puts an unnamed item in.


class Store(NamedTuple):
    """An open folder of checkpoints.

    Attributes:
      folder: where the steps lie.
      manager: writes them and removes old ones.
      worker: one thread that waits for a write and then adds the manifest.
      pending: the save in flight, if any.
    """

    folder: Path
    manager: ocp.CheckpointManager
    worker: ThreadPoolExecutor
    pending: list[Future]


@contextlib.contextmanager
def open_store(workdir: Path, *, keep: int) -> Iterator[Store]:
    """Open ``workdir/checkpoints`` for writing; only one process may.

    Args:
      workdir: the run's folder.
      keep: how many newest checkpoints stay; at least 2, because Orbax removes the
        oldest before the newest has its manifest.

    Yields:
      The store; on leaving, the save in flight has been finished.
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
            stack.pop_all()  # To close is to wait for the one that is lost.
            raise


def make_options() -> ocp.options.MultiprocessingOptions:
    """Let processes wait for each other, in Orbax, where the wait has a limit.

    Orbax asks the coordination service if it is told who they are; otherwise it has the
    devices add up a number, which has none.
    """
    count = coordination.count()
    everyone = set(range(count)) if count > 1 else None
    return ocp.options.MultiprocessingOptions(active_processes=everyone)


def save(
    store: Store, state: TrainState, meter: Mapping[str, Any] | None = None
) -> None:
    """Start to write ``state`` and return once it has been copied to the host.

    Args:
      store: where to.
      state: all that training needs; may be donated afterwards.
      meter: of the log interval that the step lies in; see `step.to_plain`.

    Raises:
      RuntimeError: Orbax refused.
      OSError: this save cannot begin; or the one before it could not be written.
    """
    settle(store)
    step = int(state.step)
    if coordination.is_first():
        atomic_write.write(store.folder / SAVING, str(step).encode())
    if not store.manager.save(step, args=ocp.args.StandardSave(state)):
        raise RuntimeError(f"Orbax did not save step {step} in {store.folder}")
    leaves = trees.describe(state)
    store.pending.append(store.worker.submit(_finish, store, step, leaves, meter))


def settle(store: Store) -> None:
    """Wait for the save in flight and raise what went wrong with it."""
    while store.pending:
        store.pending.pop().result()


def finish(store: Store) -> None:
    """Wait until the save in flight counts, on every process."""
    settle(store)
    coordination.decide("finish", lambda: None)


def _finish(store: Store, step: int, leaves: dict[str, list], meter: Any) -> None:
    store.manager.wait_until_finished()
    if coordination.is_first():
        manifest.write(store.folder / str(step), leaves, meter)
        (store.folder / SAVING).unlink()


def steps(workdir: Path) -> list[int]:
    """Return the steps of the finished checkpoints of a run, oldest first."""
    folder = workdir / FOLDER
    found = folder.iterdir() if folder.is_dir() else ()
    names = [path.name for path in found if path.is_dir()]
    # Asked last: a step that a run finishes to write meanwhile was listed, or not yet.
    unfinished = find_unfinished(workdir)
    return sorted({int(n) for n in names if n.isdecimal()} - {unfinished})


def set_aside(workdir: Path) -> list[str]:
    """Return the names of the damaged checkpoints that were set aside."""
    return sorted(path.name for path in (workdir / FOLDER).glob("*.corrupt*"))


def exists(workdir: Path) -> bool:
    """Say whether a run has a checkpoint; a damaged one counts."""
    return bool(steps(workdir) or set_aside(workdir))


def find_unfinished(workdir: Path) -> int | None:
    """Return the step that is being written, or was when a crash cut the save short."""
    try:
        step = (workdir / FOLDER / SAVING).read_text()
    except FileNotFoundError:
        return None
    folder = workdir / FOLDER / step
    written = not folder.is_dir() or (folder / manifest.NAME).exists()
    return int(step) if step.isdecimal() and not written else None


def remove_unfinished(workdir: Path, say: text.Say) -> None:
    """Delete a save that a crash cut short; call it only with the workdir locked."""
    step = find_unfinished(workdir)
    if step is not None:
        shutil.rmtree(workdir / FOLDER / str(step))
        say(f"checkpoint {step}: the save was interrupted; removed.")
    (workdir / FOLDER / SAVING).unlink(missing_ok=True)
    for beginning in (workdir / FOLDER).glob(f".{SAVING}.*"):
        beginning.unlink()


def find_newest(workdir: Path) -> tuple[int | None, dict[int, str]]:
    """Find the newest checkpoint whose bytes are as they were written.

    Args:
      workdir: the run's folder; nothing in it is changed.

    Returns:
      Its step, or None if the run has no checkpoint; and what is wrong with the newer
      ones, by step.

    Raises:
      NoValidCheckpointError: there are checkpoints, and all of them are damaged.
      OSError: none can be trusted, and one cannot be read, or a disk is gone.
    """
    damage: dict[int, str] = {}
    failed = None
    for step in reversed(steps(workdir)):
        wrong, error = manifest.examine(workdir / FOLDER / str(step))
        if wrong is None:
            return step, damage
        damage[step], failed = wrong, error or failed
    if failed is not None:
        raise failed
    aside = set_aside(workdir)
    if damage or aside:
        told = [f"{step} ({wrong})" for step, wrong in damage.items()] + aside
        raise NoValidCheckpointError(
            f"{workdir / FOLDER} has no checkpoint that can be trusted: "
            f"{', '.join(told)}. Bring back a copy, or train in another --workdir."
        )
    return None, damage


def restore_newest(
    workdir: Path, abstract: TrainState, say: text.Say
) -> TrainState | None:
    """Restore the newest good checkpoint and set newer, damaged ones aside.

    Args:
      workdir: the run's folder, locked by this process.
      abstract: the state that the config asks for, with shardings.
      say: hears of every checkpoint that was set aside.

    Returns:
      The state, or None if the run has no checkpoint yet.

    Raises:
      DriftError: the checkpoint belongs to another architecture.
      NoValidCheckpointError: all checkpoints are damaged; they stay where they are.
    """

    def look() -> list:
        remove_unfinished(workdir, say)
        step, damage = find_newest(workdir)
        return [step, [*damage.items()]]

    step, damage = coordination.decide("newest", look)
    if step is None:
        return None
    state = restore(workdir, step, abstract)
    aside = coordination.decide("aside", lambda: _set_aside(workdir, damage))
    for (bad, wrong), name in zip(damage, aside, strict=True):
        say(
            f"CHECKPOINT {bad} IS DAMAGED: {wrong}. "
            f"Set aside as {name}; going on from step {step}."
        )
    return state


def _set_aside(workdir: Path, damage: list) -> list[str]:
    """Rename damaged checkpoints and return their new names."""
    names = []
    for bad, _ in damage:
        folder = workdir / FOLDER / str(bad)
        aside = _free_name(folder.with_name(f"{bad}.corrupt"))
        folder.rename(aside)
        names.append(aside.name)
    return names


def restore(workdir: Path, step: int, abstract: TrainState) -> TrainState:
    """Restore one checkpoint whose manifest has been verified.

    Args:
      workdir: the run's folder.
      step: which checkpoint.
      abstract: the state that the config asks for, with shardings.

    Returns:
      The state, bit for bit as it was saved.

    Raises:
      DriftError: names the first leaf that differs in shape or dtype, and how.
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
        return checkpointer.restore(folder / ITEM, abstract)


def _free_name(path: Path) -> Path:
    names = [path, *(path.with_name(f"{path.name}-{i}") for i in range(2, 1000))]
    return next(name for name in names if not name.exists())
