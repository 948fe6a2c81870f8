"""SHA-256 of every file of a checkpoint, and the shape and type of every leaf.

Orbax does not notice a flipped bit in array data: the chunks carry no checksum. The
manifest does. It is written last, so a folder that has one was written completely.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax

import jaxssl
from jaxssl.train import files
from jaxssl.types import UserError

NAME = "jaxssl_manifest.json"
FORMAT = 1


def describe(state: Any) -> dict[str, list]:
    """Return ``{path: [dtype, shape]}`` for the leaves of a pytree, abstract or not."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): [
            str(leaf.dtype),
            list(leaf.shape),
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def write(folder: Path, leaves: dict[str, list]) -> None:
    """Hash all files below ``folder`` and write the manifest beside them.

    Args:
      folder: a finished checkpoint.
      leaves: what ``describe`` said about the saved state.
    """
    found = {
        path.relative_to(folder).as_posix(): _describe_file(path)
        for path in _files(folder)
    }
    body = {"format": FORMAT, "leaves": leaves, "files": found}
    text = json.dumps({**body, "sha256": _digest(body)}, indent=1)
    files.write_atomically(folder / NAME, text.encode())


def read_leaves(folder: Path) -> dict[str, list]:
    """Return the leaves that a verified manifest lists."""
    return json.loads((folder / NAME).read_text())["leaves"]


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
            f"({jaxssl.__version__}) reads {FORMAT}; use the version that run.json of "
            "this run names, or another --workdir."
        )
    expected = body["files"]
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} was added"
        if _describe_file(present[name]) != expected[name]:
            return f"{name} has changed"
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)


def _describe_file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
