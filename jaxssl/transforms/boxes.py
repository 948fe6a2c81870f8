"""Boxes of images ``(..., H, W, C)`` that are filled, or shown from another image.

A box is given as fractions of the image's sides, as for
`jaxssl.transforms.resized_crop`, and covers all pixels whose centre lies inside. The
functions of a transform are those of `jaxssl.transforms.geometric`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import PerChannel, Scalar, Size
from jaxssl.transforms.labels import mixup_params
from jaxssl.transforms.resized import resized_crop_params
from jaxssl.transforms.sampling import as_pixel, as_real
from jaxssl.types import Array, Bool, Float, Int, Key, Shaped


class EraseParams(NamedTuple):
    """A box of an image.

    An extent of 0 keeps the image.

    Attributes:
      top_left: float32 (y, x) of the box's first corner, as fractions of height and
        width; corners, not pixel centres: (0, 0) is where the first pixel begins.
      extent: float32 (height, width) of the box, as fractions of the image's.
    """

    top_left: Float[Array, "2"]
    extent: Float[Array, "2"]


class CutmixParams(NamedTuple):
    """A box, and how much of the first image lies outside.

    An extent of 0 with a weight of 1 keeps the first image.

    Attributes:
      top_left: float32 (y, x); see `EraseParams`.
      extent: float32 (height, width); see `EraseParams`.
      weight: float32 scalar in [0, 1], the first image's share of the pixels: that of
        `jaxssl.transforms.mixup` for the labels.
    """

    top_left: Float[Array, "2"]
    extent: Float[Array, "2"]
    weight: Float[Array, ""]


# --- Random erasing, cutout


def erase(
    image: Shaped[Array, "*lead h w c"],
    params: EraseParams,
    *,
    fill: PerChannel | Shaped[Array, "*lead h w c"] = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Fill a box of an image.

    Differentiable in the image and in ``fill``.

    Args:
      image: one image, or several that share the box; any dtype (kept) and value range.
      params: the box; what sticks out of the image is left out.
      fill: one number, or one for each channel, in the units of the image; or pixels,
        such as noise, of the image's shape and dtype. May be traced; numbers are then
        rounded and moved into the range of an integer dtype.

    Returns:
      The image with the box filled.

    Raises:
      ValueError: if the rank of the image, the box or ``fill`` is wrong.
      TypeError: if the dtype of the pixels in ``fill`` is not that of the image.

    References:
      Zhong et al., "Random Erasing Data Augmentation", 2020; DeVries and Taylor,
      "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxssl import transforms as T
      >>> image = jnp.zeros((2, 4, 1), jnp.uint8)
      >>> T.erase(image, T.EraseParams((0.0, 0.5), (0.5, 0.5)), fill=9)[..., 0]
      Array([[0, 0, 9, 9],
             [0, 0, 0, 0]], dtype=uint8)
    """
    checks.image_size(image)
    if isinstance(fill, jax.Array | np.ndarray) and fill.shape == image.shape:
        checks.same_dtype(image, fill, "fill")
        pixels = jnp.asarray(fill)
    else:
        pixels = as_pixel(fill, image)
    return jnp.where(_covered(params, image), pixels, image)


def erase_params(
    key: Key[Array, ""],
    *,
    image_size: int | tuple[int, int],
    scale: tuple[Scalar, Scalar] = (0.02, 1 / 3),
    ratio: tuple[Scalar, Scalar] = (0.3, 3.3),
) -> EraseParams:
    """Draw a box by its share of the area and its ratio of sides.

    The draw is that of `jaxssl.transforms.resized_crop_params`. To erase seldom, take
    ``maybe(key, params, EraseParams(0, 0), prob=0.5)``.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the image.
      scale: (low, high) share of the image's area, in (0, 1]; may be traced.
      ratio: (low, high) width divided by height, in pixels; may be traced.

    Returns:
      The box.

    Raises:
      ValueError: if a pair is reversed or its Python numbers are out of range.

    References:
      The ranges are those of torchvision's RandomErasing.
    """
    box = resized_crop_params(key, image_size=image_size, scale=scale, ratio=ratio)
    return EraseParams(*box)


def random_erase(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    scale: tuple[Scalar, Scalar] = (0.02, 1 / 3),
    ratio: tuple[Scalar, Scalar] = (0.3, 3.3),
    fill: PerChannel | Shaped[Array, "*lead h w c"] = 0,
) -> tuple[Shaped[Array, "*lead h w c"], EraseParams]:
    """Fill a random box; see `erase_params` and `erase`.

    Returns:
      The image and the box.
    """
    size = checks.image_size(image)
    params = erase_params(key, image_size=size, scale=scale, ratio=ratio)
    return erase(image, params, fill=fill), params


