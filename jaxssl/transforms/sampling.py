"""Bilinear sampling, and geometric transforms composed before one sampling.

Coordinates are (y, x) with pixel centres at integers: the first pixel is 0, the last
one ``side - 1``. Maps are *backward*: they say, for each pixel of the output, where in
the input its value comes from.

Resampling twice blurs twice, and on XLA:CPU a selection fused onto a gather runs up to
ten times slower than both apart. So geometric transforms that follow each other are
composed as coordinates (`CoordMap`) and the image is sampled once (`geometric_chain`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxssl.transforms import checks
from jaxssl.transforms.checks import PerChannel, Size
from jaxssl.types import Array, Float, Int, Shaped

BORDERS = ("edge", "constant", "reflect")


def same_size(size: Size) -> Size:
    """Return the size: the ``out_size`` of a map that keeps it."""
    return size


class CoordMap(NamedTuple):
    """A geometric transform as a backward map of coordinates.

    Attributes:
      pull: ``pull(coords, size) -> coords``. ``coords`` (h, w, 2) are positions in the
        transform's output, in pixels; ``size`` is the static (height, width) of its
        input; the result are the positions in that input.
      out_size: ``out_size(size) -> size``: the static output size from the input size.
    """

    pull: Callable[[Float[Array, "h w 2"], Size], Float[Array, "h w 2"]]
    out_size: Callable[[Size], Size] = same_size


def pixel_grid(size: Size) -> Float[Array, "h w 2"]:
    """Return the (y, x) of every pixel centre, float32."""
    rows = jax.lax.broadcasted_iota(jnp.float32, size, 0)
    columns = jax.lax.broadcasted_iota(jnp.float32, size, 1)
    return jnp.stack([rows, columns], axis=-1)


def as_real(value: Any, dtype: DTypeLike) -> Array:
    """Return a parameter as an array, integers as ``dtype``."""
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.inexact) else array.astype(dtype)


def bilinear_sample(
    image: Shaped[Array, "*lead height width c"],
    coords: Float[Array, "h w 2"],
    *,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Sample an image at real-valued positions, by bilinear interpolation.

    Any value range. The weights are accumulated in float32 (float64 if an input is)
    and the dtype is kept; integers are rounded to the nearest (between pixels, those
    of 32 bits are good to 24 bits). A position at a pixel centre returns the pixel bit
    by bit, whatever the dtype: so rounded coordinates give the nearest pixel, as masks
    of class numbers need. Positions may lie anywhere; NaN gives NaN (in integer images:
    any value).

    Differentiable in the image and in the coordinates. The interpolant has a kink at
    each pixel centre; there the derivative is the one towards larger coordinates (on
    the outermost pixels with border "edge": half of it, and 0 on the last), so that
    for instance the gradient in the parameters of an identity is one-sided. Gradients
    are finite for finite inputs.

    Args:
      image: one image, or several that share the coordinates.
      coords: (y, x) of each output pixel in the input, in pixels.
      border: what lies outside of the image. "edge" repeats the outermost pixels,
        "constant" is ``fill``, "reflect" mirrors about the centres of the outermost
        pixels (as ``np.pad(mode="reflect")``). Static.
      fill: for border "constant" alone: one number, or one for each channel, in the
        units of the image. The image is interpolated towards ``fill`` within a pixel
        of the outermost centres. May be traced, and is then rounded and moved into the
        range of an integer dtype.

    Returns:
      The sampled image in the dtype of ``image``.

    Raises:
      ValueError: if the rank of an input or the border is wrong, or ``fill`` is given
        for another border, or has values that an integer dtype does not have.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.array([[[0.0], [10.0]]])
      >>> bilinear_sample(image, jnp.array([[[0.0, 0.25]]]))
      Array([[[2.5]]], dtype=float32)
    """
    height, width = checks.image_size(image)
    outside = border_pixel(image, border, fill)
    if coords.ndim != 3 or coords.shape[-1] != 2:
        raise ValueError(
            f"coords must have the shape (h, w, 2), one (y, x) per output pixel; got "
            f"{coords.shape}. Use jax.vmap for coordinates that differ per image."
        )
    lead = image.shape[:-3]
    dtype = accumulator(image, coords)
    flat = image.reshape(*lead, height * width, image.shape[-1])
    total = jnp.zeros((*lead, *coords.shape[:2], image.shape[-1]), dtype)
    rows, row_kept = _taps(coords[..., 0].astype(dtype), height, border)
    columns, column_kept = _taps(coords[..., 1].astype(dtype), width, border)

    def over_lead(weight):
        return jax.lax.expand_dims(weight[..., None], range(len(lead)))

    corners = []
    for row, row_weight in rows:
        for column, column_weight in columns:
            taps = inside(flat, row * width + column, -2)
            weight = over_lead(row_weight * column_weight)
            total = total + weight * taps.astype(dtype)
            corners.append((weight, taps))
    if border == "constant":
        weight = over_lead(1 - row_kept * column_kept)
        # Selected, so that a fill of infinity or NaN stays outside.
        total = total + jnp.where(weight > 0, weight * outside.astype(dtype), 0)
        corners.append((weight, outside))
    return _exact_pixels(restore(total, image.dtype), corners)


