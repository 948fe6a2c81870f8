"""Images and boxes of images at another size; boxes as torchvision draws them.

A box is given as fractions of the image's sides, so the same parameters cut the same
part out of an image of another size. The functions are those of
`jaxssl.transforms.geometric`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar, Size
from jaxssl.transforms.sampling import (
    CoordMap,
    accumulator,
    as_real,
    geometric_chain,
    restore,
)
from jaxssl.types import Array, Float, Key, Shaped

ATTEMPTS = 10
"""How often a box is drawn, until one fits into the image."""


class ResizedCropParams(NamedTuple):
    """A box inside of an image.

    (0, 0) and (1, 1) keep the image, if it is not resized.

    Attributes:
      top_left: float32 (y, x) of the box's first corner, as fractions of height and
        width; corners, not pixel centres: (0, 0) is where the first pixel begins.
      extent: float32 (height, width) of the box, as fractions of the image's.
    """

    top_left: Float[Array, "2"]
    extent: Float[Array, "2"]


def resize(
    image: Shaped[Array, "*lead height width c"],
    size: int | tuple[int, int],
    *,
    keep_ratio: bool = False,
    antialias: bool = True,
) -> Shaped[Array, "*lead h w c"]:
    """Resize a whole image, by bilinear interpolation.

    This is `resized_crop` of the box that is the image. To resize masks of class
    numbers take the nearest pixel, see `jaxssl.transforms.geometric_chain`.

    Args:
      image: any dtype (kept) and value range.
      size: static side, or (height, width), of the result.
      keep_ratio: whether to keep the ratio of the sides. The result then is the
        smallest that covers ``size``: a single number is that of the shorter side, as
        in torchvision's Resize; the other side is rounded down. Static.
      antialias: see `resized_crop`.

    Returns:
      The resized image.

    Raises:
      ValueError: if the rank of the image or the size is wrong.
      TypeError: if the size is not of Python integers.
    """
    size = _resized(checks.image_size(image), size, keep_ratio)
    return resized_crop(image, _whole(), size, antialias=antialias)


def resize_coords(size: int | tuple[int, int], *, keep_ratio: bool = False) -> CoordMap:
    """Return the coordinate form of `resize` without antialiasing."""
    size = checks.size_pair(size)

    def out_size(image_size: Size) -> Size:
        return _resized(image_size, size, keep_ratio)

    def pull(coords, image_size):
        whole = resized_crop_coords(_whole(), out_size(image_size))
        return whole.pull(coords, image_size)

    return CoordMap(pull, out_size)


def resized_crop(
    image: Shaped[Array, "*lead height width c"],
    params: ResizedCropParams,
    size: int | tuple[int, int],
    *,
    antialias: bool = True,
) -> Shaped[Array, "*lead h w c"]:
    """Cut a box out and resize it, by bilinear interpolation.

    Any value range; the weights are accumulated in float32 (float64 if an input is)
    and the dtype is kept, integers rounded. Pixels next to the box have a share in its
    border, as in an image that is resized first and cropped then. Differentiable in the
    image and in the parameters.

    Args:
      image: one image, or several that share the box.
      params: a box inside of the image.
      size: static side, or (height, width), of the result.
      antialias: whether to average over all pixels that fall into one of the result,
        where the box is shrunk (`jax.image.scale_and_translate`). Where no box is
        larger than the result this changes nothing, and False is up to twice as fast
        on CPU; it is left out by itself if ``size`` is not below that of the image.
        Static.

    Returns:
      The box, resized.

    Raises:
      ValueError: if the rank of the image, the size or the box is wrong.
      TypeError: if the size is not of Python integers.
    """
    height, width = checks.image_size(image)
    size = checks.size_pair(size)
    if not antialias or (size[0] >= height and size[1] >= width):
        return geometric_chain(image, [resized_crop_coords(params, size)])
    top_left, extent = _box(params)
    dtype = accumulator(image, top_left, extent)
    sides = jnp.array([height, width], dtype)
    scale = jnp.array(size, dtype) / (extent.astype(dtype) * sides)
    values = jax.image.scale_and_translate(
        image.astype(dtype),
        (*image.shape[:-3], *size, image.shape[-1]),
        (image.ndim - 3, image.ndim - 2),
        scale,
        -top_left.astype(dtype) * sides * scale,
        method="linear",
        # The default precision of accelerators would change an image that is kept.
        precision=jax.lax.Precision.HIGHEST,
    )
    return restore(values, image.dtype)


def resized_crop_coords(
    params: ResizedCropParams, size: int | tuple[int, int]
) -> CoordMap:
    """Return the coordinate form of `resized_crop` without antialiasing.

    Args:
      params: the box; it is not moved into the image where it sticks out.
      size: static side, or (height, width), of the result.

    Returns:
      The map.

    Raises:
      ValueError: if the size or the box is wrong.
    """
    size, box = checks.size_pair(size), _box(params)

    def pull(coords, image_size):
        top_left, extent = (as_real(value, coords.dtype) for value in box)
        sides = jnp.array(image_size, extent.dtype)
        step = extent * sides / jnp.array(size, extent.dtype)
        corners = (coords + 0.5) * step[None, None]
        return corners + (top_left * sides)[None, None] - 0.5

    return CoordMap(pull, lambda _: size)


def resized_crop_params(
    key: Key[Array, ""],
    *,
    image_size: int | tuple[int, int],
    scale: tuple[Scalar, Scalar] = (0.08, 1.0),
    ratio: tuple[Scalar, Scalar] = (3 / 4, 4 / 3),
) -> ResizedCropParams:
    """Draw a box by its share of the area and its ratio of sides.

    The share is uniform, the logarithm of the ratio too; a box that does not fit into
    the image is drawn anew, up to ten times in all, and then is the largest one in the
    centre whose ratio is allowed. Its place is uniform. This is the rule of
    torchvision's RandomResizedCrop, at fractional instead of whole pixels.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the image.
      scale: (low, high) share of the image's area, in (0, 1]; may be traced.
      ratio: (low, high) width divided by height, in pixels; may be traced.

    Returns:
      The box.

    Raises:
      ValueError: if a pair is reversed or its Python numbers are out of range.
    """
    height, width = checks.size_pair(image_size, "image_size")
    for name, pair in (("scale", scale), ("ratio", ratio)):
        checks.interval(pair, name)
        checks.positive(pair[0], name)
    checks.at_most(scale[1], 1, "scale")
    uniform = jax.random.uniform(key, (2 * ATTEMPTS + 2,))
    place, shares, ratios = jnp.split(uniform, (2, 2 + ATTEMPTS))
    shares = scale[0] + (scale[1] - scale[0]) * shares
    logs = [jnp.log(jnp.asarray(end, uniform.dtype)) for end in ratio]
    # Width divided by height in units of the image's sides, where a square is 1.
    ratios = jnp.exp(logs[0] + (logs[1] - logs[0]) * ratios) * (height / width)
    boxes = jnp.stack([jnp.sqrt(shares / ratios), jnp.sqrt(shares * ratios)], axis=-1)
    fits = (boxes <= 1).all(axis=-1)
    slimmest, widest = (jnp.exp(end) * (height / width) for end in logs)
    largest = jnp.minimum(1, jnp.stack([1 / slimmest, widest]))
    extent = jnp.where(fits.any(), boxes[jnp.argmax(fits)], largest)
    top_left = jnp.where(fits.any(), place, 0.5) * (1 - extent)
    return ResizedCropParams(top_left, extent)


def random_resized_crop(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead height width c"],
    *,
    size: int | tuple[int, int],
    scale: tuple[Scalar, Scalar] = (0.08, 1.0),
    ratio: tuple[Scalar, Scalar] = (3 / 4, 4 / 3),
    antialias: bool = True,
) -> tuple[Shaped[Array, "*lead h w c"], ResizedCropParams]:
    """Cut a random box out and resize it.

    See `resized_crop_params` and `resized_crop`.

    Returns:
      The resized box, and the box.
    """
    params = resized_crop_params(
        key, image_size=checks.image_size(image), scale=scale, ratio=ratio
    )
    return resized_crop(image, params, size, antialias=antialias), params


def _whole() -> ResizedCropParams:
    """Return the box that is the image."""
    return ResizedCropParams(jnp.zeros(2, jnp.float32), jnp.ones(2, jnp.float32))


def _resized(image_size: Size, size: int | tuple[int, int], keep_ratio: bool) -> Size:
    """Return the size of a resized image."""
    height, width = checks.size_pair(size)
    if not keep_ratio:
        return height, width
    if height * image_size[1] >= width * image_size[0]:
        return height, height * image_size[1] // image_size[0]
    return width * image_size[0] // image_size[1], width


def _box(params: ResizedCropParams) -> tuple[Array, Array]:
    """Return the corner and the extent, which may be given as pairs of numbers."""
    top_left = checks.pair(params.top_left, "top_left")
    return top_left, checks.pair(params.extent, "extent")
