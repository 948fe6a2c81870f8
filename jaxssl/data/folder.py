"""A folder of JPEG and PNG images: one sub-folder a class, or flat and unlabelled."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl.config import fields
from jaxssl.data import images
from jaxssl.data.source import NO_LABEL, digest, image_spec
from jaxssl.errors import BadRecord, UserError
from jaxssl.types import Int, Record


class FolderSource:
    """Images on disk, decoded when asked for.

    Attributes:
      name: see ``Source``.
      class_names: names of the sub-folders; empty if the folder is flat.
      spec: ``image`` and ``label``.
      paths: of the records, relative to the folder, sorted.
      num_outside: links that were left out because they lead out of the folder.
    """

    def __init__(self, root: Path, *, split: str, load_size: int | None):
        """List the images below ``root``; see ``load``."""
        self.root = root.resolve()
        self.name = f"folder {root}/{split}"
        self._load_size = load_size
        found = sorted(_walk(self.root, Path()))
        self.paths = tuple(path for path, inside in found if inside)
        self.num_outside = len(found) - len(self.paths)
        if not self.paths:
            left_out = f" {self.num_outside} links lead out of it and were left out."
            raise UserError(
                f"{root} holds no image; allowed: {', '.join(images.SUFFIXES)}, "
                "directly or in one sub-folder a class."
                + (left_out if self.num_outside else "")
            )
        self.class_names, self._labels = _classes(root, self.paths)
        self.spec = image_spec(self._first_shape())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return a hash of the files' names and of the loading size."""
        return digest(str(self._load_size), *self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Decode one image; see ``Source``."""
        del rng
        image = images.decode(self.raw(index), load_size=self._load_size)
        shape = self.spec["image"].shape
        if image.shape != shape:
            raise BadRecord(
                f"image of shape {image.shape} among {shape}; set load_size"
            )
        return {"image": image, "label": self._labels[index]}

    def label(self, index: int) -> Any:
        """Return the label without reading the file."""
        return self._labels[index]

    def raw(self, index: int) -> bytes:
        """Return the file's bytes.

        Raises:
          BadRecord: the file is gone, empty or too large.
        """
        return images.read_bytes(self.root / self.paths[index])

    def record_name(self, index: int) -> str:
        """Return the path of the file."""
        return str(self.root / self.paths[index])

    def _first_shape(self) -> tuple[int, int, int]:
        reason = ""
        for index, path in enumerate(self.paths):
            try:
                image = images.decode(self.raw(index), load_size=self._load_size)
            except BadRecord as error:
                reason = reason or f"{path}: {error}"
                continue
            return image.shape[0], image.shape[1], 3
        raise UserError(
            f"None of the {len(self.paths)} images in {self.root} can be decoded "
            f"({reason})."
        )


def load(
    *,
    split: str,
    data_dir: str | None = None,
    load_size: fields.Pixels | None = None,
) -> FolderSource:
    """Open a folder of images.

    Args:
      split: ``DIR/<split>`` if that exists; otherwise ``train`` means ``DIR`` itself.
        ``all`` means it in any case.
      data_dir: the folder ``DIR``.
      load_size: pixels of the shorter side after scaling; the central square is kept.
        By default the images must all have one size, which is kept.

    Returns:
      The images, sorted by path; labels are positions in ``class_names``, or -1.

    Raises:
      UserError: no such folder, no image in it, none that can be decoded.
    """
    if data_dir is None:
        raise UserError("folder needs data_dir, the folder that holds the images.")
    if load_size is not None and not load_size >= 1:
        raise UserError(f"load_size is {load_size}; it must be above 0.")
    root = Path(data_dir)
    if not root.is_dir():
        raise UserError(f"data_dir {data_dir} is no folder.")
    if Path(split).name != split:
        raise UserError(f"split is {split!r}; it must be the name of a sub-folder.")
    if split != "all" and (root / split).is_dir():
        root = root / split
    elif split not in ("train", "all"):
        raise UserError(f"{data_dir} has no sub-folder {split!r} for that split.")
    return FolderSource(root, split=split, load_size=load_size)


def _walk(root: Path, below: Path) -> Iterator[tuple[str, bool]]:
    """Yield (relative path, stays inside the root) of each image, links resolved."""
    with os.scandir(root / below) as entries:
        for entry in entries:
            path = below / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path)
            elif path.suffix.lower() in images.SUFFIXES:
                inside = not entry.is_symlink() or _inside(root, path)
                yield path.as_posix(), inside


def _inside(root: Path, path: Path) -> bool:
    return (root / path).resolve().is_relative_to(root)


def _classes(
    root: Path, paths: tuple[str, ...]
) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    folders = [path.partition("/")[0] if "/" in path else "" for path in paths]
    names = tuple(sorted(set(folders) - {""}))
    if names and "" in folders:
        raise UserError(
            f"{root} holds both images ({paths[folders.index('')]}) and class folders "
            f"({names[0]}); move the images into one."
        )
    index = {name: label for label, name in enumerate(names)} or {"": NO_LABEL}
    return names, np.array([index[folder] for folder in folders], np.int32)
