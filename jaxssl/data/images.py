"""Decode JPEG, PNG and WebP from untrusted bytes into arrays of one static shape."""

import contextlib
import functools
import io
import logging
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from jaxssl.errors import BadRecord
from jaxssl.text import first_line, printable
from jaxssl.types import UInt8

logger = logging.getLogger(__name__)

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif"),
    *(".png", ".apng", ".webp"),
)
"""Of the files that are read, in small letters."""

MAX_BYTES = 64 << 20
MAX_PIXELS = 64_000_000
_FORMATS = ("JPEG", "PNG", "WEBP")
_SIGNATURES = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
_PILLOW = re.compile("PIL")  # Modules whose warnings are not shown.
_PNG_DEPTH = 24  # Where a PNG file has its number of bits a channel.
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
      BadRecord: it is missing, no regular file, empty or above ``MAX_BYTES``.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadRecord("not a regular file")
        if not 0 < status.st_size <= MAX_BYTES:
            raise BadRecord(
                f"file of {status.st_size} bytes; allowed: 1 to {MAX_BYTES}"
            )
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"cannot be read: {error.strerror}") from None


@contextlib.contextmanager
def _open(data: bytes) -> Iterator[Image.Image]:
    """Open an image whose size and mode are allowed; nothing is decoded yet.

    Raises:
      BadRecord: not a JPEG, PNG or WebP, too large, or damaged, also where the block
        decodes.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check(image)
            yield image
    except BadRecord:
        raise
    except Image.UnidentifiedImageError:
        raise BadRecord(_explain_unidentified(data)) from None
    except _ERRORS as error:
        raise BadRecord(f"damaged image: {printable(error)}") from None


def _explain_unidentified(data: bytes) -> str:
    """Return why Pillow takes bytes for no image, where they begin as one.

    Pillow says the same of another format and of damage before the pixels, as a wrong
    checksum in a text chunk of a PNG.
    """
    for name, signature in _SIGNATURES.items():
        if signature.match(data):
            try:
                Image.OPEN[name][0](io.BytesIO(data), "")
            except _ERRORS as error:
                return f"damaged image: {printable(error)}"
    return "not a JPEG, PNG or WebP"


def _ignore_warnings_of_pillow() -> None:
    """Let no setting of Python turn a warning about metadata into an error.

    ``warnings.catch_warnings`` would be undone by another thread that decodes.
    """
    if not warnings.filters or _PILLOW not in warnings.filters[0]:
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)


def header(data: bytes) -> tuple[int, int, str]:
    """Return (height, width, mode) as stored, without decoding the pixels.

    Raises:
      BadRecord: not a JPEG, PNG or WebP, or above ``MAX_PIXELS``.
    """
    _ignore_warnings_of_pillow()
    with _open(data) as image:
        return image.height, image.width, image.mode


def remarks(data: bytes) -> list[str]:
    """Return what `decode` leaves out of an image, and what Pillow warns of.

    Only one thread may call this at a time: it records the warnings of all of them.

    Raises:
      BadRecord: not a JPEG, PNG or WebP, or above ``MAX_PIXELS``.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with _open(data) as image:
            image.getexif()
            alpha = image.has_transparency_data
            many = getattr(image, "n_frames", 1) > 1
            wide = image.format == "PNG" and data[_PNG_DEPTH] > 8
    notes = {
        "alpha is dropped": alpha,
        "only the first of several frames is read": many,
        "only 8 of 16 bits a channel are read": wide,
    }
    messages = {printable(first_line(warning.message)).strip() for warning in caught}
    return [note for note, holds in notes.items() if holds] + sorted(messages)


def decode(data: bytes, *, load_size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Decode to RGB, upright as the camera's orientation tag says.

    Args:
      data: a JPEG, PNG or WebP file; of several frames the first is taken.
      load_size: pixels of the shorter side after scaling (bilinear with
        antialiasing); the central square is kept; None keeps the stored size.

    Returns:
      The image, 0 to 255. Alpha is dropped: the colours are those that are stored.

    Raises:
      BadRecord: damaged, truncated, too large, or not 8 bits a channel.
    """
    _ignore_warnings_of_pillow()
    with _open(data) as image:
        if image.has_transparency_data:
            _tell_alpha()
        if load_size is not None:
            scale = load_size / min(image.size)
            wanted = int(image.width * scale), int(image.height * scale)
            image.draft("RGB", wanted)
        ImageOps.exif_transpose(image, in_place=True)
        colour = image.convert("RGB")
    if load_size is not None:
        colour = _central_square(colour, load_size)
    return np.array(colour)


@functools.cache
def _tell_alpha() -> None:
    """Log once that images have an alpha channel."""
    logger.warning(
        "There are images with an alpha channel: it is dropped, and the colours are "
        "taken as they are stored. jaxssl data doctor counts these images"
    )


def _check(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise BadRecord(
            f"{image.width} x {image.height} pixels; allowed: {MAX_PIXELS} in all"
        )
    if image.mode not in _WHOLE_MODES:
        raise BadRecord(
            f"pixels of mode {image.mode}, more than 8 bits a channel; allowed: 8 bits "
            "a channel; convert the file"
        )


def _central_square(image: Image.Image, side: int) -> Image.Image:
    short = min(image.size)
    x, y = (image.width - short) / 2, (image.height - short) / 2
    box = (x, y, x + short, y + short)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)
