"""The lock of a run's folder, and whether all processes see the same folder."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from jaxssl import errors, safe_files
from jaxssl.distributed import coordination
from jaxssl.errors import UserError
from jaxssl.safe_files import UnreadableFile

LOCK = ".lock"

# Seconds to wait for a file that another host wrote: a network disk shows it late.
SHARED_SECONDS = 30


@contextlib.contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Make and lock the run's folder; the system removes the lock of a dead process.

    Raises:
      UserError: the folder cannot be made, or another process trains in it.
      OSError: the disk is full, or cannot be written.
    """
    path = workdir / LOCK
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = safe_files.open_regular(path, write=True)
    except UnreadableFile as error:
        raise UserError(f"--workdir: {path} {error}; remove it.") from error
    except OSError as error:
        if error.errno in errors.DISK_ADVICE:
            raise
        raise UserError(f"--workdir: cannot write to {workdir}: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(100).decode(errors="replace").strip()
            raise UserError(
                f"--workdir: {workdir} is being trained by "
                f"{holder or 'another process'}; wait for it, stop it, or give another "
                "--workdir."
            ) from None
        except OSError as error:
            if error.errno in errors.DISK_ADVICE:
                raise
            raise UserError(
                f"--workdir: the disk of {workdir} has no locks ({error.strerror}); "
                "mount it with them (docs/pods.md), or give a folder on another disk."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield


def check_shared(workdir: Path) -> None:
    """Raise on every process unless all see the folder that process 0 has locked.

    Raises:
      UserError: names the first process that sees another folder.
    """
    if coordination.count() == 1:
        return
    holder = coordination.decide("holder", lambda: _read_lock(workdir))

    def check(folders: list[tuple[str, bool]]) -> None:
        apart = [i for i, (_, shared) in enumerate(folders) if not shared]
        if apart:
            first = f"process {apart[0]}" + " and others" * (len(apart) > 1)
            raise UserError(
                f"--workdir: {folders[apart[0]][0]} on {first} is another folder than "
                f"{folders[0][0]} on process 0; give one on a disk that all of them "
                "share."
            )

    folder = str(workdir.absolute()), _wait_for_holder(workdir, holder)
    coordination.gather("shared", folder, check)


def _wait_for_holder(workdir: Path, holder: str) -> bool:
    """Return whether the lock names this holder within `SHARED_SECONDS`."""
    for _ in range(SHARED_SECONDS):
        with contextlib.suppress(FileNotFoundError, UnreadableFile):
            if _read_lock(workdir) == holder:
                return True
        time.sleep(1.0)
    return False


def _read_lock(workdir: Path) -> str:
    data = safe_files.read_bytes(workdir / LOCK, safe_files.JSON_BYTES)
    return data.decode(errors="replace")
