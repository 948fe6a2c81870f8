"""Turn SIGTERM and Ctrl-C into a question the loop asks between two steps.

Of many processes any one may get the signal, while they are at different steps. Each of
them says how often its loop has asked; all stop at the next question after the largest
of these numbers, so all save the same step.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import jax

from jaxssl import errors
from jaxssl.distributed import coordination

POLL_SECONDS = 0.5
SAME_SECONDS = {signal.SIGTERM: 5.0, signal.SIGINT: 0.5}
"""So long after the first, another one is the same notice, sent twice.

Service managers signal every process of a job, and `jaxssl supervise` passes its own
on. SIGINT has less, because a person who presses Ctrl-C again means it.
"""

Received = Callable[[], str | None]
"""Returns what asked the run to stop here, or None; asked once a step."""


@contextlib.contextmanager
def watch() -> Iterator[Received]:
    """Catch the first SIGTERM or SIGINT inside the block; a later one ends at once.

    Within ``SAME_SECONDS`` of the first it is not a later one.
    Outside the main thread Python cannot catch signals: nothing is caught then.

    Yields:
      A function that returns the name of the signal that came, or None; where there are
      several processes, it does so for the same call in each of them.
    """
    with _catch() as received:
        if coordination.count() == 1:
            yield received
            return
        with _agree(received) as agreed:
            yield agreed


@contextlib.contextmanager
def _catch() -> Iterator[Received]:
    received: list[str] = []
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def note(number: int, frame: object) -> None:
        nonlocal first
        del frame
        if not received:
            first = time.monotonic()
            received.append(signal.Signals(number).name)
        elif time.monotonic() - first > SAME_SECONDS[signal.Signals(number)]:
            os._exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Vote:
    """How often the loop has asked, and at which question all stop.

    The lock is held while the processes agree, so that a loop that asks then waits for
    the answer; those that compute need not be asked.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = 0
        self.stop: int | None = None
        self.why = ""
        self.error: errors.PeerLostError | None = None

    def ask(self) -> str | None:
        """Return why all stop here, or None."""
        with self.lock:
            if self.error is not None:
                raise self.error
            self.asked += 1
            return self.why if self.asked == self.stop else None

    def settle(self, why: str) -> None:
        """Agree with the other processes on where to stop."""
        with self.lock:
            self.stop = coordination.gather("stop", self.asked, max) + 1
            self.why = why


@contextlib.contextmanager
def _agree(received: Received) -> Iterator[Received]:
    """Tell the others of a signal, hear of theirs, and stop where all do."""
    vote, done, key = _Vote(), threading.Event(), coordination.new_key("signal")

    def look() -> str | None:
        mine = received()
        if mine:
            coordination.put(key, f"{mine} on process {jax.process_index()}")
        return coordination.peek(key)

    def look_long() -> str | None:
        """Look again where a question failed: the network may stumble."""
        first = time.monotonic()
        while True:
            try:
                return look()
            except errors.PeerLostError:
                if time.monotonic() - first > coordination.patience() or done.is_set():
                    raise
            time.sleep(POLL_SECONDS)

    def follow() -> None:
        try:
            while not done.wait(POLL_SECONDS):
                if why := look_long():
                    vote.settle(why)
                    return
        except errors.PeerLostError as error:
            vote.error = error

    # Not joined: at the end of a run it may wait for processes that have left.
    threading.Thread(target=follow, name="preemption", daemon=True).start()
    try:
        yield vote.ask
    finally:
        done.set()
