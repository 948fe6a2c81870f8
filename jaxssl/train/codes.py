"""The exit codes of ``jaxssl``: `docs/exit_codes.md` says what to do about each."""

import enum


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
