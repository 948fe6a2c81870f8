"""Read files that may be damaged or hostile: regular files alone, of a bounded size.

Everything that reads a workdir calls these functions. A FIFO is not waited for, a
device is not read, a link is not followed where a run writes, and no file takes more
memory than its limit.
"""

import contextlib
import io
import itertools
import json
import math
import os
import stat
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import numpy as np

from jaxssl import errors, memory

# Largest JSON file and largest log in bytes; those of the largest runs are far smaller.
JSON_BYTES = 1 << 26
LOG_BYTES = 1 << 30

# Largest sum of the unpacked arrays of an archive, as a fraction of the memory at hand.
ARCHIVE_SHARE = 0.25

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# What zipfile raises for damage; the last three for absurd offsets and encryption.
_ARCHIVE_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, EOFError),
    *(RuntimeError, OverflowError, ValueError),
)

# What NumPy's parser of a header, which is Python's own, raises for other texts.
_HEADER_ERRORS = (
    *(ValueError, KeyError, TypeError, SyntaxError, MemoryError),
    tokenize.TokenError,
)

# Deepest nesting of a JSON value that is read. The files of a run have less than ten.
LEVELS = 100


class UnreadableFile(ValueError):  # noqa: N818 (it names the file's state)
    """A file is there and cannot be used; the message is a clause that says why."""


def open_regular(path: Path, *, write: bool = False) -> BinaryIO:
    """Open a regular file; nothing is waited for, made empty or changed.

    Args:
      path: the file.
      write: open the file for reading and appending, make it if it is missing, and do
        not follow a link.

    Raises:
      FileNotFoundError: there is no such file.
      OSError: the disk fails (`errors.DISK_ADVICE`).
      UnreadableFile: the path leads to something else, or may not be opened.
    """
    flags = os.O_RDONLY
    if write:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno in errors.DISK_ADVICE:
            raise
        reason = "is a link" if path.is_symlink() else f"cannot be opened ({error})"
        raise UnreadableFile(f"{reason}") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnreadableFile("is no regular file")
    return os.fdopen(handle, "a+b" if write else "rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes.

    Raises:
      FileNotFoundError, OSError, UnreadableFile: see `open_regular`.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableFile(f"is larger than {limit:,} bytes")
    return data


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON text; NaN and infinities are left to `is_number`.

    Raises:
      UnreadableFile: the text is no JSON, or nested deeper than `LEVELS`.
    """
    try:
        value = json.loads(data)
        deep = _is_deeper(value, LEVELS)
    except RecursionError:
        deep = True
    except ValueError as error:  # Neither JSON nor UTF-8, or a number of 4,300 digits.
        raise UnreadableFile("is no JSON") from error
    if deep:
        raise UnreadableFile(f"is nested deeper than {LEVELS} levels")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Raises:
      FileNotFoundError, OSError: see `open_regular`.
      UnreadableFile: the file holds no JSON object.
    """
    value = parse_json(read_bytes(path, JSON_BYTES))
    if not isinstance(value, dict):
        raise UnreadableFile("holds no JSON object")
    return value


def is_number(value: Any) -> TypeGuard[int | float]:
    """Return whether a JSON value is a finite number; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    with contextlib.suppress(OverflowError):  # An integer beyond the largest float.
        return math.isfinite(value)
    return False


def is_count(value: Any) -> TypeGuard[int]:
    """Return whether a JSON value is a whole number from 0 to 2**63 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an archive of NumPy, without pickles.

    The checksum of an array is compared before NumPy reads the array.

    Raises:
      FileNotFoundError, OSError: see `open_regular`.
      UnreadableFile: the archive is damaged, or larger than the limit.
    """
    limit = int(ARCHIVE_SHARE * memory.available())
    data = read_bytes(path, limit)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > limit:
                raise UnreadableFile(f"unpacks to more than {limit:,} bytes")
            if any(entry.compress_type not in _METHODS for entry in entries):
                raise UnreadableFile("is compressed in another way than NumPy's")
            return {
                entry.filename.removesuffix(".npy"): _parse_npy(archive.read(entry))
                for entry in entries
            }
    except UnreadableFile:
        raise
    except _ARCHIVE_ERRORS as error:
        raise UnreadableFile("is a damaged archive") from error


def _parse_npy(data: bytes) -> np.ndarray:
    """Return an array whose header fits the number of bytes.

    Raises:
      UnreadableFile: the header is damaged, asks for another size, or for objects.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
        count = math.prod(shape)
        fits = count * dtype.itemsize == len(data) - file.tell()
        if not fits or dtype.hasobject or min(shape, default=0) < 0:
            raise UnreadableFile("has an array of another size than its header says")
        array = np.frombuffer(data, dtype, count, file.tell())
        return array.reshape(shape, order="F" if fortran else "C")
    except _HEADER_ERRORS as error:
        raise UnreadableFile("has an array without a readable header") from error


def set_aside(path: Path) -> Path:
    """Rename what cannot be read to ``<name>.corrupt`` or a free name like it.

    Returns:
      The new path.
    """
    suffixes = itertools.chain([""], (f"-{i}" for i in itertools.count(2)))
    paths = (path.with_name(f"{path.name}.corrupt{suffix}") for suffix in suffixes)
    aside = next(path for path in paths if not os.path.lexists(path))
    path.rename(aside)
    return aside
