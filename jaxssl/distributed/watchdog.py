"""A thread that ends a run without progress and names the process that is behind.

A process that is alive but stuck, for example in a read from a dead disk, keeps all
other processes waiting in their next collective operation, without any message. So
every process notes what it does. If a process makes no new note for too long, the
watchdog writes the stacks of its threads to ``hang-<process>.json`` and ends it. A
supervisor may start the process again.
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

# Seconds that the first step may take, because no step has been measured yet. A step of
# the paper's size is slow on a CPU.
FIRST_SECONDS = 1800.0

# Seconds that a long phase may take: compiling, evaluating or saving.
LONG_SECONDS = 7200

# Seconds that writing the stacks may take. A disk that takes longer may be the reason
# of the hang; the process then ends without the file.
WRITE_SECONDS = 10.0

# A step may take this multiple of the median of the last `MEASURED` steps.
TIMES_MEDIAN = 20.0
MEASURED = 101

# Below this fraction of the limit the notes of other processes are not read. Most steps
# end earlier, and reading costs a request to the coordination service.
QUIET_FRACTION = 0.1


class Watchdog:
    """What this process does, since when, and how long its steps take.

    Attributes:
      step: the last step that was begun.
      doing: the current phase, in words that follow "is".
      long: whether the current phase may take `LONG_SECONDS`.
      idle: seconds since the last note.
    """

    def __init__(self, hang_seconds: int):
        """Allow at least ``hang_seconds`` for any step."""
        self.step, self.doing, self.long, self.idle = 0, "starting", True, 0.0
        self._hang_seconds = float(hang_seconds)
        self._seconds: collections.deque[float] = collections.deque(maxlen=MEASURED)
        self._began = self._noted = time.monotonic()
        self._ticks = 0

    def note(self, doing: str, *, step: int | None = None, long: bool = False) -> None:
        """Note that a new phase begins.

        Args:
          doing: the phase, in words that follow "is".
          step: the number of the step, if a step begins with this phase.
          long: whether the phase may take `LONG_SECONDS`.
        """
        now = time.monotonic()
        if self.long:  # The duration of a step does not include long phases.
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
        limit = FIRST_SECONDS
        if self._seconds:
            limit = TIMES_MEDIAN * statistics.median(self._seconds)
        return max(self._hang_seconds, limit)

    def describe(self) -> dict[str, Any]:
        """Return the note for the other processes; ``tick`` makes every note new."""
        self._ticks += 1
        phase = {"step": self.step, "doing": self.doing, "long": self.long}
        return {**phase, "tick": self._ticks}


@contextlib.contextmanager
def watch(workdir: Path, hang_seconds: int) -> Iterator[Watchdog]:
    """Watch the block; end the process if it makes no progress.

    Args:
      workdir: the run's folder, for ``hang-<process>.json``.
      hang_seconds: seconds without progress that any step may take.

    Yields:
      The watchdog; the caller notes each phase there.
    """
    dog, done = Watchdog(hang_seconds), threading.Event()

    def follow() -> None:
        last = time.monotonic()
        while not done.wait(coordination.TICK):
            now = time.monotonic()
            _check_progress(dog, now - last, workdir)
            last = now

    thread = threading.Thread(target=follow, name="watchdog", daemon=True)
    thread.start()
    try:
        yield dog
    finally:
        done.set()
        thread.join()


def _check_progress(dog: Watchdog, seconds: float, workdir: Path) -> None:
    """Publish the note of this process, and end the process if it hangs.

    Args:
      dog: the watchdog of this process.
      seconds: time since the last check.
      workdir: the run's folder.
    """
    # The time in which this process was stopped (SIGSTOP) is not counted as a hang.
    dog.idle += min(seconds, 2 * coordination.TICK)
    if coordination.count() > 1:
        peers.note(dog.describe())
    # Restart the clock while another process is in a long phase, because the step of
    # this process may begin only afterwards. A process in a long phase itself gets no
    # extension: all processes may hang in the same save.
    late = dog.idle > QUIET_FRACTION * dog.limit()
    if late and not dog.long and _is_peer_in_long_phase():
        dog.idle = 0.0
    if dog.idle > dog.limit():
        _end_hang(dog, workdir)


def _is_peer_in_long_phase() -> bool:
    if coordination.count() == 1:
        return False
    own = jax.process_index()
    return any(note["long"] for i, note in peers.read_notes().items() if i != own)


def _end_hang(dog: Watchdog, workdir: Path) -> None:
    """Write the stack of each thread to a file, and end this process."""
    behind = peers.find_behind() if coordination.count() > 1 else ""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    report = {
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
    line = f"no progress for {dog.idle:.0f} s at step {dog.step}, {dog.doing}{behind}."
    if _write_in_time(path, (json.dumps(report, indent=2) + "\n").encode()):
        line += f" {path} has the stacks of all threads."
    coordination.end(ExitCode.HANG, line)


def _write_in_time(path: Path, data: bytes) -> bool:
    """Write a file in a thread; return whether `WRITE_SECONDS` were enough."""
    written = []

    def write() -> None:
        with contextlib.suppress(OSError):
            atomic_write.write(path, data)
            written.append(path)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    writer.join(WRITE_SECONDS)
    return bool(written)
