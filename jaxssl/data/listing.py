"""List the images of a folder, and by reason all that is left out."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxssl.data import images
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.text import printable, shorten

OWN = ".jaxssl"
"""Files whose names hold this are written by jaxssl beside the data."""

MAX_LINKED = 100_000
"""Folders that are read by way of a link; some that link to each other have no end."""

SUFFIX = "suffix "

LeftOut = tuple[str, str]
"""A file or folder of a data set that no record comes from, and why."""


class Listing(NamedTuple):
    """What a folder holds.

    Attributes:
      paths: of the images, relative to the folder, sorted.
      left_out: all else: path relative to the folder, and the reason; sorted.
    """

    paths: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


class _Folder(NamedTuple):
    """A folder to look into.

    Attributes:
      path: relative to the root.
      parents: where each folder on the way to it really is, and it itself at last.
      linked: a link is on the way.
    """

    path: str
    parents: tuple[str, ...]
    linked: bool = False


def list_images(root: Path, *, within: Sequence[Path]) -> Listing:
    """List the images of a folder and its sub-folders; links are followed.

    Args:
      root: the folder.
      within: resolved folders; a link that leads out of all of them is left out.

    Returns:
      The images, and all files and folders that are left out.

    Raises:
      UserError: the folder cannot be read, or links of folders to each other have no
        end.
    """
    try:
        os.listdir(root)
    except OSError as error:
        raise UserError(
            f"{printable(root)} cannot be read: {error.strerror}."
        ) from None
    paths: list[str] = []
    left_out: list[LeftOut] = []
    folders: list[str] = []
    num_linked = 0
    pending = [_Folder("", (os.path.realpath(root),))]
    while pending:
        folder = pending.pop()
        for path, found in _look(root, folder, within):
            if isinstance(found, _Folder):
                pending.append(found)
                folders.append(path)
                num_linked += found.linked
            elif found:
                left_out.append((path, found))
            else:
                paths.append(path)
        if num_linked > MAX_LINKED:
            raise UserError(
                f"{printable(root)} holds more than {MAX_LINKED} folders by way of "
                "links; folders that link to each other have no end. Remove some links."
            )
    left_out += _without_image(folders, paths)
    return Listing(tuple(sorted(paths)), tuple(sorted(left_out)))


def left_out_of(source: Source) -> Sequence[LeftOut]:
    """Return what a data set leaves out, if it is one of files that knows."""
    return getattr(source, "left_out", ())


def describe(left_out: Sequence[LeftOut]) -> str:
    """Return how many files and folders are left out for each reason, in one line."""
    counts = Counter(reason for _, reason in left_out)
    suffixes = [
        reason for reason, _ in counts.most_common() if reason.startswith(SUFFIX)
    ]
    if suffixes:
        names = shorten([reason.removeprefix(SUFFIX) for reason in suffixes])
        number = sum(counts.pop(reason) for reason in suffixes)
        counts[f"{SUFFIX}that is not read ({names})"] = number
    return ", ".join(f"{number:,} x {reason}" for reason, number in counts.items())


def _look(
    root: Path, folder: _Folder, within: Sequence[Path]
) -> Iterator[tuple[str, _Folder | str]]:
    """Yield what a folder holds: a folder, or why it is left out; "" for an image."""
    try:
        with os.scandir(root / folder.path) as entries:
            for entry in entries:
                if OWN not in entry.name:
                    path = os.path.join(folder.path, entry.name)
                    yield path, _judge(entry, path, folder, within)
    except OSError as error:
        yield folder.path, f"folder that cannot be read ({error.strerror})"


def _judge(
    entry: os.DirEntry[str], path: str, folder: _Folder, within: Sequence[Path]
) -> _Folder | str:
    """Return a folder to look into, or why an entry is left out; "" for an image."""
    if entry.name.startswith("."):
        return "hidden"
    real = os.path.join(folder.parents[-1], entry.name)
    if entry.is_symlink():
        real = os.path.realpath(real)
        if not any(Path(real).is_relative_to(allowed) for allowed in within):
            return "link that leads out of the data"
        if not os.path.exists(real):
            return "link that leads nowhere"
    if entry.is_dir():
        if real in folder.parents:
            return "link to a folder that holds it"
        linked = folder.linked or entry.is_symlink()
        return _Folder(path, (*folder.parents, real), linked)
    if not entry.is_file():
        return "not a regular file"
    suffix = os.path.splitext(entry.name)[1].lower()
    if suffix in images.SUFFIXES:
        return ""
    return f"{SUFFIX}{printable(suffix)}" if suffix else "file without a suffix"


def _without_image(folders: Sequence[str], paths: Sequence[str]) -> Iterator[LeftOut]:
    """Yield the folders below which there is no image."""
    filled = set()
    for path in paths:
        while (path := os.path.dirname(path)) and path not in filled:
            filled.add(path)
    for folder in folders:
        if folder not in filled:
            top = "" if os.path.dirname(folder) else "class "
            yield folder, f"{top}folder without an image"
