"""Static backgrounds and mirrored poses, for several cameras (thesis chapter 6).

Where cameras stand still, a network tells mirrored from other images by the wall behind
the subject. So the background, the median image of a camera, is taken out or replaced
before pairs of views are made. All keep the dtype, uint8 too.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import PerChannel, Scalar
from jaxssl.transforms.sampling import accumulator, as_pixel, restore
from jaxssl.types import Array, Bool, Num, Shaped


def median_background(frames: Num[Array, "*lead t h w c"]) -> Num[Array, "*lead h w c"]:
    """Return the median image over time: what a fixed camera sees without a subject.

    It sorts all frames, floating-point ones in float32 unless they are float64: take
    some hundred that are spread over the recordings, once for each camera.

    Args:
      frames: of one camera, or of several on leading axes; any value range.

    Returns:
      The median of each pixel and channel, in the frames' dtype; between the two middle
      values if their number is even, and then rounded (half to even) for integers.

    Raises:
      ValueError: if the rank is wrong or there is no frame.

    References:
      "The median image per view", thesis section 6.2.2.
    """
    checks.image_size(frames)
    if frames.ndim < 4 or frames.shape[-4] < 1:
        raise ValueError(
            f"frames must have the axes (..., T, H, W, C) and a frame; got shape "
            f"{frames.shape}. Stack the frames of a camera on a time axis."
        )
    if jnp.issubdtype(frames.dtype, jnp.integer):
        return _whole_median(frames)
    median = jnp.median(frames.astype(accumulator(frames)), axis=-4)
    return restore(median, frames.dtype)


def foreground_mask(
    image: Num[Array, "*lead h w c"],
    background: Num[Array, "h w c"],
    *,
    threshold: Scalar,
) -> Bool[Array, "*lead h w"]:
    """Return where an image differs from the background.

    Args:
      image: one image, or several of the same camera.
      background: see `median_background`; of the image's dtype.
      threshold: a pixel is foreground if one of its channels differs by more than this,
        in the units of the image (of 255 for uint8); may be traced. The thesis gives
        no number. Integers are subtracted exactly, and compared in float32, which
        holds differences up to 2^24.

    Returns:
      True on the foreground.

    Raises:
      ValueError: if the sizes differ or the threshold is a negative Python number.
      TypeError: if the dtypes differ.

    References:
      "Simple per-pixel thresholding", thesis section 6.2.2.
    """
    return _differs(image, background, threshold)


def remove_background(
    image: Num[Array, "*lead h w c"],
    background: Num[Array, "h w c"],
    *,
    threshold: Scalar,
    fill: PerChannel = 0,
) -> Num[Array, "*lead h w c"]:
    """Fill all that looks like the background with one value.

    Doing it twice changes nothing more. Differentiable in the image where it is kept;
    the mask has no derivative.

    Args:
      image: one image, or several of the same camera; any value range.
      background: see `foreground_mask`.
      threshold: see `foreground_mask`.
      fill: value of the removed pixels, in the units of the image: one number, or one
        for each channel. May be traced, and is then rounded and moved into the range of
        an integer dtype. The thesis gives none. Black by default, if images begin at 0.

    Returns:
      The image with its foreground only.

    Raises:
      ValueError: if ``fill`` is a Python or NumPy number that an integer dtype does not
        have; else see `foreground_mask`.
      TypeError: see `foreground_mask`.

    References:
      Thesis section 6.2.2.

    Example:
      >>> import jax.numpy as jnp
      >>> image = jnp.array([[[200], [91]]], jnp.uint8)
      >>> wall = jnp.array([[[90], [90]]], jnp.uint8)
      >>> remove_background(image, wall, threshold=25)[..., 0]
      Array([[200,   0]], dtype=uint8)
    """
    mask = _differs(image, background, threshold)
    return jnp.where(mask[..., None], image, as_pixel(fill, image))


def substitute_background(
    image: Num[Array, "*lead h w c"],
    background: Num[Array, "h w c"],
    substitute: Num[Array, "h w c"],
    *,
    threshold: Scalar,
) -> Num[Array, "*lead h w c"]:
    """Put the foreground of an image in front of another background.

    Args:
      image: one image, or several of the same camera; any value range.
      background: see `foreground_mask`.
      substitute: what stands behind the foreground then, such as the background of a
        random other camera; of the image's dtype.
      threshold: see `foreground_mask`.

    Returns:
      The image with the other background.

    Raises:
      ValueError: see `foreground_mask`.
      TypeError: see `foreground_mask`.

    References:
      Thesis section 6.2.2.
    """
    mask = _differs(image, background, threshold)
    _check_background(image, substitute, "substitute")
    substitute = jax.lax.expand_dims(substitute, range(image.ndim - 3))
    return jnp.where(mask[..., None], image, substitute)


def flip_pose(
    pose: Shaped[Array, "*lead j d"],
    flip: Bool[Array, ""] | bool = True,
    *,
    pairs: Sequence[tuple[int, int]],
) -> Shaped[Array, "*lead j d"]:
    """Mirror a pose left and right, as `jaxssl.transforms.hflip` mirrors its image.

    The joints' x coordinates change sign, and joints of the left side change places
    with those of the right one. The positions are relative to a point on the mirror's
    plane: the root joint, or the centre of the camera.

    Args:
      pose: joints, x first: (x, y, z) or (x, y).
      flip: whether to do it; may be traced.
      pairs: static (left, right) numbers of the joints that change places.

    Returns:
      The mirrored pose, or the pose itself.

    Raises:
      ValueError: if a joint is in two pairs or there is no such joint, or ``flip`` is
        not a single value.

    References:
      "Random horizontal flipping jointly to the input images, and the corresponding
      target 3D poses", thesis section 6.2.4.
    """
    checks.scalar(flip, "flip")
    if pose.ndim < 2:
        raise ValueError(
            f"pose must have the axes (..., joints, coordinates); got shape "
            f"{pose.shape}."
        )
    order = np.arange(pose.shape[-2])
    joints = [joint for pair in pairs for joint in pair]
    if len(set(joints)) != len(joints) or not set(joints) <= set(order.tolist()):
        raise ValueError(
            f"pairs must name each of the {len(order)} joints, 0 to {len(order) - 1}, "
            f"once at most; got {pairs}."
        )
    for left, right in pairs:
        order[left], order[right] = right, left
    pose = jnp.asarray(pose)
    swapped = pose[..., order, :]
    mirrored = jnp.concatenate([-swapped[..., :1], swapped[..., 1:]], axis=-1)
    return jnp.where(jnp.asarray(flip), mirrored, pose)


def _whole_median(frames: Array) -> Array:
    """Return the median over time of integers, exactly, rounded half to even."""
    ordered, count = jnp.sort(frames, axis=-4), frames.shape[-4]
    low, high = (
        jax.lax.index_in_dim(ordered, place, axis=ordered.ndim - 4, keepdims=False)
        for place in ((count - 1) // 2, count // 2)
    )
    apart = _distance(low, high)
    middle = low + (apart >> 1).astype(low.dtype)
    # Half-way between two integers, the next one is even if this one is odd.
    return middle + ((apart & 1).astype(low.dtype) & (middle & 1))


def _differs(image: Array, background: Array, threshold: Scalar) -> Array:
    """Return where one channel differs by more than the threshold, (..., H, W)."""
    checks.image_size(image)
    checks.non_negative(threshold, "threshold")
    _check_background(image, background, "background")
    wide = accumulator(image)
    background = jax.lax.expand_dims(background, range(image.ndim - 3))
    difference = _distance(image, background).max(axis=-1).astype(wide)
    return difference > jnp.asarray(threshold).astype(wide)


def _distance(one: Array, other: Array) -> Array:
    """Return how far values are apart, integers exactly, as unsigned ones."""
    if not jnp.issubdtype(one.dtype, jnp.integer):
        wide = accumulator(one)
        return jnp.abs(one.astype(wide) - other.astype(wide))
    # Larger minus smaller may leave a signed dtype, but only to wrap around to what is
    # the true difference once read as unsigned.
    apart = jnp.maximum(one, other) - jnp.minimum(one, other)
    return apart.astype(f"uint{8 * apart.dtype.itemsize}")


def _check_background(image: Array, background: Array, name: str) -> None:
    if background.shape != image.shape[-3:]:
        raise ValueError(
            f"{name} must have the image's size and channels, {image.shape[-3:]}; got "
            f"{background.shape}. Use jax.vmap for one background per image."
        )
    checks.same_dtype(image, background, name)
