"""An ``.npz`` file with images and labels, read without pickle."""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxssl.config.checks import nearest
from jaxssl.data.paths import show
from jaxssl.data.source import NO_LABEL, ArraySource, image_source
from jaxssl.errors import UserError
from jaxssl.text import printable
from jaxssl.types import Shaped

MAX_BYTES = 32 << 30


def load(
    *,
    split: str,
    data_dir: str | None = None,
    image_key: str = "image",
    label_key: str = "label",
) -> ArraySource:
    """Read the arrays of one split into memory.

    Args:
      split: which file of a folder.
      data_dir: a folder with ``<split>.npz``, or one file, which is then the split
        ``train``.
      image_key: name of the array uint8 (n, h, w, 3), (n, h, w, 1) or (n, h, w).
      label_key: name of the array of integers (n,) or (n, k); may be absent.

    Returns:
      The split, in memory; labels are -1 where there are none.

    Raises:
      UserError: no such file or array, pickled objects, a header that lies.
    """
    path = _find(data_dir, split)
    with _open(path) as archive:
        images = _read(archive, image_key, path)
        labels = np.full(len(images), NO_LABEL, np.int32)
        if label_key in _names(archive):
            labels = _read(archive, label_key, path)
    classes = _class_names(labels)
    return image_source(
        images, labels, name=f"npz {printable(path)}", class_names=classes
    )


def read_array(path: Path, name: str, *, max_bytes: int) -> Shaped[np.ndarray, "..."]:
    """Read one array of a file that is not trusted.

    Args:
      path: the file.
      name: of the array.
      max_bytes: how large it may be when it is unpacked.

    Returns:
      The array.

    Raises:
      UserError: no such file or array, pickled objects, a header that lies, too large.
    """
    with _open(path) as archive:
        return _read(archive, name, path, max_bytes=max_bytes)


def _find(data_dir: str | None, split: str) -> Path:
    if data_dir is None:
        raise UserError("npz needs data_dir: an .npz file, or a folder of <split>.npz.")
    path = Path(data_dir)
    if path.is_dir() and (path / f"{split}.npz").is_file():
        return path / f"{split}.npz"
    if path.is_dir() or not path.is_file():
        raise UserError(f"{show(path)} is no file and holds no {split}.npz.")
    if split != "train":
        raise UserError(
            f"{path} is one file, which is the split train; for {split!r} name a "
            f"folder with {split}.npz in it."
        )
    return path


@contextlib.contextmanager
def _open(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # RuntimeError is what zipfile says of an archive that needs a password, or another
    # compression or version than it has. One flipped bit makes such a file.
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"{path} cannot be read as .npz: {error}.") from None


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _read(
    archive: zipfile.ZipFile, name: str, path: Path, *, max_bytes: int = MAX_BYTES
) -> Shaped[np.ndarray, "..."]:
    """Read one array after comparing what its header says with the entry's size."""
    names = _names(archive)
    if name not in names:
        raise UserError(
            f"{path} has no array {name!r}; it has: {', '.join(names)}."
            + nearest(name, names)
        )
    entry = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    size = archive.getinfo(entry).file_size
    if size > max_bytes:
        raise UserError(f"{path}: {name} has {size} bytes; allowed: {max_bytes}.")
    try:
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            if dtype.hasobject:
                raise UserError(f"{path}: {name} holds pickled objects; not read.")
            if math.prod(shape) * dtype.itemsize != size - file.tell():
                raise UserError(f"{path}: the header of {name} does not fit its size.")
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: {name} is no array: {error}.") from None


def _class_names(labels: Shaped[np.ndarray, "..."]) -> tuple[str, ...]:
    if labels.ndim == 2:
        return tuple(str(k) for k in range(labels.shape[1]))
    largest = int(labels.max()) if labels.size and labels.dtype.kind in "iub" else -1
    return tuple(str(k) for k in range(largest + 1))
