"""Lines for a person: one process shows them; of many, each keeps its own as well."""

import contextlib
import datetime
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxssl.distributed import coordination
from jaxssl.run.metrics import Stream

FOLDER = "logs"


class Log:
    """A stream whose lines go to a file with the time, and on process 0 to a person."""

    def __init__(self, file: Stream, stream: Stream | None):
        """Write to ``file``, and to ``stream`` if there is one."""
        self._file = file
        self._stream = stream

    def write(self, text: str) -> None:
        """Write whole lines."""
        for line in text.splitlines():
            self._file.write(_stamp(line))
        if self._stream is not None:
            self._stream.write(text)

    def flush(self) -> None:
        """Let others see what was written."""
        self._file.flush()
        if self._stream is not None:
            self._stream.flush()

    def isatty(self) -> bool:
        """Say that no progress bar can be drawn."""
        return False


@contextlib.contextmanager
def open_log(workdir: Path, stream: Stream) -> Iterator[Stream]:
    """Open ``logs/process_<i>.log`` where there are several processes.

    Args:
      workdir: the run's folder; must exist.
      stream: where lines for a person go.

    Yields:
      ``stream`` itself if there is one process. The last line of a file says what
      ended its process, unless that was a signal or the watchdog.
    """
    if coordination.count() == 1:
        yield stream
        return
    folder = workdir / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"process_{jax.process_index()}.log"
    if not coordination.is_first():
        stream.write(
            f"process {jax.process_index()} of {coordination.count()}; {path}\n"
        )
        stream.flush()
    logger = logging.getLogger("jaxssl")
    try:
        with path.open("a") as file:
            log = Log(file, stream if coordination.is_first() else None)
            handler = logging.StreamHandler(log)
            logger.addHandler(handler)
            try:
                yield log
            finally:
                logger.removeHandler(handler)
    finally:
        _tell_end(path, sys.exc_info()[1])


def _stamp(line: str) -> str:
    now = datetime.datetime.now().isoformat(sep=" ", timespec="milliseconds")
    return f"{now} {line}\n"


def _tell_end(path: Path, error: BaseException | None) -> None:
    """Add a last line; a disk that refuses it must not hide what ended the run."""
    words = " ".join(str(error).split())
    line = "ended" if error is None else f"ended by {type(error).__name__}: {words}"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        file.write(_stamp(line).encode())
