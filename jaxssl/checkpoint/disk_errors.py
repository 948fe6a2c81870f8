"""When the disk refuses: one error that says what is left and what to do."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxssl import errors
from jaxssl.checkpoint import store as checkpoints


@contextlib.contextmanager
def watch(workdir: Path) -> Iterator[None]:
    """Turn a full, read-only or failing disk, in the block, into one clear error.

    Args:
      workdir: the run's folder.

    Raises:
      StorageError: names the place, the reason, what is kept and what helps.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        number = errors.find_errno(error)
        if number not in errors.DISK_ADVICE:
            raise
        named = error.filename if isinstance(error, OSError) else None
        raise errors.StorageError(
            f"the disk refused {named or workdir}: {os.strerror(number)}. "
            f"{kept_text(workdir)}; {errors.DISK_ADVICE[number]}, then repeat the "
            "same command."
        ) from error


def kept_text(workdir: Path) -> str:
    """Say which step a run would go on from, to somebody who hears of an error."""
    try:
        newest = checkpoints.find_newest(workdir)[0]
    except OSError as error:
        return f"Which step is kept could not be read ({error.strerror})"
    except errors.NoValidCheckpointError:
        return "No checkpoint is left that can be trusted"
    return "No checkpoint is there yet" if newest is None else f"Step {newest} is kept"
