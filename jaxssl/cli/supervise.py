"""Run a training command, and start it again after a fault that may pass.

These are the exit codes 3, 5, 75, 134, 137 and 143: another process was lost, no
progress, preempted, aborted, killed, stopped before it trained. SIGTERM and Ctrl-C are
passed on and end the supervisor, too. The exit code is that of the command.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from absl import flags

from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli.verb import Flag, Verb, get
from jaxssl.errors import ExitCode, UserError
from jaxssl.text import printable

# Exit codes after which the same command can go on. As in a shell, 128 + n stands for
# an end by signal n.
RESTART = frozenset(
    {
        ExitCode.PEER_LOST,
        ExitCode.HANG,
        ExitCode.PREEMPTED,
        128 + signal.SIGABRT,  # jax aborts when another process is gone.
        128 + signal.SIGKILL,
        128 + signal.SIGTERM,  # It came before training began; later the code is 75.
    }
)

# Longest wait before a restart, in seconds.
LONGEST_WAIT = 300

# A program that becomes the command, which then gets SIGTERM if the supervisor dies.
# A function called between fork and exec could do this without another program, but
# may hang where jax has started threads.
END_WITH_PARENT = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG of sys/prctl.h.
os.execvp(sys.argv[1], sys.argv[1:])
"""


FLAGS = (
    Flag(
        "retries",
        int,
        3,
        "give up after this many restarts without a new step",
        (0, 1_000_000),
    ),
    Flag(
        "wait_seconds",
        int,
        5,
        "wait before the first restart; doubled each time",
        (0, 1_000_000),
    ),
)


def _supervise(values: flags.FlagValues, rest: list[str]) -> int:
    if not rest:
        raise UserError("the command is missing; write: jaxssl supervise -- COMMAND")
    workdir = _find_workdir(rest)
    stopped: list[int] = []
    waiting: list[int] = []
    child: list[subprocess.Popen] = []

    def forward(number: int, frame: object) -> None:
        del frame
        stopped.append(number)
        waiting.append(number)
        _deliver(child, waiting)

    before = {n: signal.signal(n, forward) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        return _repeat(
            lambda: _run(rest, child, waiting),
            lambda: max(checkpoints.steps(workdir), default=-1),
            stopped,
            retries=get(values, "retries"),
            wait_seconds=get(values, "wait_seconds"),
        )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _find_workdir(command: list[str]) -> Path:
    """Return the workdir of a training command; its checkpoints show the progress.

    Raises:
      UserError: the command has no workdir, or the workdir is a file.
    """
    for word, following in zip(command, [*command[1:], ""], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "workdir":
            workdir = Path(value if equals else following)
            if workdir.exists() and not workdir.is_dir():
                raise UserError(f"--workdir: {workdir} is a file; give a folder.")
            return workdir
    raise UserError(
        "the command has no --workdir, whose checkpoints would show its progress; "
        "supervise is for jaxssl train."
    )


def _repeat(
    run: Callable[[], int],
    newest: Callable[[], int],
    stopped: list[int],
    *,
    retries: int,
    wait_seconds: int,
) -> int:
    """Run a command until no restart is due; return its last exit code.

    Args:
      run: runs the command once and returns its exit code.
      newest: returns the step of the newest checkpoint, or -1.
      stopped: signals that this process received; one of them ends the restarts.
      retries: restarts without a new step before giving up.
      wait_seconds: wait before the first restart.
    """
    tries = 0
    while True:
        start = newest()
        code = run()
        if stopped or code not in RESTART:
            return code
        tries = 0 if newest() > start else tries + 1
        if tries > retries:
            _say(f"code {code} again; no new step in {tries} starts; giving up.")
            return code
        seconds = seconds_before(tries, wait_seconds)
        _say(f"code {code}; step {newest()} is kept; again in {seconds} s.")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if stopped:
                return code
            time.sleep(0.1)


def seconds_before(tries: int, first: int) -> int:
    """Return the seconds to wait after ``tries`` starts in a row without a new step."""
    return min(first * 2 ** max(tries - 1, 0), LONGEST_WAIT)


def _say(line: str) -> None:
    print(f"supervise: {printable(line)}", file=sys.stderr, flush=True)


def _deliver(child: list[subprocess.Popen], waiting: list[int]) -> None:
    """Send the child each waiting signal once.

    The handler of a signal calls this function, too, maybe in the middle of a call.
    """
    while child and waiting:
        with contextlib.suppress(IndexError):  # The handler has sent the last one.
            child[0].send_signal(waiting.pop(0))


def _run(command: list[str], child: list[subprocess.Popen], waiting: list[int]) -> int:
    """Run the command once, in a process group of which nothing is left behind."""
    if command[0] == "jaxssl":  # The jaxssl of this process, not the first one on PATH.
        command = [sys.executable, "-m", "jaxssl.cli", *command[1:]]
    if shutil.which(command[0]) is None:
        raise UserError(f"{command[0]} cannot be started: there is no such program.")
    argv = [sys.executable, "-c", END_WITH_PARENT, *command]
    process = subprocess.Popen(argv, start_new_session=True)
    child.append(process)
    _deliver(child, waiting)  # Signals that came before the child was there.
    code = process.wait()
    child.remove(process)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # Workers that the command left.
    return 128 - code if code < 0 else code


VERB = Verb(
    _supervise,
    FLAGS,
    "supervise [--retries=3] -- jaxssl train --config=FILE --workdir=DIR [...]",
    __doc__,
)
