"""Cut patches out, erase their centre, and put them back (thesis section 4.2.1)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import IntScalar
from jaxssl.transforms.crops import crop
from jaxssl.types import Array, Bool, Int, Shaped


def extract_patch(
    image: Shaped[Array, "*lead height width c"],
    top_left: Int[Array, "2"] | tuple[IntScalar, IntScalar],
    size: int | tuple[int, int],
) -> Shaped[Array, "*lead h w c"]:
    """Cut a patch out of an image; `jaxssl.transforms.crop` under its other name.

    Args:
      image: any dtype and value range.
      top_left: (y, x) of the patch's first pixel, an array or a pair of numbers. What
        is traced is moved into the image where the patch would stick out.
      size: static side, or (height, width), of the patch.

    Returns:
      The patch.

    Raises:
      ValueError: if the patch is larger than the image or sticks out of it.
      TypeError: if ``top_left`` is not whole.
    """
    return crop(image, top_left, size)


def paste_patch(
    image: Shaped[Array, "*lead height width c"],
    patch: Shaped[Array, "*lead h w c"],
    top_left: Int[Array, "2"] | tuple[IntScalar, IntScalar],
) -> Shaped[Array, "*lead height width c"]:
    """Put a patch into an image, exactly; undoes `extract_patch`.

    Differentiable in the image and in the patch.

    Args:
      image: any dtype and value range.
      patch: of the same dtype, not larger than the image.
      top_left: (y, x) of the patch's first pixel; see `extract_patch`.

    Returns:
      The image with the patch in place.

    Raises:
      ValueError: if the patch is larger than the image or sticks out of it.
      TypeError: if the dtypes differ or ``top_left`` is not whole.
    """
    size, image_size = checks.image_size(patch), checks.image_size(image)
    checks.fits(size, image_size, "patch")
    checks.same_dtype(image, patch, "patch")
    if (*patch.shape[:-3], patch.shape[-1]) != (*image.shape[:-3], image.shape[-1]):
        raise ValueError(
            "patch must have the image's channels and leading axes; got "
            f"{patch.shape} for an image of {image.shape}."
        )
    start = checks.corner(top_left, size, image_size)
    covered = []
    for axis in (0, 1):
        index = jnp.arange(image_size[axis], dtype=jnp.int32) - start[axis]
        covered.append((index >= 0) & (index < size[axis]))
        patch = jnp.take(patch, index, axis=axis - 3, mode="clip")
    mask = (covered[0][:, None] & covered[1][None, :])[..., None]
    mask = jax.lax.expand_dims(mask, range(image.ndim - 3))
    return jnp.where(mask, patch, image)


def border_mask(size: int | tuple[int, int], border: int) -> Bool[Array, "h w"]:
    """Return a mask that is true on the border of a patch.

    Args:
      size: static side, or (height, width), of the patch.
      border: width of the border, in pixels; static.

    Returns:
      True on the border, False in the centre.

    Raises:
      ValueError: if no border or no centre would remain.
      TypeError: if an argument is not a Python integer.

    References:
      The border of equation 4.4, thesis section 4.2.1.
    """
    size = checks.size_pair(size)
    _check_border(size, border)
    inside = []
    for side in size:
        index = np.arange(side)
        inside.append((index >= border) & (index < side - border))
    return jnp.asarray(~(inside[0][:, None] & inside[1][None, :]))


def erase_center(
    patch: Shaped[Array, "*lead h w c"],
    noise: Shaped[Array, "*lead h2 w2 c"],
    border: int,
) -> Shaped[Array, "*lead h w c"]:
    """Replace all but the border of a patch by noise.

    Args:
      patch: any dtype and value range.
      noise: what the centre becomes, of the same dtype: only the centre's pixels,
        (..., h - 2 border, w - 2 border, C), as drawing noise costs more than all else.
      border: width of what remains, in pixels; static.

    Returns:
      The patch with its centre replaced.

    Raises:
      ValueError: if the border is too wide or the noise does not fill the centre.
      TypeError: if the dtypes differ.

    References:
      Limited context inpainting, thesis section 4.2.1.
    """
    height, width = checks.image_size(patch)
    _check_border((height, width), border)
    checks.same_dtype(patch, noise, "noise")
    centre = (height - 2 * border, width - 2 * border, patch.shape[-1])
    if noise.shape != (*patch.shape[:-3], *centre):
        raise ValueError(
            f"noise must fill the centre, (..., {', '.join(map(str, centre))}); got "
            f"{noise.shape} for a patch of {patch.shape} with border {border}."
        )
    start = (*(0 for _ in patch.shape[:-3]), border, border, 0)
    return jax.lax.dynamic_update_slice(patch, noise, start)


def _check_border(size: checks.Size, border: Any) -> None:
    checks.count(border, "border")
    if 2 * border >= min(size):
        raise ValueError(
            f"border must leave a centre, 2 * border < {min(size)} for a patch of "
            f"{size[0]}x{size[1]}; got border={border}. Make the border narrower."
        )
