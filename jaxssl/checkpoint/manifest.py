"""Checksums of every file of a checkpoint, and the shape and dtype of every leaf.

Orbax does not notice a flipped bit in array data, because its chunks have no checksum.
The manifest has one: XXH3 of every block of every file. A SHA-256 of the manifest
itself protects the checksums (ADR 8). The manifest is written last, so a folder with a
manifest was written completely.
"""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import xxhash

import jaxssl
from jaxssl import atomic_write
from jaxssl.errors import UserError

NAME = "jaxssl_manifest.json"
FORMAT = 2

# Bytes that share one checksum. Blocks of a large file are hashed by several threads.
BLOCK = 1 << 26

# Bytes that are read at once, which bounds the memory of each thread.
PIECE = 1 << 20


def write(
    folder: Path, leaves: dict[str, list], meter: Mapping[str, Any] | None = None
) -> None:
    """Compute the checksums of all files below ``folder`` and write the manifest there.

    Args:
      folder: a finished checkpoint.
      leaves: the saved state, as `trees.describe` returns it.
      meter: sums of the log interval that the step lies in, for `read_meter`.
    """
    files = _describe_files(_find_files(folder))
    body = {"format": FORMAT, "leaves": leaves, "files": files, "meter": meter}
    text = json.dumps({**body, "sha256": _digest(body)}, indent=1)
    atomic_write.write(folder / NAME, text.encode())


def read_leaves(folder: Path) -> dict[str, list]:
    """Return the shape and dtype of each leaf from a verified manifest."""
    return json.loads((folder / NAME).read_text())["leaves"]


def read_meter(folder: Path) -> dict[str, Any] | None:
    """Return the meter from a verified manifest, or None if none was saved."""
    return json.loads((folder / NAME).read_text())["meter"]


def find_damage(folder: Path) -> str | None:
    """Compare the files below ``folder`` with their manifest.

    Args:
      folder: a checkpoint.

    Returns:
      None if every byte is as it was written, else a clause that names the first
      difference.

    Raises:
      UserError: the manifest is intact, but in a format that this version cannot read.
    """
    try:
        body = json.loads((folder / NAME).read_bytes())
    except FileNotFoundError:
        return f"it has no {NAME}"
    except ValueError:  # Neither JSON nor UTF-8.
        return f"{NAME} is damaged"
    digest = body.pop("sha256", None) if isinstance(body, dict) else None
    if digest is None or digest != _digest(body):
        return f"{NAME} is damaged"
    if body["format"] != FORMAT:
        raise UserError(
            f"{folder} was written in format {body['format']!r} and this jaxssl "
            f"({jaxssl.__version__}) reads {FORMAT}; use the version and the commit "
            "that run.json of this run names, or another --workdir."
        )
    expected = body["files"]
    present = _find_files(folder)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} was added"
    for name, description in _describe_files(present).items():
        if description != expected[name]:
            return f"{name} has changed"
    return None


def examine(folder: Path) -> tuple[str | None, OSError | None]:
    """Call `find_damage`, and count a bad sector (EIO) as damage.

    As long as an older checkpoint can be read, a bad sector is like a flipped bit. If
    no checkpoint can be read, the whole disk is at fault; so the error is returned, and
    the caller decides.

    Args:
      folder: a checkpoint.

    Returns:
      The damage or None, and the error if a file could not be read.

    Raises:
      OSError: reading failed for another reason than a bad sector.
    """
    try:
        return find_damage(folder), None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return f"it cannot be read ({error.strerror})", error


def _find_files(folder: Path) -> dict[str, Path]:
    """Return the files below ``folder``, without the manifest, by relative path."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _describe_files(paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return size and checksums of each file; the threads share the blocks."""
    files = {
        name: {"size": path.stat().st_size, "xxh3_128": []}
        for name, path in paths.items()
    }
    blocks = [
        (name, start)
        for name, file in files.items()
        for start in range(0, file["size"] or 1, BLOCK)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(lambda block: _hash_block(paths[block[0]], block[1]), blocks)
        for (name, _), digest in zip(blocks, hashes, strict=True):
            files[name]["xxh3_128"].append(digest)
    return files


def _hash_block(path: Path, start: int) -> str:
    digest, end = xxhash.xxh3_128(), start + BLOCK
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(min(PIECE, end - file.tell())):
            digest.update(piece)
    return digest.hexdigest()


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
