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

import tensorstore
import xxhash

import jaxssl
from jaxssl import atomic_write, safe_files, text
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
      folder: a finished checkpoint, whose name is its step.
      leaves: the saved state, as `trees.describe` returns it.
      meter: sums of the log interval that the step lies in, for `read_meter`.
    """
    files = _describe_files(_find_files(folder))
    body = {
        "format": FORMAT,
        "step": int(folder.name),
        "leaves": leaves,
        "files": files,
        "meter": meter,
    }
    signed = json.dumps({**body, "sha256": _digest(body)}, indent=1)
    atomic_write.write(folder / NAME, signed.encode())


def read_leaves(folder: Path) -> dict[str, list]:
    """Return the shape and dtype of each leaf from a verified manifest."""
    return safe_files.read_json(folder / NAME)["leaves"]


def read_meter(folder: Path) -> dict[str, Any] | None:
    """Return the meter from a verified manifest, or None if none was saved."""
    return safe_files.read_json(folder / NAME)["meter"]


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
        body = safe_files.read_json(folder / NAME)
    except FileNotFoundError:
        return f"it has no {NAME}"
    except safe_files.UnreadableFile:
        return f"{NAME} is damaged"
    if body.pop("sha256", None) != _digest(body):
        return f"{NAME} is damaged"
    if body.get("format") != FORMAT:
        raise UserError(
            f"{folder} was written in format {body.get('format')!r} and this jaxssl "
            f"({jaxssl.__version__}) reads {FORMAT}; use the version and the commit "
            "that run.json of this run names, or another --workdir."
        )
    expected = body["files"]
    try:
        present = _find_files(folder)
        descriptions = _describe_files(
            {name: path for name, path in present.items() if name in expected}
        )
    except safe_files.UnreadableFile as error:
        return str(error)
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} was added"
    for name, description in descriptions.items():
        if description != expected[name]:
            return f"{name} has changed"
    try:
        step = body["step"] if "step" in body else _read_step(folder)
    except ValueError as error:  # Of TensorStore.
        return f"its step cannot be read: {text.first_line(error)}"
    return None if str(step) == folder.name else f"it is step {step}"


def _read_step(folder: Path) -> int:
    """Return the step in the arrays of a checkpoint whose manifest has none.

    Manifests had no step at first. The files of the checkpoint have been verified.

    Raises:
      ValueError: the checkpoint has no step.
    """
    spec = {
        "driver": "zarr",
        "kvstore": {
            "driver": "ocdbt",
            "base": f"file://{folder.absolute()}/default/",
            "path": "step/",
        },
    }
    return int(tensorstore.open(spec).result().read().result())


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
    """Return the files below ``folder``, without the manifest, by relative path.

    Raises:
      UnreadableFile: something below the folder is neither a file nor a folder.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise safe_files.UnreadableFile(f"{name} is neither a file nor a folder")
        if path.is_file() and name != NAME:
            found[name] = path
    return found


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
    with safe_files.open_regular(path) as file:
        file.seek(start)
        while piece := file.read(min(PIECE, end - file.tell())):
            digest.update(piece)
    return digest.hexdigest()


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
