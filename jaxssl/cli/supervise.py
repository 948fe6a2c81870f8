"""``jaxssl supervise``: start a command again when that is all it needs."""

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
from jaxssl.cli.verb import Verb, get
from jaxssl.errors import ExitCode, UserError

RESTART = frozenset(
    {
        ExitCode.PEER_LOST,
        ExitCode.HANG,
        ExitCode.PREEMPTED,
        128 + signal.SIGABRT,  # jax's client aborts when another process is gone.
        128 + signal.SIGKILL,
        128 + signal.SIGTERM,  # Before training began: later it has code 75.
    }
)
"""Codes after which the same command can go on; a shell's number for a signal."""

LONGEST_WAIT = 300

END_WITH_PARENT = """\
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG of sys/prctl.h.
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Becomes the command, which gets SIGTERM if the supervisor dies.

It is a program of its own because a function that is called between fork and exec may
hang where jax has started threads.
"""


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "retries",
        3,
        "give up after so many restarts without a new step",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "wait_seconds",
        5,
        "before the first restart; then twice as long each",
        lower_bound=0,
        flag_values=values,
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


def _find_workdir(words: list[str]) -> Path:
    """Return the run's folder, whose checkpoints show progress."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and name == "workdir":
            found = Path(value if equals else following)
            if found.exists() and not found.is_dir():
                raise UserError(f"--workdir: {found} is a file; give a folder.")
            return found
    raise UserError(
        "the command has no --workdir, where its progress could be seen; "
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
    """Run until it is done, hopeless, or a signal came; return the last code."""
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
    """Return how long to wait after ``tries`` starts in a row without a new step."""
    return min(first * 2 ** max(tries - 1, 0), LONGEST_WAIT)


def _say(line: str) -> None:
    print(f"supervise: {line}", file=sys.stderr, flush=True)


def _deliver(child: list[subprocess.Popen], waiting: list[int]) -> None:
    """Send the child each signal once, also if the next one comes in between."""
    while child and waiting:
        with contextlib.suppress(IndexError):  # The one that came took it.
            child[0].send_signal(waiting.pop(0))


def _run(words: list[str], child: list[subprocess.Popen], waiting: list[int]) -> int:
    """Run the command once, in a group of its own; nothing of it is left behind."""
    if words[0] == "jaxssl":  # The one this process runs, wherever PATH leads.
        words = [sys.executable, "-m", "jaxssl.cli", *words[1:]]
    if shutil.which(words[0]) is None:
        raise UserError(f"{words[0]} cannot be started: there is no such program.")
    command = [sys.executable, "-c", END_WITH_PARENT, *words]
    process = subprocess.Popen(command, start_new_session=True)
    child.append(process)
    _deliver(child, waiting)  # What came before there was anyone to forward it to.
    code = process.wait()
    child.remove(process)
    try:
        os.killpg(process.pid, signal.SIGKILL)  # Its workers, if it left any.
    except ProcessLookupError:
        pass
    return 128 - code if code < 0 else code


VERB = Verb(
    _supervise,
    _define,
    "supervise [--retries=3] -- jaxssl train --config=FILE --workdir=DIR [...]",
    """\
Run a training command and start it again after codes 3, 5, 75, 134, 137 and 143:
another process was lost, no progress, preempted, aborted, killed, stopped before it
trained. SIGTERM and Ctrl-C are passed on and end the supervisor as well. The exit code
is that of the command.
""",
)
