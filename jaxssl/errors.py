"""Every error of the package, with the exit code of the command that it ends.

When an `ExpectedError` ends a command, the command prints the message in one line on
standard error and returns the error's ``exit_code``. Any other exception is a bug and
ends the command with a traceback. `docs/exit_codes.md` says what to do about each code.
"""

import enum
import errno
import re
from typing import ClassVar


class ExitCode(enum.IntEnum):
    """How a command ended; scripts may rely on the numbers."""

    DONE = 0
    BUG = 1
    MISTAKE = 2
    PEER_LOST = 3
    NO_CHECKPOINT = 4
    HANG = 5
    NOT_FINITE = 6
    DRIFT = 7
    DIFFERENT = 8
    STORAGE = 74
    PREEMPTED = 75
    INTERRUPTED = 130


class ExpectedError(Exception):
    """An error that the package expects; its message is one line for the user.

    Attributes:
      exit_code: exit code of a command that this error ends.
    """

    exit_code: ClassVar[ExitCode]


class UserError(ExpectedError, ValueError):
    """A mistake in what the user asked for.

    The message names what was given, what is allowed and what to do. Callers in Python
    may catch a ValueError.
    """

    exit_code = ExitCode.MISTAKE


class DriftError(UserError):
    """A run was asked to continue with other settings, data or shapes than before.

    Nothing on disk was changed.
    """

    exit_code = ExitCode.DRIFT


class PeerLostError(ExpectedError, RuntimeError):
    """Another process of the run is lost, or did not come in time."""

    exit_code = ExitCode.PEER_LOST


class WorkerLostError(ExpectedError, RuntimeError):
    """A process that reads data was killed, for example because memory ran out."""

    exit_code = ExitCode.PEER_LOST


class NoValidCheckpointError(ExpectedError, RuntimeError):
    """There are checkpoints, and all of them are damaged."""

    exit_code = ExitCode.NO_CHECKPOINT


class NonFiniteError(ExpectedError, RuntimeError):
    """Losses or updates stay NaN or infinite; no good checkpoint was overwritten.

    Attributes:
      step: the first step whose loss, update or state was not finite.
    """

    exit_code = ExitCode.NOT_FINITE

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class StorageError(ExpectedError, RuntimeError):
    """The disk refused to write or to read a file; older checkpoints are intact."""

    exit_code = ExitCode.STORAGE


class PreemptedError(ExpectedError):
    """A signal asked the run to stop, and its state was saved.

    Attributes:
      step: the step that was saved.
      signal_name: ``SIGTERM`` or ``SIGINT``; with several processes also the process.
    """

    exit_code = ExitCode.PREEMPTED

    def __init__(self, step: int, signal_name: str):
        super().__init__(
            f"{signal_name} received: saved step {step}. "
            "Repeat the same command to go on from there."
        )
        self.step = step
        self.signal_name = signal_name


class ChildFailedError(ExpectedError, RuntimeError):
    """A process that a command started failed.

    Attributes:
      exit_code: exit code of the process; the command ends with the same code.
    """

    exit_code = ExitCode.BUG

    def __init__(self, exit_code: int, message: str):
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class BadRecord(ValueError):  # noqa: N818 (it names the record, not the mistake)
    """A record cannot be decoded; the message says why, without the record's name.

    This error ends no command: the input pipeline counts the record and reads the next.
    """


# What to do about an error of the disk, by the system's number of the error. Errors
# with other numbers come from what the user asked for.
DISK_ADVICE = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "mount the disk for writing",
    errno.ESTALE: "mount the disk again",
    errno.ENOTCONN: "mount the disk again",
    errno.EIO: "look at the disk's health (dmesg), or train on another disk",
}

# TensorStore ends its messages with the system's number of the error.
_TENSORSTORE_ERRNO = re.compile(r"os_error_code='(\d+)'")


def find_errno(error: OSError | ValueError) -> int | None:
    """Return the system's number of an error; TensorStore writes it in its message."""
    if isinstance(error, OSError):
        return error.errno
    match = _TENSORSTORE_ERRNO.search(str(error))
    return int(match[1]) if match else None
