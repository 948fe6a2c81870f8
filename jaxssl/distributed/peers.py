"""What the other processes do, and whether one of them is why jax failed."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxssl import errors
from jaxssl.distributed import coordination

NOTES = "jaxssl/note/"
LEFT = "jaxssl/left/"

LOST = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|socket closed|broken pipe|heartbeat"
    r"|coordination (service|agent)|barrier|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED",
    re.I,
)
"""What jax says when another process is gone; it has no type of its own for that."""


def note(words: Mapping[str, Any]) -> None:
    """Tell the others what this process does; errors are met where one waits."""
    with contextlib.suppress(errors.PeerLostError):
        coordination.put(f"{NOTES}{jax.process_index()}", dict(words))


def read_notes() -> dict[int, dict[str, Any]]:
    """Return the last note of each process; none where the service is gone."""
    return _by_process(NOTES)


def _by_process(prefix: str) -> dict[int, Any]:
    told = coordination.read_all(prefix)
    return {int(key.rsplit("/", 1)[1]): value for key, value in told.items()}


def find_behind() -> str:
    """Say which processes left, fell silent or are behind; takes two ticks.

    Returns:
      Words that follow a sentence's semicolon, or nothing.
    """
    before = read_notes()
    time.sleep(2 * coordination.TICK)
    after, left = read_notes(), _by_process(LEFT)
    last = max((told["step"] for told in after.values()), default=0)
    words = [f"process {i} left: {why}" for i, why in sorted(left.items())]
    for i, told in sorted(after.items()):
        silent = told == before.get(i) and i != jax.process_index()
        if i not in left and (silent or told["step"] < last):
            state = "fell silent" if silent else "is behind"
            words.append(f"process {i} {state} at step {told['step']}, {told['doing']}")
    return f"; {', '.join(words)}" if words else ""


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Tell the others why this process leaves, and what it means if they did.

    Raises:
      PeerLostError: jax failed in the block because another process is gone.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if coordination.count() == 1 or not (
            _is_jaxs(error) and LOST.search(str(error))
        ):
            _say_goodbye(error)
            raise
        raise errors.PeerLostError(
            f"another process is lost{find_behind()}. {coordination.AGAIN} "
            f"(jax: {coordination.first_line(error)})"
        ) from error


def _is_jaxs(error: Exception) -> bool:
    """Say whether an error may be jax's own; it does not always have a type for that.

    Waiting for an array, jax raises a plain ValueError. Orbax makes a TimeoutError of
    a barrier that failed. The system's own errors, of a network disk, have a number,
    which TensorStore writes into the message of a plain ValueError.
    """
    if isinstance(error, OSError | ValueError) and errors.find_errno(error) is not None:
        return False
    if isinstance(error, TimeoutError):
        return True
    return isinstance(error, jax.errors.JaxRuntimeError) or type(error) is ValueError


def _say_goodbye(error: Exception) -> None:
    if coordination.count() > 1:
        words = f"{type(error).__name__}: {coordination.first_line(error)}"
        with contextlib.suppress(errors.PeerLostError):
            coordination.put(f"{LEFT}{jax.process_index()}", words)
