"""Lines for a person: process 0 shows them; each of several processes logs its own."""

import contextlib
import datetime
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from jaxssl import safe_files
from jaxssl.distributed import coordination
from jaxssl.errors import UserError
from jaxssl.run.metrics import Stream
from jaxssl.text import printable

FOLDER = "logs"


class Log:
    """A stream that writes lines with the time to a file, and passes them on."""

    def __init__(self, file: Stream, stream: Stream | None):
        """Write to ``file``, and unchanged to ``stream`` if there is one."""
        self._file = file
        self._stream = stream

    def write(self, text: str) -> None:
        """Write whole lines."""
        for line in text.splitlines():
            self._file.write(_stamp(printable(line)))
        if self._stream is not None:
            self._stream.write(text)

    def flush(self) -> None:
        """Flush both streams."""
        self._file.flush()
        if self._stream is not None:
            self._stream.flush()

    def isatty(self) -> bool:
        """Return False: no progress bar can be drawn."""
        return False


@contextlib.contextmanager
def open_log(workdir: Path, stream: Stream) -> Iterator[Stream]:
    """Open ``logs/process_<i>.log`` if there are several processes.

    The last line of the file says what ended the process, unless it was killed by a
    signal or by the watchdog.

    Args:
      workdir: the run's folder; must exist.
      stream: shows lines to a person.

    Yields:
      The stream for lines: ``stream`` itself if there is one process.
    """
    if coordination.count() == 1:
        yield stream
        return
    folder = workdir / FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"--workdir: {folder} is no folder; remove it.") from error
    path = folder / f"process_{jax.process_index()}.log"
    if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
        safe_files.set_aside(path)
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
        _write_last_line(path, sys.exc_info()[1])


def _stamp(line: str) -> str:
    now = datetime.datetime.now().isoformat(sep=" ", timespec="milliseconds")
    return f"{now} {line}\n"


def _write_last_line(path: Path, error: BaseException | None) -> None:
    """Add a last line; an error of the disk must not hide the error of the run."""
    line = "ended"
    if error is not None:
        line += f" by {type(error).__name__}: {' '.join(str(error).split())}"
    with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
        file.write(_stamp(printable(line)).encode())
