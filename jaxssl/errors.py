"""Every error of the package, with the exit code that the command ends with.

A command that meets an `ExpectedError` prints its message in one line on standard error
and ends with its ``exit_code``. Any other exception is a bug and ends with a traceback.
`docs/exit_codes.md` says what to do about each code.
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
    """Something that is known to go wrong; its message is one line for the user.

    Attributes:
      exit_code: of the command.
    """

    exit_code: ClassVar[ExitCode]


class UserError(ExpectedError, ValueError):
    """A mistake in what the user asked for.

    The message names what was given, what is allowed and what to do. From Python it is
    an ordinary ValueError.
    """

    exit_code = ExitCode.MISTAKE


class DriftError(UserError):
    """A run was asked to go on with other settings, data or shapes than it began with.

    Nothing on disk was changed.
    """

    exit_code = ExitCode.DRIFT


class PeerLostError(ExpectedError, RuntimeError):
    """Another process of the run is gone, or did not come in time."""

    exit_code = ExitCode.PEER_LOST


class WorkerLostError(ExpectedError, RuntimeError):
    """A process that reads data was killed, as the system does when memory runs out."""

    exit_code = ExitCode.PEER_LOST


class NoValidCheckpointError(ExpectedError, RuntimeError):
    """There are checkpoints, and none of them can be trusted."""

    exit_code = ExitCode.NO_CHECKPOINT


class NonFiniteError(ExpectedError, RuntimeError):
    """Losses or updates stay NaN or infinite; no good checkpoint was overwritten.

    Attributes:
      step: the first of the steps that made no update.
    """

    exit_code = ExitCode.NOT_FINITE

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class StorageError(ExpectedError, RuntimeError):
    """The disk refused what a run had to write or read; what was there is intact."""

    exit_code = ExitCode.STORAGE


class PreemptedError(ExpectedError):
    """A signal asked the run to stop; its state is saved.

    Attributes:
      step: the step that was saved.
      signal_name: ``SIGTERM`` or ``SIGINT``, and on which of several processes.
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
    """A process that a command started ended as it should not.

    Attributes:
      exit_code: that of the process; the command ends with it, too.
    """

    exit_code = ExitCode.BUG

    def __init__(self, exit_code: int, message: str):
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]


class BadRecord(ValueError):  # noqa: N818 (it names the record, not the mistake)
    """One record cannot be decoded; the message says why, the source knows its name.

    It ends no command: the input pipeline counts the record and reads the next one.
    """


DISK_ADVICE = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "mount the disk for writing",
    errno.ESTALE: "mount the disk again",
    errno.ENOTCONN: "mount the disk again",
    errno.EIO: "look at the disk's health (dmesg), or train on another disk",
}
"""Errors that come from the disk and not from what was asked, and what helps."""

_TENSORSTORE_ERRNO = re.compile(r"os_error_code='(\d+)'")
"""TensorStore ends its messages with the number of the system's error."""


def find_errno(error: OSError | ValueError) -> int | None:
    """Return the system's number of an error, also of one that TensorStore worded."""
    if isinstance(error, OSError):
        return error.errno
    match = _TENSORSTORE_ERRNO.search(str(error))
    return int(match[1]) if match else None
