"""Decode JPEG and PNG from untrusted bytes into arrays of one static shape."""

import contextlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jaxssl.errors import BadRecord
from jaxssl.types import UInt8

SUFFIXES = (".jpg", ".jpeg", ".png")
MAX_BYTES = 64 << 20
MAX_PIXELS = 64_000_000
_FORMATS = ("JPEG", "PNG")
_WHOLE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
# What Pillow raises on damaged files, found by flipping and cutting bytes.
_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_bytes(path: Path) -> bytes:
    """Read a file whose size is checked before.

    Raises:
      BadRecord: it is missing, empty or above ``MAX_BYTES``.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise BadRecord(f"file of {size} bytes; allowed: 1 to {MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _open(data: bytes) -> Iterator[Image.Image]:
    """Open an image whose size and mode are allowed; nothing is decoded yet.

    Raises:
      BadRecord: not a JPEG or PNG, too large, or damaged, also where the block decodes.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check(image)
            yield image
    except Image.UnidentifiedImageError:
        raise BadRecord("not a JPEG or PNG") from None
    except _ERRORS as error:
        raise BadRecord(f"damaged image: {error}") from None


def header(data: bytes) -> tuple[int, int, str]:
    """Return (height, width, mode) as stored, without decoding the pixels.

    Raises:
      BadRecord: not a JPEG or PNG, or above ``MAX_PIXELS``.
    """
    with _open(data) as image:
        return image.height, image.width, image.mode


def decode(data: bytes, *, load_size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decode to RGB, upright as the camera's orientation tag says.

    Args:
      data: a JPEG or PNG file.
      load_size: pixels of the shorter side after scaling (bilinear with
        antialiasing); the central square is kept; None keeps the stored size.

    Returns:
      The image, 0 to 255.

    Raises:
      BadRecord: damaged, truncated, too large, or not 8 bits a channel.
    """
    with _open(data) as image:
        if load_size is not None:
            scale = load_size / min(image.size)
            wanted = int(image.width * scale), int(image.height * scale)
            image.draft("RGB", wanted)
        ImageOps.exif_transpose(image, in_place=True)
        colour = image.convert("RGB")
    if load_size is not None:
        colour = _central_square(colour, load_size)
    return np.array(colour)


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise BadRecord(
            f"{image.width} x {image.height} pixels; allowed: {MAX_PIXELS} in all"
        )
    if image.mode not in _WHOLE_MODES:
        raise BadRecord(f"pixels of mode {image.mode}; allowed: 8 bits a channel")


def _central_square(image: Image.Image, side: int) -> Image.Image:
    short = min(image.size)
    x, y = (image.width - short) / 2, (image.height - short) / 2
    box = (x, y, x + short, y + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)