def cutout_params(
    key: Key[Array, ""],
    *,
    image_size: int | tuple[int, int],
    size: int | tuple[int, int],
) -> EraseParams:
    """Draw the box of cutout for `erase`: its centre is any pixel of the image.

    What sticks out of the image is cut off, so that boxes at the border are smaller.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the image.
      size: static side, or (height, width), of the box in pixels; 16 for CIFAR-10 in
        the paper.

    Returns:
      The box, of whole pixels.

    Raises:
      ValueError: if a size is below 1.
    """
    image_size = checks.size_pair(image_size, "image_size")
    sides = jnp.array(checks.size_pair(size), jnp.int32)
    return EraseParams(*_box_about_a_pixel(key, sides, image_size))


def random_cutout(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    size: int | tuple[int, int],
    fill: PerChannel | Shaped[Array, "*lead h w c"] = 0,
) -> tuple[Shaped[Array, "*lead h w c"], EraseParams]:
    """Fill a box of this size about a random pixel; see `cutout_params` and `erase`.

    Returns:
      The image and the box.
    """
    params = cutout_params(key, image_size=checks.image_size(image), size=size)
    return erase(image, params, fill=fill), params


# --- CutMix


def cutmix(
    first: Shaped[Array, "*lead h w c"],
    second: Shaped[Array, "*lead h w c"],
    params: CutmixParams,
) -> Shaped[Array, "*lead h w c"]:
    """Show a box of the second image in the first one.

    The labels are mixed by the share of pixels: ``mixup(labels, others,
    params.weight)``. Differentiable in both images.

    Args:
      first: an image, or a batch that shares the box, as in the paper. Any dtype and
        value range.
      second: of the same shape and dtype. For a batch: its rows in another order.
      params: the box.

    Returns:
      The image with the box from the other.

    Raises:
      ValueError: if the rank or the shapes are wrong, or the box.
      TypeError: if the dtypes differ.

    References:
      Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with
      Localizable Features", 2019.
    """
    checks.image_size(first)
    checks.scalar(params.weight, "weight")
    checks.same_dtype(first, second, "second")
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have the same shapes; got {first.shape} and "
            f"{second.shape}."
        )
    return jnp.where(_covered(params, first), second, first)


def cutmix_params(
    key: Key[Array, ""], *, image_size: int | tuple[int, int], alpha: Scalar = 1.0
) -> CutmixParams:
    """Draw a box whose share of the area is 1 - w, w of Beta(alpha, alpha).

    The centre is any pixel of the image, half the sides are rounded down to whole
    pixels, and what sticks out of the image is cut off: the weight is of what remains.

    Args:
      key: a typed key.
      image_size: static side, or (height, width), of the images.
      alpha: above 0; may be traced.

    Returns:
      The box, and the share of the first image.

    Raises:
      ValueError: if ``alpha`` is a Python number that is not positive.
    """
    image_size = checks.size_pair(image_size, "image_size")
    share, place = jax.random.split(key)
    side = jnp.sqrt(1 - mixup_params(share, alpha=alpha).weight)
    half = jnp.floor(side * jnp.array(image_size, side.dtype) / 2).astype(jnp.int32)
    top_left, extent = _box_about_a_pixel(place, 2 * half, image_size)
    return CutmixParams(top_left, extent, 1 - extent[0] * extent[1])


def random_cutmix(
    key: Key[Array, ""],
    first: Shaped[Array, "*lead h w c"],
    second: Shaped[Array, "*lead h w c"],
    *,
    alpha: Scalar = 1.0,
) -> tuple[Shaped[Array, "*lead h w c"], CutmixParams]:
    """Show a random box of the second image; see `cutmix_params` and `cutmix`.

    Returns:
      The image, and the box with the share of ``first``.
    """
    params = cutmix_params(key, image_size=checks.image_size(first), alpha=alpha)
    return cutmix(first, second, params), params


# --- Shared


def _covered(
    params: EraseParams | CutmixParams, image: Shaped[Array, "*lead h w c"]
) -> Bool[Array, "*ones h w 1"]:
    """Return which pixels of an image have their centre in a box."""
    top_left = as_real(checks.pair(params.top_left, "top_left"), jnp.float32)
    extent = as_real(checks.pair(params.extent, "extent"), jnp.float32)
    inside = []
    for axis, side in enumerate(checks.image_size(image)):
        centre = (jnp.arange(side, dtype=top_left.dtype) + 0.5) / side
        after = centre - top_left[axis]
        inside.append((after >= 0) & (after < extent[axis]))
    mask = (inside[0][:, None] & inside[1][None, :])[..., None]
    return jax.lax.expand_dims(mask, range(image.ndim - 3))


def _box_about_a_pixel(
    key: Key[Array, ""], sides: Int[Array, "2"], image_size: Size
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """Return the corner and the extent of a box about a random pixel, cut off."""
    size = jnp.array(image_size, jnp.int32)
    start = jax.random.randint(key, (2,), 0, size, jnp.int32) - sides // 2
    low, high = jnp.clip(start, 0, size), jnp.clip(start + sides, 0, size)
    return low / size, (high - low) / size
