"""When the disk refuses: one error that says what is left and what to do."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from jaxssl.train import checkpoint, files

REFUSALS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "mount the disk for writing",
    errno.ESTALE: "mount the disk again",
    errno.ENOTCONN: "mount the disk again",
    errno.EIO: "look at the disk's health (dmesg), or train on another disk",
}
"""Errors that come from the disk and not from what was asked, and what helps."""


class StorageError(RuntimeError):
    """The disk refused what a run had to write or read; what was there is intact."""


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
        number = files.find_number(error)
        if number not in REFUSALS:
            raise
        named = error.filename if isinstance(error, OSError) else None
        raise StorageError(
            f"the disk refused {named or workdir}: {os.strerror(number)}. "
            f"{kept_text(workdir)}; {REFUSALS[number]}, then repeat the "
            "same command."
        ) from error


def kept_text(workdir: Path) -> str:
    """Say which step a run would go on from, to somebody who hears of an error."""
    try:
        newest = checkpoint.find_newest(workdir)[0]
    except OSError as error:
        return f"Which step is kept could not be read ({error.strerror})"
    except checkpoint.NoValidCheckpointError:
        return "No checkpoint is left that can be trusted"
    return "No checkpoint is there yet" if newest is None else f"Step {newest} is kept"
