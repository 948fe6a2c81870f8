"""One clear error for a disk that is full, read-only or failing."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxssl import errors
from jaxssl.checkpoint import store as checkpoints


@contextlib.contextmanager
def watch(workdir: Path) -> Iterator[None]:
    """Turn an error of the disk in the block into one line that says what to do.

    Args:
      workdir: the run's folder.

    Raises:
      StorageError: names the file, the reason, the step that is kept and the remedy.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        number = errors.find_errno(error)
        if number not in errors.DISK_ADVICE:
            raise
        path = error.filename if isinstance(error, OSError) else None
        raise errors.StorageError(
            f"the disk refused {path or workdir}: {os.strerror(number)}. "
            f"{kept_text(workdir)}; {errors.DISK_ADVICE[number]}, then repeat the "
            "same command."
        ) from error


def kept_text(workdir: Path) -> str:
    """Return a clause that says from which step the run can continue."""
    try:
        newest = checkpoints.find_newest(workdir)[0]
    except OSError as error:
        return f"Which step is kept could not be read ({error.strerror})"
    except errors.NoValidCheckpointError:
        return "No checkpoint is left that can be trusted"
    return "No checkpoint is there yet" if newest is None else f"Step {newest} is kept"
