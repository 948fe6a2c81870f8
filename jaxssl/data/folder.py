"""A folder of images: one sub-folder a class, or flat and unlabelled."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from jaxssl.config import fields
from jaxssl.data import fingerprint, images, listing
from jaxssl.data.paths import show
from jaxssl.data.source import NO_LABEL, image_spec
from jaxssl.errors import BadRecord, UserError
from jaxssl.text import printable
from jaxssl.types import Int, Record


class FolderSource:
    """Images on disk, decoded when asked for.

    Attributes:
      name: see ``Source``.
      class_names: names of the sub-folders; empty if the folder is flat.
      spec: ``image`` and ``label``.
      paths: of the records, relative to the folder, sorted.
      left_out: files and folders that no record comes from, each with the reason.
    """

    def __init__(self, root: Path, *, load_size: int | None, within: Path):
        """List the images below ``root``; links may lead into ``within``, too."""
        self.root = root.resolve()
        self.name = f"folder {printable(root)}"
        self._load_size = load_size
        allowed = (self.root, within.resolve())
        self.paths, self.left_out = listing.list_images(self.root, within=allowed)
        if not self.paths:
            left_out = f" Left out: {listing.describe(self.left_out)}."
            raise UserError(
                f"{show(root)} holds no image; allowed: "
                f"{', '.join(images.SUFFIXES)}, directly or in one sub-folder a class."
                + (left_out if self.left_out else "")
            )
        self.class_names, self._labels = _classes(root, self.paths)
        self.spec = image_spec(self._first_shape())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return a hash of the files' names and content, and of the loading size."""
        content = fingerprint.hash_files(
            self.root, self.paths, max_bytes=images.MAX_BYTES
        )
        return fingerprint.of_content(content, str(self._load_size))

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

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """Return all labels."""
        return self._labels

    def raw(self, index: int) -> bytes:
        """Return the file's bytes.

        Raises:
          BadRecord: the file is gone, empty or too large.
        """
        return images.read_bytes(self.root / self.paths[index])

    def record_name(self, index: int) -> str:
        """Return the path of the file, safe to print."""
        return printable(self.root / self.paths[index])

    def _first_shape(self) -> tuple[int, int, int]:
        reason = ""
        for index, path in enumerate(self.paths):
            try:
                image = images.decode(self.raw(index), load_size=self._load_size)
            except BadRecord as error:
                reason = reason or f"{printable(path)}: {error}"
                continue
            return image.shape[0], image.shape[1], 3
        raise UserError(
            f"None of the {len(self.paths)} images in {printable(self.root)} can be "
            f"decoded ({reason})."
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
      data_dir: the folder ``DIR``. Links that lead to a place below it are followed, a
        link ``DIR/<split>`` wherever it leads.
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
    given = root = Path(data_dir)
    if not root.is_dir():
        raise UserError(f"data_dir {show(root)} is no folder.")
    if split != "all" and (root / split).is_dir():
        root = root / split
    elif split not in ("train", "all"):
        raise UserError(
            f"data_dir {show(root)} has no sub-folder {split!r} for that split."
        )
    return FolderSource(root, load_size=load_size, within=given)


def _classes(
    root: Path, paths: tuple[str, ...]
) -> tuple[tuple[str, ...], Int[np.ndarray, " n"]]:
    folders = [path.partition("/")[0] if "/" in path else "" for path in paths]
    names = tuple(sorted(set(folders) - {""}))
    if names and "" in folders:
        raise UserError(
            f"{show(root)} holds both images ({printable(paths[folders.index('')])}) "
            f"and class folders ({printable(names[0])}); move the images into one."
        )
    index = {name: label for label, name in enumerate(names)} or {"": NO_LABEL}
    labels = np.array([index[folder] for folder in folders], np.int32)
    return tuple(map(printable, names)), labels
