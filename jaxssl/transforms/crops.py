"""Windows of images ``(..., H, W, C)``, at whole or fractional pixels.

`crop` takes them out of the image, `pad_and_crop` out of the image with a border
around. The functions of a transform are those of `jaxssl.transforms.geometric`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import IntScalar, PerChannel, Scalar, Size
from jaxssl.transforms.sampling import CoordMap, as_real, border_pixel
from jaxssl.types import Array, Int, Key, Num, Shaped


class CropParams(NamedTuple):
    """Where a crop begins.

    Attributes:
      top_left: int32 (y, x) of the crop's first pixel.
    """

    top_left: Int[Array, "2"]


def crop(
    image: Shaped[Array, "*lead height width c"],
    top_left: Int[Array, "2"] | tuple[IntScalar, IntScalar],
    size: int | tuple[int, int],
) -> Shaped[Array, "*lead h w c"]:
    """Cut out a window at whole pixels, exactly.

    Args:
      image: any dtype and value range.
      top_left: (y, x) of the first pixel, an array or a pair of numbers. What is traced
        is moved into the image where the window would stick out. For fractional
        positions sample: ``geometric_chain(image, [crop_coords(top_left, size)])``.
      size: static side, or (height, width).

    Returns:
      The window.

    Raises:
      ValueError: if the window is larger than the image, or sticks out of it at a
        ``top_left`` of known integers, or ``top_left`` is not two numbers.
      TypeError: if ``top_left`` is not whole.
    """
    image_size = checks.image_size(image)
    size = checks.size_pair(size)
    checks.fits(size, image_size, "size")
    start = checks.corner(top_left, size, image_size)
    lead = image.shape[:-3]
    zero = jnp.zeros((), jnp.int32)
    return jax.lax.dynamic_slice(
        image,
        [*(zero for _ in lead), start[0], start[1], zero],
        (*lead, *size, image.shape[-1]),
    )


def crop_coords(
    top_left: Num[Array, "2"] | tuple[Scalar, Scalar], size: int | tuple[int, int]
) -> CoordMap:
    """Return the coordinate form of `crop`, at whole or fractional positions.

    Args:
      top_left: (y, x) of the first pixel, in pixels; may be traced. It is not moved:
        a window that sticks out sees what the maps before it, and then the border
        mode, put there.
      size: static side, or (height, width).

    Returns:
      The map; its ``out_size`` raises a ValueError if the image is smaller than
      ``size``.

    Raises:
      ValueError: if ``top_left`` is not two numbers.
    """
    size = checks.size_pair(size)
    start = checks.pair(top_left, "top_left")

    def pull(coords, _):
        return coords + as_real(start, coords.dtype)[None, None]

    def out_size(image_size: Size) -> Size:
        checks.fits(size, image_size, "size")
        return size

    return CoordMap(pull, out_size)


def crop_params(
    key: Key[Array, ""],
    *,
    image_size: int | tuple[int, int],
    size: int | tuple[int, int],
) -> CropParams:
    """Draw a window's position, uniform over all that lie inside of the image.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the image.
      size: static side, or (height, width), of the window.

    Returns:
      The position.

    Raises:
      ValueError: if the window is larger than the image.
    """
    image_size = checks.size_pair(image_size, "image_size")
    size = checks.size_pair(size)
    checks.fits(size, image_size, "size")
    places = jnp.array([a - b + 1 for a, b in zip(image_size, size, strict=True)])
    return CropParams(jax.random.randint(key, (2,), 0, places, jnp.int32))


def random_crop(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead height width c"],
    *,
    size: int | tuple[int, int],
) -> tuple[Shaped[Array, "*lead h w c"], CropParams]:
    """Cut out a window at a random whole position; see `crop`.

    Returns:
      The window and its position.
    """
    params = crop_params(key, image_size=checks.image_size(image), size=size)
    return crop(image, params.top_left, size), params


# --- The window in the centre


def center_crop(
    image: Shaped[Array, "*lead height width c"], size: int | tuple[int, int]
) -> Shaped[Array, "*lead h w c"]:
    """Cut out the window in the centre, exactly.

    Args:
      image: any dtype and value range.
      size: static side, or (height, width). If an odd number of rows or columns is cut
        away, one more is cut at the end than at the beginning.

    Returns:
      The window.

    Raises:
      ValueError: if the window is larger than the image.
    """
    image_size, size = checks.image_size(image), checks.size_pair(size)
    checks.fits(size, image_size, "size")
    return crop(image, _central(size, image_size), size)


def center_crop_coords(size: int | tuple[int, int]) -> CoordMap:
    """Return the coordinate form of `center_crop`; see `crop_coords`."""
    size = checks.size_pair(size)

    def pull(coords, image_size):
        return crop_coords(_central(size, image_size), size).pull(coords, image_size)

    return CoordMap(pull, crop_coords((0, 0), size).out_size)


def _central(size: Size, image_size: Size) -> Size:
    """Return the first pixel of the window in the centre."""
    return (image_size[0] - size[0]) // 2, (image_size[1] - size[1]) // 2


# --- Windows that may stick out


def pad_and_crop(
    image: Shaped[Array, "*lead height width c"],
    top_left: Int[Array, "2"] | tuple[IntScalar, IntScalar],
    *,
    padding: int | tuple[int, int] = 4,
    size: int | tuple[int, int] | None = None,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Add a border around the image and cut a window out, exactly.

    Its coordinate form is `crop_coords` at ``top_left - padding``.

    Args:
      image: any dtype and value range.
      top_left: (y, x) of the first pixel in the padded image; see `crop`. (padding,
        padding) is the image's first pixel.
      padding: static number of pixels on each side, or (above and below, left and
        right).
      size: static side, or (height, width); None is that of the image.
      border: what the border shows; see `jaxssl.transforms.bilinear_sample`.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The window.

    Raises:
      ValueError: if the window does not fit into the padded image, or the padding, the
        border or ``fill`` is wrong; see `crop`.
      TypeError: if ``top_left`` is not whole.

    References:
      He et al., "Deep Residual Learning for Image Recognition", 2016: 4 pixels of
      zeros around images of 32.
    """
    image_size = checks.image_size(image)
    outside = border_pixel(image, border, fill)
    down, across = checks.size_pair(padding, "padding", least=0)
    if border == "constant":
        padded = _padded(image_size, (down, across))
        canvas = jnp.broadcast_to(
            outside, (*image.shape[:-3], *padded, image.shape[-1])
        )
        start = (*(0 for _ in image.shape[:-3]), down, across, 0)
        image = jax.lax.dynamic_update_slice(canvas, jnp.asarray(image), start)
    else:
        widths = [(0, 0)] * (image.ndim - 3) + [(down, down), (across, across), (0, 0)]
        image = jnp.pad(image, widths, mode=border)
    return crop(image, top_left, image_size if size is None else size)


