"""Tables of a run's checkpoints for people; nothing on disk changes."""

import datetime
import time
from pathlib import Path

from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints

UNFINISHED = "being saved, or cut short by a crash"
REMOVAL_SECONDS = 2.0
"""A run that goes on removes its oldest checkpoint file by file; that takes less."""


def list_text(workdir: Path) -> str:
    """Return a table of the checkpoints of a run: step, size, when it was written.

    Args:
      workdir: the run's folder.

    Returns:
      One line a checkpoint, also of those set aside and of a save under way.
    """
    rows = [f"{'step':>10}  {'MB':>8}  written"]
    for step in checkpoints.steps(workdir):
        folder = workdir / checkpoints.FOLDER / str(step)
        try:
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            written = datetime.datetime.fromtimestamp(folder.stat().st_mtime)
        except FileNotFoundError:
            continue  # The run removed it meanwhile.
        rows.append(f"{step:>10}  {size / 1e6:8.2f}  {written:%Y-%m-%d %H:%M:%S}")
    rows += _others(workdir)
    return "\n".join(rows if len(rows) > 1 else [_none(workdir)])


def verify_text(workdir: Path) -> tuple[str, bool]:
    """Compare every checkpoint of a run with its manifest.

    Args:
      workdir: the run's folder.

    Returns:
      One line a checkpoint; and whether none is damaged and, if damaged ones were set
      aside earlier, a good one is left.
    """
    found = {}
    for step in checkpoints.steps(workdir):
        folder = workdir / checkpoints.FOLDER / str(step)
        try:
            wrong, _ = manifest.examine(folder)
        except FileNotFoundError as error:
            wrong = f"{Path(error.filename).name} went while it was read"
        if wrong is None or not _is_removed(folder):
            found[step] = wrong
    rows = [
        f"{step:>10}  {f'DAMAGED: {wrong}' if wrong else 'good'}"
        for step, wrong in found.items()
    ]
    rows += _others(workdir)
    left = bool(found) or not checkpoints.set_aside(workdir)
    return "\n".join(rows or [_none(workdir)]), left and not any(found.values())


def _is_removed(folder: Path) -> bool:
    """Say whether a checkpoint with something wrong is just being removed."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not folder.exists()


def _others(workdir: Path) -> list[str]:
    """Return a line for each folder that no run would go on from."""
    told = [(name.split(".")[0], name) for name in checkpoints.set_aside(workdir)]
    rows = [f"{step:>10}  set aside as {name}" for step, name in told]
    unfinished = checkpoints.find_unfinished(workdir)
    if unfinished is not None:
        rows.append(f"{unfinished:>10}  {UNFINISHED}")
    return rows


def _none(workdir: Path) -> str:
    return f"{workdir} has no checkpoints yet."
