"""Replace a file so that a reader, or a crash, sees the old one or the new one."""

import os
import tempfile
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``; both the bytes and the name reach the disk.

    Args:
      path: the file; its folder must exist.
      data: the whole content.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