def pad_and_crop_params(
    key: Key[Array, ""],
    *,
    image_size: int | tuple[int, int],
    padding: int | tuple[int, int] = 4,
    size: int | tuple[int, int] | None = None,
) -> CropParams:
    """Draw a window's position, uniform over all that lie inside of the padded image.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the image without its padding.
      padding: see `pad_and_crop`.
      size: see `pad_and_crop`.

    Returns:
      The position in the padded image.

    Raises:
      ValueError: if the window does not fit into the padded image.
    """
    image_size = checks.size_pair(image_size, "image_size")
    padded = _padded(image_size, checks.size_pair(padding, "padding", least=0))
    size = image_size if size is None else size
    return crop_params(key, image_size=padded, size=size)


def random_pad_and_crop(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead height width c"],
    *,
    padding: int | tuple[int, int] = 4,
    size: int | tuple[int, int] | None = None,
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Shaped[Array, "*lead h w c"], CropParams]:
    """Add a border and cut a window out at a random place; see `pad_and_crop`.

    Returns:
      The window and its position in the padded image.
    """
    params = pad_and_crop_params(
        key, image_size=checks.image_size(image), padding=padding, size=size
    )
    window = pad_and_crop(
        image, params.top_left, padding=padding, size=size, border=border, fill=fill
    )
    return window, params


def _padded(image_size: Size, padding: Size) -> Size:
    """Return the size of a padded image."""
    return image_size[0] + 2 * padding[0], image_size[1] + 2 * padding[1]
