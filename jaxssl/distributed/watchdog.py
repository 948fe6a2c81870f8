"""A thread that ends a run which makes no progress, and tells who is behind.

A process that is alive but stuck, in a read from a dead disk for example, makes all the
others wait in their next collective, for ever and without a word. So every process
notes what it does. Without a new note for too long it writes the stacks of its threads
to ``hang-<process>.json`` and ends; a supervisor may start it again.
"""

import collections
import contextlib
import json
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from jaxssl import atomic_write
from jaxssl.distributed import coordination, peers
from jaxssl.errors import ExitCode

FIRST_SECONDS = 1800.0
"""Allowed for a step while none was measured; paper sizes are slow on a CPU."""

LONG_SECONDS = 7200
"""Allowed for what is long on purpose: compiling, evaluating, saving."""

WRITE_SECONDS = 10.0
"""For the last words; a disk that takes longer gets none."""

TIMES_MEDIAN = 20.0
MEASURED = 101
ON_TIME = 0.1
"""The part of its limit in which a step asks nobody: most of them are done by then."""


class Watchdog:
    """What this process does, since when, and how long its steps take.

    Attributes:
      step: the last step that was begun.
      doing: what goes on now, in words that follow "is".
      long: whether it may take long.
      idle: seconds since the last note.
    """

    def __init__(self, least: int):
        """Allow ``least`` seconds for any step."""
        self.step, self.doing, self.long, self.idle = 0, "starting", True, 0.0
        self._least = float(least)
        self._seconds: collections.deque[float] = collections.deque(maxlen=MEASURED)
        self._began = self._noted = time.monotonic()
        self._ticks = 0

    def note(self, doing: str, *, step: int | None = None, long: bool = False) -> None:
        """Say what comes next.

        Args:
          doing: in words that follow "is".
          step: of a step that begins now.
          long: it may take long.
        """
        now = time.monotonic()
        if self.long:  # What was long on purpose is no part of the step.
            self._began += now - self._noted
        if step is not None:
            if self.step:
                self._seconds.append(now - self._began)
            self._began, self.step = now, step
        self.doing, self.long, self.idle = doing, long, 0.0
        self._noted = now

    def limit(self) -> float:
        """Return how many seconds may pass without a note."""
        if self.long:
            return float(LONG_SECONDS)
        if not self._seconds:
            return max(self._least, FIRST_SECONDS)
        return max(self._least, TIMES_MEDIAN * statistics.median(self._seconds))

    def describe(self) -> dict[str, Any]:
        """Return the note that the other processes may read, never the same twice."""
        self._ticks += 1
        told = {"step": self.step, "doing": self.doing, "long": self.long}
        return {**told, "tick": self._ticks}


@contextlib.contextmanager
def watch(workdir: Path, least: int) -> Iterator[Watchdog]:
    """Watch the block; end the process if it makes no progress.

    Args:
      workdir: the run's folder, for ``hang-<process>.json``.
      least: seconds without progress that any step may take.

    Yields:
      The watchdog; it wants to hear what goes on.
    """
    dog, done = Watchdog(least), threading.Event()

    def follow() -> None:
        last = time.monotonic()
        while not done.wait(coordination.TICK):
            now = time.monotonic()
            _look(dog, now - last, workdir)
            last = now

    thread = threading.Thread(target=follow, name="watchdog", daemon=True)
    thread.start()
    try:
        yield dog
    finally:
        done.set()
        thread.join()


def _look(dog: Watchdog, seconds: float, workdir: Path) -> None:
    """Tell the others what goes on, so long after the last time, and end a hang."""
    # A process that was stopped and goes on has not been stuck.
    dog.idle += min(seconds, 2 * coordination.TICK)
    if coordination.count() > 1:
        peers.note(dog.describe())
    # The limit begins when nobody takes long any more, as the step may begin only then.
    # Who takes long itself is not excused: all of them may hang in the same save.
    late = dog.idle > ON_TIME * dog.limit()
    if late and not dog.long and _others_take_long():
        dog.idle = 0.0
    if dog.idle > dog.limit():
        _bark(dog, workdir)


def _others_take_long() -> bool:
    """Say whether another process does what may take long, so that this one waits."""
    if coordination.count() == 1:
        return False
    me = jax.process_index()
    return any(told["long"] for i, told in peers.read_notes().items() if i != me)


def _bark(dog: Watchdog, workdir: Path) -> None:
    """Write down where each thread is, and end."""
    words = f"no progress for {dog.idle:.0f} s at step {dog.step}, {dog.doing}"
    behind = peers.find_behind() if coordination.count() > 1 else ""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told = {
        **dog.describe(),
        "idle_seconds": round(dog.idle, 1),
        "limit_seconds": round(dog.limit(), 1),
        "behind": behind.removeprefix("; "),
        "stacks": {
            names.get(ident, str(ident)): traceback.format_stack(frame)
            for ident, frame in sys._current_frames().items()
        },
    }
    path = workdir / f"hang-{jax.process_index()}.json"
    written = _write(path, (json.dumps(told, indent=2) + "\n").encode())
    more = f" {path} has the stacks of all threads." if written else ""
    coordination.end(ExitCode.HANG, f"{words}{behind}.{more}")


def _write(path: Path, data: bytes) -> bool:
    """Write a file and say whether it is there; the disk may be what hangs."""
    done = []

    def write() -> None:
        with contextlib.suppress(OSError):
            atomic_write.write(path, data)
            done.append(path)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(WRITE_SECONDS)
    return bool(done)
