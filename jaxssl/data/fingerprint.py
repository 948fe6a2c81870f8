"""Know files again by their content, which is read once.

A hash of what is in the files is kept in a file `NAME` beside them, under a key of
their names, sizes and times. Where nothing can be written beside the data, the file
lies in ``$XDG_CACHE_HOME/jaxssl`` (``~/.cache/jaxssl``), and its name has a hash of the
folder.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import logging
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl import atomic_write
from jaxssl.data.source import digest
from jaxssl.text import printable

logger = logging.getLogger(__name__)

NAME = ".jaxssl-content.json"
PREFIX = "content:"
"""Begins a fingerprint that follows the content of files. Those of version 0.1 followed
their names alone."""

KEPT = 16
"""Hashes that are kept for one folder, such as those of its splits."""

MAX_KEPT_BYTES = 1 << 20
NUM_THREADS = 8
BLOCK = 512  # Files that a thread looks at in one go: it looks faster than it starts.
UNREADABLE = "unreadable"
LARGE = 1 << 30  # Bytes that take long enough to say that they are read.

# Files that were changed so shortly before they are hashed may be changed again without
# another time: no hash is kept then.
SETTLE_SECONDS = 2.0


def of_content(content: str, *options: str) -> str:
    """Return the fingerprint of a data set from the hash of its files.

    Args:
      content: see `hash_files`.
      *options: how the files are read.
    """
    return PREFIX + digest(content, *options)


def derive(fingerprint: str, *parts: bytes | str) -> str:
    """Return the fingerprint of a data set that was made from another one.

    Args:
      fingerprint: that of the other one.
      *parts: what was done to it.
    """
    prefix = PREFIX if fingerprint.startswith(PREFIX) else ""
    return prefix + digest(fingerprint, *parts)


def comparable(one: str, other: str) -> bool:
    """Return whether both follow the content of files, or neither does."""
    return one.startswith(PREFIX) == other.startswith(PREFIX)


def hash_files(
    root: Path, paths: Sequence[str], *, max_bytes: int | None = None
) -> str:
    """Return a hash of the names and the content of files.

    Args:
      root: the folder.
      paths: of the files, relative to the folder, in order.
      max_bytes: of a larger file, which nobody reads, the size alone counts.

    Returns:
      The hash. Files that cannot be read are all alike.
    """
    began = time.time()
    files = [os.path.join(root, path) for path in paths]
    blocks = [files[i : i + BLOCK] for i in range(0, len(files), BLOCK)]
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        status = [file for block in pool.map(_look, blocks) for file in block]
    names = b"\0".join(map(os.fsencode, paths))
    key = digest(names, np.array(status, np.int64).tobytes())
    if kept := _read_kept(root).get(key):
        return kept
    wanted = [max_bytes is None or file.size <= max_bytes for file in status]
    num_bytes = sum(f.size for f, read in zip(status, wanted, strict=True) if read)
    if num_bytes > LARGE:
        logger.warning(
            "Reading %.1f GiB in %s once, to know the data again",
            num_bytes / 2**30,
            printable(root),
        )
    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        hashes = [*pool.map(_hash, files, status, wanted)]
    content = digest(names, *hashes)
    settled = all(file.changed < 1e9 * (began - SETTLE_SECONDS) for file in status)
    if settled and UNREADABLE not in hashes:
        _keep(root, key, content)
    return content


class _File(NamedTuple):
    """What changes when a file changes, without reading the file.

    Attributes:
      size: in bytes; -1 if there is no regular file.
      modified: time of the last change of the content, in ns.
      changed: time of the last change of anything, in ns; no program can set it.
    """

    size: int
    modified: int
    changed: int


def _look(paths: Sequence[str]) -> list[_File]:
    files = []
    for path in paths:
        file = _File(-1, 0, 0)
        with contextlib.suppress(OSError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                times = status.st_mtime_ns, status.st_ctime_ns
                file = _File(status.st_size, *times)
        files.append(file)
    return files


def _hash(path: str, file: _File, wanted: bool) -> str:
    """Return the SHA-256 of a file, or its size if the content is not wanted."""
    if not wanted or file.size < 0:
        return f"{file.size} bytes"
    try:
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return UNREADABLE


def _files(root: Path) -> list[Path]:
    """Return where hashes may be kept: beside the data, and in the cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = f"{digest(os.fsencode(root.resolve()))}{NAME}"
    files = [root / NAME]
    if os.path.isabs(cache):  # Who has no home has a relative one.
        files.append(Path(cache) / "jaxssl" / name)
    return files


def _read_kept(root: Path) -> dict[str, str]:
    """Return content by key. A file that is damaged, or none of ours, holds nothing."""
    kept = {}
    for path in _files(root):
        try:
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_KEPT_BYTES:
                kept |= json.loads(path.read_bytes())
        except (OSError, ValueError, TypeError, RecursionError):
            continue
    return {key: value for key, value in kept.items() if isinstance(value, str)}


def _keep(root: Path, key: str, content: str) -> None:
    """Write a hash beside the data, or into the cache folder; else it is lost."""
    entries = [*_read_kept(root).items()][1 - KEPT :]
    data = json.dumps({**dict(entries), key: content}, indent=1).encode()
    for path in _files(root):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write.write(path, data)
        except OSError:
            continue
        return
