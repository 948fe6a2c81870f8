"""What the other processes do, and whether jax failed because one of them is lost."""

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxssl import errors, text
from jaxssl.distributed import coordination

# Prefixes of the keys of the coordination service; the process index follows.
NOTES = "jaxssl/note/"
LEFT = "jaxssl/left/"

# What jax writes when another process is lost. jax has no exception type for this case.
LOST = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|socket closed|broken pipe|heartbeat"
    r"|coordination (service|agent)|barrier|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED",
    re.I,
)


def note(content: Mapping[str, Any]) -> None:
    """Publish what this process does.

    A failure is ignored here: it is raised where this process waits for another one.
    """
    with contextlib.suppress(errors.PeerLostError):
        coordination.put(f"{NOTES}{jax.process_index()}", dict(content))


def read_notes() -> dict[int, dict[str, Any]]:
    """Return the last note of each process; empty if the service is gone."""
    return _read_by_process(NOTES)


def _read_by_process(prefix: str) -> dict[int, Any]:
    values = coordination.read_all(prefix)
    return {int(key.rsplit("/", 1)[1]): value for key, value in values.items()}


def add_up(name: str, own: int) -> int:
    """Return the sum of a count over all processes, without waiting for any of them.

    Args:
      name: of the count.
      own: the count of this process.

    Returns:
      The sum of ``own`` and what each other process published last.
    """
    if coordination.count() == 1:
        return own
    prefix = f"jaxssl/count/{name}/"
    with contextlib.suppress(errors.PeerLostError):
        coordination.put(f"{prefix}{jax.process_index()}", own)
    others = _read_by_process(prefix) | {jax.process_index(): own}
    return sum(others.values())


def find_behind() -> str:
    """Describe the processes that left, fell silent or are behind; takes two ticks.

    Returns:
      A clause that begins with a semicolon, or an empty string.
    """
    before = read_notes()
    time.sleep(2 * coordination.TICK)
    notes, left = read_notes(), _read_by_process(LEFT)
    newest = max((entry["step"] for entry in notes.values()), default=0)
    clauses = [f"process {i} left: {reason}" for i, reason in sorted(left.items())]
    for i, entry in sorted(notes.items()):
        silent = entry == before.get(i) and i != jax.process_index()
        if i not in left and (silent or entry["step"] < newest):
            state = "fell silent" if silent else "is behind"
            phase = f"at step {entry['step']}, {entry['doing']}"
            clauses.append(f"process {i} {state} {phase}")
    return f"; {', '.join(clauses)}" if clauses else ""


@contextlib.contextmanager
def guard() -> Iterator[None]:
    """Publish why this process leaves, and recognise the errors of a lost process.

    Raises:
      PeerLostError: jax failed in the block because another process is lost.
    """
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        if coordination.count() == 1:
            raise
        line = text.first_line(error)
        if not (_may_be_from_jax(error) and LOST.search(str(error))):
            with contextlib.suppress(errors.PeerLostError):
                reason = f"{type(error).__name__}: {line}"
                coordination.put(f"{LEFT}{jax.process_index()}", reason)
            raise
        raise errors.PeerLostError(
            f"another process is lost{find_behind()}. {coordination.AGAIN} "
            f"(jax: {line})"
        ) from error


def _may_be_from_jax(error: Exception) -> bool:
    """Return whether jax or Orbax may have raised an error.

    While jax waits for an array it raises a plain ValueError. Orbax raises a
    TimeoutError for a barrier that failed. The errors of the operating system, for
    example of a network disk, have a number; TensorStore writes this number into the
    message of a plain ValueError.
    """
    if isinstance(error, OSError | ValueError) and errors.find_errno(error) is not None:
        return False
    return isinstance(error, TimeoutError | jax.errors.JaxRuntimeError) or (
        type(error) is ValueError
    )
