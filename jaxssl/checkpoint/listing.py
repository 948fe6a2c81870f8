"""Tables of a run's checkpoints, as text; nothing on disk is changed."""

import datetime
import time
from pathlib import Path

from jaxssl import text
from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints

UNFINISHED = "being saved, or cut short by a crash"

# Seconds to wait for the removal of a checkpoint: a run that trains removes its oldest
# checkpoint file by file, which takes less time.
REMOVAL_SECONDS = 2.0


def list_text(workdir: Path) -> str:
    """Return a table of the checkpoints of a run: step, size, time of writing.

    Args:
      workdir: the run's folder.

    Returns:
      One line for each checkpoint, each one set aside, and a save under way.
    """
    rows = [f"{'step':>10}  {'MB':>8}  written"]
    for step in checkpoints.steps(workdir):
        folder = workdir / checkpoints.FOLDER / str(step)
        try:
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            written = datetime.datetime.fromtimestamp(folder.stat().st_mtime)
        except FileNotFoundError:
            continue  # The run removed this checkpoint meanwhile.
        rows.append(f"{step:>10}  {size / 1e6:8.2f}  {written:%Y-%m-%d %H:%M:%S}")
    rows += _list_others(workdir)
    return _join(rows if len(rows) > 1 else [_empty_line(workdir)])


def verify_text(workdir: Path) -> tuple[str, bool]:
    """Compare every checkpoint of a run with its manifest.

    Args:
      workdir: the run's folder.

    Returns:
      One line for each checkpoint; and whether all is well: no checkpoint is damaged,
      and if damaged ones were set aside earlier, a good one is left.
    """
    damage: dict[int, str | None] = {}
    for step in checkpoints.steps(workdir):
        folder = workdir / checkpoints.FOLDER / str(step)
        try:
            reason, _ = manifest.examine(folder)
        except FileNotFoundError as error:
            reason = f"{Path(error.filename).name} was removed while it was read"
        if reason is None or not _wait_for_removal(folder):
            damage[step] = reason
    rows = [
        f"{step:>10}  {f'DAMAGED: {reason}' if reason else 'good'}"
        for step, reason in damage.items()
    ]
    rows += _list_others(workdir)
    remaining = bool(damage) or not checkpoints.set_aside(workdir)
    good = remaining and not any(damage.values())
    return _join(rows or [_empty_line(workdir)]), good


def _join(rows: list[str]) -> str:
    """Join the lines of a table; no name of a file can make a line of its own."""
    return "\n".join(map(text.printable, rows))


def _wait_for_removal(folder: Path) -> bool:
    """Return whether a run removes a checkpoint within `REMOVAL_SECONDS`."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not folder.exists()


def _list_others(workdir: Path) -> list[str]:
    """Return a line for each folder from which no run would continue."""
    rows = [
        f"{name.split('.')[0]:>10}  set aside as {name}"
        for name in checkpoints.set_aside(workdir)
    ]
    rows += [
        f"{name:>10}  no step has this name"
        for name in checkpoints.find_strays(workdir)
    ]
    unfinished = checkpoints.find_unfinished(workdir)
    if unfinished is not None:
        rows.append(f"{unfinished:>10}  {UNFINISHED}")
    return rows


def _empty_line(workdir: Path) -> str:
    return f"{workdir} has no checkpoints yet."
