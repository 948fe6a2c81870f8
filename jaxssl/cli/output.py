"""Standard output and standard error that outlive whoever reads them.

A run that lasts for days must not end because its terminal or the other end of its pipe
is gone: the workdir holds what the lines say.
"""

import errno
import io
import os
import sys
from typing import Any

STDOUT, STDERR = 1, 2

# What a write says if nobody reads: a pipe without reader, a terminal that is gone.
_GONE = (errno.EPIPE, errno.EIO, errno.EBADF)


class _Descriptor(io.RawIOBase):
    """A file descriptor that drops what is written once nobody reads."""

    def __init__(self, number: int):
        """Write to this descriptor."""
        self._number = number
        self._gone = False

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._number

    def isatty(self) -> bool:
        """Return whether a terminal reads."""
        return os.isatty(self._number)

    def write(self, data) -> int:
        """Write bytes; say once on standard error that nobody reads any more."""
        if not self._gone:
            try:
                return os.write(self._number, data)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                self._gone = True
                if self._number == STDOUT:
                    line = "jaxssl: nobody reads standard output; the command goes on\n"
                    print(line, end="", file=sys.stderr, flush=True)
        return len(data)


def keep_open() -> None:
    """Let the streams of this process survive a closed pipe, terminal or descriptor.

    Characters that the encoding lacks are written as Python escapes them. Streams that
    a test or a notebook has put in place of the descriptors stay as they are.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # Else the next file to be opened would have this number.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _wrap(sys.stdout, STDOUT)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _wrap(sys.stderr, STDERR)


def _wrap(stream: Any, number: int) -> Any:
    if stream is None:  # The descriptor was closed when Python started.
        return make_stream(number, "utf-8")
    stream.flush()
    return make_stream(number, stream.encoding)


def make_stream(number: int, encoding: str) -> io.TextIOWrapper:
    """Return a text stream of a descriptor that drops what nobody reads."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(number)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=number == STDERR or os.isatty(number),
    )
