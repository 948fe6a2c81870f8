"""An ``.npz`` file with images and labels, read without pickle."""

import contextlib
import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxssl import memory
from jaxssl.config.checks import nearest
from jaxssl.data import labels as labels_lib
from jaxssl.data.labels import NO_LABEL
from jaxssl.data.paths import show
from jaxssl.data.source import ArraySource, image_source
from jaxssl.errors import UserError
from jaxssl.text import printable
from jaxssl.types import Shaped

LABEL = "label"
"""Name of the array of labels unless another one is given."""

NO_LABELS = "none"
"""The ``label_key`` that says: these images have no labels."""

# Of the memory at hand, what the arrays of a file may take at most; batches, networks
# and programs need the rest.
SHARE_OF_MEMORY = 0.9

LOCAL_HEADER_BYTES = 30
"""What stands before each array in a zip file, without its name, in bytes."""


class Header(NamedTuple):
    """What a file says of one of its arrays.

    Attributes:
      shape: of the array.
      dtype: of the array.
      num_bytes: of the array and its header, unpacked.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    num_bytes: int


def load(
    *,
    split: str,
    data_dir: str | None = None,
    image_key: str = "image",
    label_key: str | None = None,
) -> ArraySource:
    """Read the arrays of one split into memory.

    Args:
      split: which file of a folder.
      data_dir: a folder with ``<split>.npz``, or one file, which is then the split
        ``train``.
      image_key: name of the array uint8 (n, h, w, 3), (n, h, w, 1) or (n, h, w).
      label_key: name of the array of integers: classes (n,) or (n, 1), -1 where there
        is no label; or attributes (n, k), 0 or 1. ``none`` for images without labels.
        By default ``label``; a file that holds the images alone has no labels.

    Returns:
      The split, in memory; labels are -1 where there are none.

    Raises:
      UserError: no such file or array, pickled objects, a header that lies, labels that
        are not allowed, or arrays that do not fit into the memory at hand.
    """
    path = _find(data_dir, split)
    name = f"npz {printable(path)}"
    with _open(path) as archive:
        image = _header(archive, image_key, path)
        label_key = _choose_label(archive, image_key, label_key, path)
        header = _header(archive, label_key, path) if label_key else None
        _check_memory(path, image.num_bytes + (header.num_bytes if header else 0))
        if header is None or label_key is None:
            labels = np.full(image.shape[:1], NO_LABEL, np.int32)
        else:
            labels_lib.check_shape(header.shape, header.dtype, name=name)
            if header.shape[:1] != image.shape[:1]:
                raise UserError(
                    f"{name}: the shapes are: {image_key} {image.shape}, {label_key} "
                    f"{header.shape}; each image needs a row of labels."
                )
            labels = labels_lib.in_memory(_read(archive, label_key, path), name=name)
        images = _read(archive, image_key, path)
    return image_source(images, labels, name=name, class_names=_class_names(labels))


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
        size = _header(archive, name, path).num_bytes
        if size > max_bytes:
            raise UserError(f"{path}: {name} has {size} bytes; allowed: {max_bytes}.")
        return _read(archive, name, path)


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
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file; it must be an .npz file.")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    # RuntimeError is what zipfile says of an archive that needs a password, or another
    # compression or version than it has. One flipped bit makes such a file.
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise UserError(f"{path} cannot be read as .npz: {error}.") from None


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist()]


def _choose_label(
    archive: zipfile.ZipFile, image_key: str, label_key: str | None, path: Path
) -> str | None:
    """Return the name of the labels; None if there are none, and nobody named any."""
    names = _names(archive)
    if label_key == NO_LABELS and label_key not in names:
        return None
    if label_key is not None or LABEL in names:
        return label_key or LABEL
    others = [name for name in names if name != image_key]
    if others or not _is_whole(archive, path):
        has = f"it has: {', '.join(names)}" if others else "but its list is damaged"
        raise UserError(
            f"{path} has no array {LABEL!r}; {has}. Name the labels with label_key, or "
            f"say label_key={NO_LABELS} for images without labels."
            + nearest(LABEL, others)
        )
    return None


def _is_whole(archive: zipfile.ZipFile, path: Path) -> bool:
    """Return whether no other array fits between those that the archive lists."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    starts = [*(info.header_offset for info in infos[1:]), archive.start_dir]
    with path.open("rb") as file:
        for info, start in zip(infos, starts, strict=True):
            file.seek(info.header_offset + LOCAL_HEADER_BYTES - 4)
            lengths = np.frombuffer(file.read(4), "<u2")  # Of the name and the extras.
            head = LOCAL_HEADER_BYTES + int(lengths.sum())
            gap = start - (info.header_offset + head + info.compress_size)
            if not 0 <= gap < LOCAL_HEADER_BYTES:
                return False
    return bool(infos) and infos[0].header_offset == 0


def _check_memory(path: Path, num_bytes: int) -> None:
    at_hand = memory.available()
    if num_bytes > at_hand * SHARE_OF_MEMORY:
        raise UserError(
            f"{path} unpacks to {num_bytes / 2**30:.2f} GiB, and {at_hand / 2**30:.2f} "
            "GiB of memory are at hand. Take a part of the images, or a folder of "
            "image files, which are read when they are needed."
        )


def _header(archive: zipfile.ZipFile, name: str, path: Path) -> Header:
    """Read what an array's header says, and compare it with the entry's size."""
    size = archive.getinfo(_entry(archive, name, path)).file_size
    with _array_errors(name, path), archive.open(_entry(archive, name, path)) as file:
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
    return Header(shape, dtype, size)


def _read(archive: zipfile.ZipFile, name: str, path: Path) -> Shaped[np.ndarray, "..."]:
    """Read an array whose header was compared with its size."""
    with _array_errors(name, path), archive.open(_entry(archive, name, path)) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _entry(archive: zipfile.ZipFile, name: str, path: Path) -> str:
    names = _names(archive)
    if name not in names:
        raise UserError(
            f"{path} has no array {name!r}; it has: {', '.join(names)}."
            + nearest(name, names)
        )
    return f"{name}.npy" if f"{name}.npy" in archive.namelist() else name


@contextlib.contextmanager
def _array_errors(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (ValueError, EOFError) as error:
        raise UserError(f"{path}: {name} is no array: {error}.") from None
    except MemoryError as error:
        raise UserError(f"{path}: no memory for {name}: {error}.") from None


def _class_names(labels: Shaped[np.ndarray, "n ..."]) -> tuple[str, ...]:
    if labels.ndim == 2:
        count = labels.shape[1]
    else:
        count = int(labels.max()) + 1 if labels.size else 0
    return tuple(str(k) for k in range(count))
