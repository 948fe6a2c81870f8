"""Turn SIGTERM and Ctrl-C into a question the loop asks between two steps."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator


class PreemptedError(Exception):
    """A signal asked the run to stop; its state is saved.

    Attributes:
      step: the step that was saved.
      signal_name: ``SIGTERM`` or ``SIGINT``.
    """

    def __init__(self, step: int, signal_name: str):
        super().__init__(
            f"{signal_name} received: saved step {step}. "
            "Repeat the same command to go on from there."
        )
        self.step = step
        self.signal_name = signal_name


@contextlib.contextmanager
def watch() -> Iterator[Callable[[], str | None]]:
    """Catch the first SIGTERM or SIGINT inside the block; a second one ends at once.

    Outside the main thread Python cannot catch signals: nothing is caught then.

    Yields:
      A function that returns the name of the signal that came, or None.
    """
    received: list[str] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def note(number: int, frame: object) -> None:
        del frame
        if received:
            os._exit(128 + number)
        received.append(signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
