"""Windows of images ``(..., H, W, C)``, at whole or fractional pixels.

The four functions of a transform are those of `jaxssl.transforms.geometric`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import IntScalar, Scalar, Size
from jaxssl.transforms.sampling import CoordMap, as_real
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
