"""Read IDX files, the format of MNIST and its kin, without trusting their headers."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from jaxssl.data.paths import show
from jaxssl.errors import UserError
from jaxssl.types import UInt8

FILES = {"train": "train", "test": "t10k"}
MAX_BYTES = 1 << 30


def read_split(
    folder: Path, split: str
) -> tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, " n"]]:
    """Read the images and labels of one split, gzipped or raw.

    Args:
      folder: holds ``{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]``.
      split: ``train`` or ``test``.

    Returns:
      Images in 0 to 255 and labels.

    Raises:
      UserError: a file is missing, or is not what its header says.
    """
    images = read(_find(folder, f"{FILES[split]}-images-idx3-ubyte"), dims=3)
    labels = read(_find(folder, f"{FILES[split]}-labels-idx1-ubyte"), dims=1)
    if len(images) != len(labels):
        raise UserError(
            f"{folder} holds {len(images)} {split} images but {len(labels)} labels; "
            "fetch both files again."
        )
    return images, labels


def read(path: Path, *, dims: int) -> UInt8[np.ndarray, "..."]:
    """Read one IDX file of unsigned bytes.

    The header is read first and bounds what is read after it, so neither a lying header
    nor a compressed bomb takes more memory than the file may hold.

    Args:
      path: the file; the suffix ``.gz`` says that it is compressed.
      dims: number of dimensions that the header must announce.

    Returns:
      The array.

    Raises:
      UserError: names the file and what is wrong with it.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(4 + 4 * dims)
            if header[:4] != bytes([0, 0, 8, dims]) or len(header) != 4 + 4 * dims:
                raise UserError(f"{path} is no IDX file of {dims} dimensions of bytes.")
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4", offset=4))
            size = math.prod(shape)
            if not 0 < size <= MAX_BYTES:
                raise UserError(
                    f"{path} announces {size} bytes; allowed: 1 to {MAX_BYTES}."
                )
            body = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    if len(body) != size:
        has = "more" if len(body) > size else str(len(body))
        raise UserError(f"{path} announces {size} bytes but holds {has}.")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise UserError(f"{show(folder)} holds neither {name} nor {name}.gz.")
