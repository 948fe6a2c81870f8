"""Turn SIGTERM and Ctrl-C into a question that the loop asks between two steps.

Any one of several processes may receive the signal, and the processes may be at
different steps. So each process counts how often its loop has asked the question. When
a signal comes, the processes exchange their counts, and all of them stop at the
question after the largest count. So all of them save the same step.
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

# Seconds between two looks for a signal that another process received.
POLL_SECONDS = 0.5

# A second signal within this number of seconds after the first counts as a copy of the
# same notice: service managers signal every process of a job, and `jaxssl supervise`
# passes its own signal on. The time of SIGINT is shorter, because a person who presses
# Ctrl-C a second time wants to end the run at once.
SAME_SECONDS = {signal.SIGTERM: 5.0, signal.SIGINT: 0.5}

# Returns the name of the signal that asked the run to stop, or None. The loop calls it
# once a step.
Received = Callable[[], str | None]


@contextlib.contextmanager
def watch() -> Iterator[Received]:
    """Catch the first SIGTERM or SIGINT in the block; a second one ends the process.

    A second signal within `SAME_SECONDS` is ignored. Outside of the main thread Python
    cannot catch signals, so there nothing is caught.

    Yields:
      A function that returns the name of the signal, or None. With several processes
      it returns the name at the same call in each of them.
    """
    with _catch() as received:
        if coordination.count() == 1:
            yield received
            return
        with _share(received) as agreed:
            yield agreed


@contextlib.contextmanager
def _catch() -> Iterator[Received]:
    """Catch the signals that this process receives itself."""
    received: list[str] = []
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def handle(number: int, frame: object) -> None:
        nonlocal first
        del frame
        if not received:
            first = time.monotonic()
            received.append(signal.Signals(number).name)
        elif time.monotonic() - first > SAME_SECONDS[signal.Signals(number)]:
            os._exit(128 + number)

    before = {number: signal.signal(number, handle) for number in SAME_SECONDS}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Vote:
    """How often the loop has asked, and at which question all processes stop.

    The lock is held while the processes exchange their counts: a loop that asks
    meanwhile waits for the result, and a loop that computes is not disturbed.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = 0
        self.stop: int | None = None
        self.reason = ""
        self.error: errors.PeerLostError | None = None

    def ask(self) -> str | None:
        """Return the reason if all processes stop at this question, else None."""
        with self.lock:
            if self.error is not None:
                raise self.error
            self.asked += 1
            return self.reason if self.asked == self.stop else None

    def settle(self, reason: str) -> None:
        """Agree with the other processes on the question at which all stop."""
        with self.lock:
            self.stop = coordination.gather("stop", self.asked, max) + 1
            self.reason = reason


@contextlib.contextmanager
def _share(received: Received) -> Iterator[Received]:
    """Share signals with the other processes, and stop where all of them stop."""
    vote, done, key = _Vote(), threading.Event(), coordination.new_key("signal")

    def look() -> str | None:
        if name := received():
            coordination.put(key, f"{name} on process {jax.process_index()}")
        return coordination.peek(key)

    def look_again() -> str | None:
        """Look, and repeat a look that failed: the network may fail for a moment."""
        first = time.monotonic()
        while True:
            try:
                return look()
            except errors.PeerLostError:
                waited = time.monotonic() - first
                if waited > coordination.peer_seconds() or done.is_set():
                    raise
            time.sleep(POLL_SECONDS)

    def follow() -> None:
        try:
            while not done.wait(POLL_SECONDS):
                if reason := look_again():
                    vote.settle(reason)
                    return
        except errors.PeerLostError as error:
            vote.error = error

    # The thread is not joined: at the end of a run it may wait for a process that left.
    threading.Thread(target=follow, name="preemption", daemon=True).start()
    try:
        yield vote.ask
    finally:
        done.set()
