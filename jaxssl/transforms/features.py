"""Damage to feature maps ``(..., M, N, L)`` (thesis section 3.3.1).

Whole cells are dropped, all channels together, and become the local average of the
undamaged features. Masks are true where a cell is kept.
"""

import numbers

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.sampling import accumulator, restore
from jaxssl.types import Array, Bool, Float, Key, Shaped


def drop_mask(
    key: Key[Array, ""], shape: int | tuple[int, int], keep_prob: Scalar
) -> Bool[Array, "m n"]:
    """Draw which cells of a feature map are kept.

    Args:
      key: a typed key.
      shape: static (M, N), or one side.
      keep_prob: probability that a cell is kept, 1 - theta; may be traced.

    Returns:
      Omega: true where the cell is kept, each cell by itself.

    Raises:
      ValueError: if ``keep_prob`` is a Python number outside [0, 1] or the shape is
        not one of a map.
      TypeError: if the shape is not whole.

    References:
      Omega, thesis section 3.3.1.
    """
    checks.probability(keep_prob, "keep_prob")
    return jax.random.bernoulli(key, keep_prob, checks.size_pair(shape, "shape"))


def local_average(
    features: Float[Array, "*lead m n l"], *, size: int = 3
) -> Float[Array, "*lead m n l"]:
    """Average each channel over a square window around each cell.

    At the border the window shrinks to what lies on the map, so that the result is an
    average of features everywhere, as the thesis asks for; zeros around the map would
    darken the border and give the damage away. A window of 2 max(M, N) - 1 cells or
    more averages the whole map.

    Written as sums of shifted maps, along one axis after the other: on a CPU a
    depthwise convolution is tens of times slower.

    Args:
      features: any value range; averaged in float32 (float64 if they are).
      size: static side of the window, odd. The thesis has "a large uniform kernel", the
        released code 3.

    Returns:
      The averages.

    Raises:
      ValueError: if the rank is wrong, or the size is not an odd number above 0.
      TypeError: if the features are not of floating point.

    References:
      u * phi(x), thesis section 3.3.1.
    """
    rows, columns = checks.image_size(features)
    checks.floating(features, "local_average")
    if not isinstance(size, numbers.Integral) or size < 1 or size % 2 == 0:
        raise ValueError(
            f"size must be an odd Python int, so that the window has a centre; got "
            f"{size}."
        )
    wide = features.astype(accumulator(features))
    for axis, cells in ((-3, rows), (-2, columns)):
        wide = _average_along(wide, axis, cells, size // 2)
    return restore(wide, features.dtype)


def damage(
    features: Float[Array, "*lead m n l"], mask: Bool[Array, "m n"], *, size: int = 3
) -> Float[Array, "*lead m n l"]:
    """Replace dropped cells by the local average of the undamaged features.

    Omega * phi + (1 - Omega) * (u * phi); kept cells are returned bit by bit.

    Args:
      features: any value range.
      mask: true where a cell is kept, for all channels and leading axes; `jax.vmap` for
        masks that differ. See `drop_mask`.
      size: side of the averaging window; see `local_average`.

    Returns:
      The damaged features.

    Raises:
      ValueError: if the mask's shape is not the map's; else see `local_average`.
      TypeError: if the mask is not boolean; else see `local_average`.

    References:
      phi-hat, thesis section 3.3.1.

    Example:
      >>> import jax.numpy as jnp
      >>> features = jnp.array([[[1.0], [2.0], [6.0]]])
      >>> damage(features, jnp.array([[True, False, True]]))[..., 0]
      Array([[1., 3., 6.]], dtype=float32)
    """
    if mask.shape != checks.image_size(features):
        raise ValueError(
            f"mask must have the map's shape {features.shape[-3:-1]}; got {mask.shape}."
            " Use jax.vmap for one mask per example."
        )
    if mask.dtype != jnp.bool_:
        raise TypeError(
            f"mask must be boolean, true where a cell is kept; got {mask.dtype}. "
            "Compare it first, as in mask > 0."
        )
    mask = jax.lax.expand_dims(mask[..., None], range(features.ndim - 3))
    return jnp.where(mask, features, local_average(features, size=size))


def upsample_mask(
    mask: Shaped[Array, "*lead m n"], factor: int = 2
) -> Shaped[Array, "*lead m2 n2"]:
    """Enlarge a mask by repeating each cell (nearest neighbour).

    Args:
      mask: any dtype.
      factor: static whole factor, for both axes.

    Returns:
      The mask, (..., factor M, factor N).

    Raises:
      ValueError: if the rank is wrong or the factor is below 1.
      TypeError: if the factor is not a Python integer.

    References:
      "We upsample the mask with the nearest neighbor method", thesis section 3.3.1.
    """
    checks.count(factor, "factor")
    if mask.ndim < 2:
        raise ValueError(
            f"mask must have the axes (..., M, N); got shape {mask.shape}."
        )
    *lead, rows, columns = mask.shape
    cells = jnp.broadcast_to(
        mask[..., :, None, :, None], (*lead, rows, factor, columns, factor)
    )
    return cells.reshape(*lead, rows * factor, columns * factor)


def _average_along(features: Array, axis: int, cells: int, reach: int) -> Array:
    """Average along one axis over the neighbours within reach that lie on the map."""
    reach = min(reach, cells - 1)
    padding = [(0, 0)] * features.ndim
    padding[axis] = (reach, reach)
    padded = jnp.pad(features, padding)
    axis = features.ndim + axis
    shifted = (
        jax.lax.slice_in_dim(padded, start, start + cells, axis=axis)
        for start in range(2 * reach + 1)
    )
    index = np.arange(cells)
    counts = np.minimum(index, reach) + 1 + np.minimum(cells - 1 - index, reach)
    shape = [1] * features.ndim
    shape[axis] = cells
    return sum(shifted) / jnp.asarray(counts.reshape(shape), features.dtype)
