"""Checksums of every file of a checkpoint, and the shape and type of every leaf.

Orbax does not notice a flipped bit in array data: the chunks carry no checksum. The
manifest does: XXH3 of every block, sealed by one SHA-256 of all that it says (ADR 8).
It is written last, so a folder that has one was written completely.
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
BLOCK, PIECE = 1 << 26, 1 << 20
"""Larger files have a checksum for each so many bytes, which are read in pieces."""


def write(
    folder: Path, leaves: dict[str, list], meter: Mapping[str, Any] | None = None
) -> None:
    """Take the checksums of all files below ``folder`` and write the manifest there.

    Args:
      folder: a finished checkpoint.
      leaves: what ``describe`` said about the saved state.
      meter: what `read_meter` is to return.
    """
    found = _describe_files(_files(folder))
    body = {"format": FORMAT, "leaves": leaves, "files": found, "meter": meter}
    text = json.dumps({**body, "sha256": _digest(body)}, indent=1)
    atomic_write.write(folder / NAME, text.encode())


def read_leaves(folder: Path) -> dict[str, list]:
    """Return the leaves that a verified manifest lists."""
    return json.loads((folder / NAME).read_text())["leaves"]


def read_meter(folder: Path) -> dict[str, Any] | None:
    """Return the meter that a verified manifest holds, if it was saved with one."""
    return json.loads((folder / NAME).read_text())["meter"]


def find_damage(folder: Path) -> str | None:
    """Compare the files below ``folder`` with their manifest.

    Args:
      folder: a checkpoint.

    Returns:
      None if every byte is as it was written, else the first difference in words.

    Raises:
      UserError: the manifest is sound, but of a format that this version cannot read.
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
    present = _files(folder)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} was added"
    for name, described in _describe_files(present).items():
        if described != expected[name]:
            return f"{name} has changed"
    return None


def examine(folder: Path) -> tuple[str | None, OSError | None]:
    """Do as `find_damage`, and take a bad sector for damage.

    It is like a flipped bit as long as an older checkpoint can be read. Where none can
    be, or for any other reason, the disk is to blame and not the checkpoint.

    Args:
      folder: a checkpoint.

    Returns:
      What is wrong or None, and the error if it could not be read.

    Raises:
      OSError: another one than EIO.
    """
    try:
        return find_damage(folder), None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return f"it cannot be read ({error.strerror})", error


def _files(folder: Path) -> dict[str, Path]:
    """Return the files below ``folder`` by name, but for the manifest."""
    found = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)
    return {path.relative_to(folder).as_posix(): path for path in found}


def _describe_files(paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Return size and checksums of each file; all processors share the blocks."""
    sizes = {name: path.stat().st_size for name, path in paths.items()}
    blocks = [
        (name, start) for name in paths for start in range(0, sizes[name] or 1, BLOCK)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashed = pool.map(lambda block: _hash_block(paths[block[0]], block[1]), blocks)
        sums: dict[str, list[str]] = {}
        for (name, _), found in zip(blocks, hashed, strict=True):
            sums.setdefault(name, []).append(found)
    return {
        name: {"size": sizes[name], "xxh3_128": found} for name, found in sums.items()
    }


def _hash_block(path: Path, start: int) -> str:
    digest, end = xxhash.xxh3_128(), start + BLOCK
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(min(PIECE, end - file.tell())):
            digest.update(piece)
    return digest.hexdigest()


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