def geometric_chain(
    image: Shaped[Array, "*lead height width c"],
    maps: Sequence[CoordMap],
    *,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Apply geometric transforms one after the other with a single sampling.

    The result has the border mode applied once, to the original image: a crop after a
    rotation sees the pixels around the crop, not a border that the rotation made up.

    For masks of class numbers, which must not be averaged, put
    ``CoordMap(lambda coords, size: jnp.round(coords))`` in front: it takes the nearest
    pixel.

    Args:
      image: one image, or several that share the transforms. Any dtype; it is kept.
      maps: the transforms' coordinate forms (`warp_coords`, `rotate_coords`,
        `crop_coords`, `hflip_coords`, ... or your own `CoordMap`), the one that is
        applied to the image first in front. Their parameters may be traced.
      border: see `bilinear_sample`.
      fill: see `bilinear_sample`.

    Returns:
      The transformed image; its size is what the last map says.

    Raises:
      TypeError: if ``maps`` is not a sequence of maps.
      ValueError: if the rank of the image, the border or ``fill`` is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxssl import transforms as T
      >>> image = jnp.arange(16.0).reshape(4, 4, 1)
      >>> maps = [T.crop_coords((1, 0), (2, 3)), T.hflip_coords()]
      >>> geometric_chain(image, maps)[..., 0]
      Array([[ 6.,  5.,  4.],
             [10.,  9.,  8.]], dtype=float32)
    """
    if isinstance(maps, CoordMap) or not all(isinstance(m, CoordMap) for m in maps):
        raise TypeError(
            f"maps must be a list of CoordMap, also for a single one; got {maps}. Take "
            "the coordinate form of each transform, such as hflip_coords(flip)."
        )
    sizes = [checks.image_size(image)]
    for coord_map in maps:
        sizes.append(coord_map.out_size(sizes[-1]))
    coords = pixel_grid(sizes[-1])
    for coord_map, size in zip(reversed(maps), reversed(sizes[:-1]), strict=True):
        coords = coord_map.pull(coords, size)
    return bilinear_sample(image, coords, border=border, fill=fill)


def border_pixel(
    image: Shaped[Array, "..."], border: str, fill: PerChannel
) -> Shaped[Array, "..."]:
    """Return the pixel outside of an image with border "constant", see `as_pixel`.

    Raises:
      ValueError: if there is no such border, or ``fill`` is known, not 0 and not used.
    """
    checks.choice(border, BORDERS, "border")
    given = checks.per_channel(fill, image.shape[-1], "fill")
    if border != "constant" and isinstance(given, np.ndarray) and given.any():
        raise ValueError(
            f"fill is what lies outside of the image with border='constant'; got "
            f"fill={fill} with border={border!r}. Pass border='constant'."
        )
    return as_pixel(fill, image)


def as_pixel(fill: PerChannel, image: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """Return a value as a pixel of an image, with as many axes as the image.

    What is traced is rounded and moved into the range of an integer dtype.

    Raises:
      ValueError: if there is neither one value nor one a channel, or a known one that
        an integer dtype does not have.
    """
    dtype = checks.canonical(image.dtype)
    value = checks.per_channel(fill, image.shape[-1], "fill")
    if not jnp.issubdtype(dtype, jnp.inexact):
        low, high = (0, 1)
        if dtype != jnp.bool_:
            low, high = jnp.iinfo(dtype).min, jnp.iinfo(dtype).max
        if isinstance(value, np.ndarray):
            in_range = np.all((low <= value) & (value <= high))
            if not in_range or np.any(value % 1):
                raise ValueError(
                    f"fill must be a whole number from {low} to {high} for {dtype} "
                    f"images; got {fill}. Give it in the units of the image."
                )
            value = value.astype(dtype)
        elif value.dtype != dtype:
            value = jnp.clip(jnp.round(value.astype(jnp.float32)), low, high)
    pixel = jnp.asarray(value).astype(dtype)
    return pixel.reshape((1,) * (image.ndim - 1) + (-1,))


def _exact_pixels(sampled: Array, corners: list[tuple[Array, Array]]) -> Array:
    """Return the pixels themselves where one of them has all the weight.

    Only integers that the accumulator may not hold need it.
    """
    if jnp.issubdtype(sampled.dtype, jnp.integer) and sampled.dtype.itemsize > 2:
        for weight, taps in corners:
            sampled = jnp.where(weight == 1, taps, sampled)
    return sampled


def _taps(
    position: Float[Array, "h w"], length: int, border: str
) -> tuple[list[tuple[Int[Array, "h w"], Float[Array, "h w"]]], Float[Array, "h w"]]:
    """Return the two neighbours along one axis, and how much the image weighs.

    A neighbour is its index in the image and its weight.
    """
    last = length - 1
    if border == "edge":
        position = jnp.clip(position, 0, last)
    elif border == "reflect":
        position = _reflect(position, last)
    else:  # One pixel outside everything is 0 already; far away, int32 would overflow.
        position = jnp.clip(position, -1, length)
    low = jnp.floor(position)
    fraction = position - low
    taps, kept = [], jnp.ones_like(position)
    for corner, weight in ((low, 1 - fraction), (low + 1, fraction)):
        if border == "constant":
            outside = (corner < 0) | (corner > last)
            kept = kept - jnp.where(outside, weight, 0)
            weight = jnp.where(outside, 0, weight)
        # Clipped as integers: a NaN must not become an address outside of the image.
        taps.append((jnp.clip(corner.astype(jnp.int32), 0, last), weight))
    return taps, kept


def _reflect(position: Float[Array, "h w"], last: int) -> Float[Array, "h w"]:
    """Fold positions into [0, last]; those inside stay as they are, bit by bit."""
    if last == 0:
        return jnp.zeros_like(position)
    position = jnp.mod(jnp.abs(position), 2 * last)
    return jnp.where(position > last, 2 * last - position, position)


def inside(array: Array, indices: Int[Array, "..."], axis: int) -> Array:
    """Return entries along an axis counted from the last one, -1; none is checked."""
    places = (..., indices, *[slice(None)] * (-1 - axis))
    unchecked = {"mode": "promise_in_bounds", "wrap_negative_indices": False}
    return jnp.asarray(array).at[places].get(**unchecked)


def accumulator(*arrays: Shaped[Array, "..."]) -> type:
    """Return the dtype to compute in: float64 if an array has it, else float32."""
    wide = any(checks.canonical(array.dtype) == jnp.float64 for array in arrays)
    return jnp.float64 if wide else jnp.float32


def restore(values: Float[Array, "..."], dtype: jnp.dtype) -> Shaped[Array, "..."]:
    """Return computed values in the image's dtype, rounded if it is an integer.

    Without x64 the dtype of an image of 64 bits is that of jax's array of it.
    """
    if not jnp.issubdtype(dtype, jnp.inexact):
        values = jnp.round(values)
    return values.astype(checks.canonical(dtype))
