"""Polyharmonic splines with an affine part, in two dimensions.

The spline through values v_i at centres c_i is

    f(p) = sum_i w_i phi(|p - c_i|) + a_0 + a_1 y + a_2 x,

phi(r) = r, r^2 log r (the thin plate) or r^3 for order 1, 2 or 3, with the weights
orthogonal to every affine function. It is linear in the values. Where the centres are
known ahead, that linear map is made once on the host in float64: thirty times more
accurate than solving the system in float32 for every image, and only a matrix product
is left to do. Positions are divided by a length before they get here, so that powers
of pixel distances do not spoil the float32 arithmetic.

References:
  Iske, "Multiresolution Methods in Scattered Data Modelling", 2004 (thesis reference
  141).
"""

import functools
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms.checks import Scalar, Size
from jaxssl.types import Array, Float

ORDERS = (1, 2, 3)


def scale(size: Size) -> float:
    """Return the length in pixels that positions are divided by."""
    return float(max(size) - 1)


@functools.lru_cache(maxsize=64)
def grid_centres(grid: tuple[int, int], size: Size) -> np.ndarray:
    """Return a uniform grid over the pixel centres, (n, 2) in units of `scale`."""
    rows = np.linspace(0, size[0] - 1, grid[0])
    columns = np.linspace(0, size[1] - 1, grid[1])
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return _frozen(points.reshape(-1, 2) / scale(size))


@functools.lru_cache(maxsize=64)
def grid_weights(grid: tuple[int, int], size: Size, order: int) -> np.ndarray:
    """Return the map from values on a grid to spline weights, (n + 3, n) float64."""
    centres = grid_centres(grid, size)
    count = len(centres)
    system = _system(centres, order, np)
    return _frozen(np.linalg.solve(system, np.eye(count + 3, count)))


@functools.lru_cache(maxsize=16)
def grid_operator(grid: tuple[int, int], size: Size, order: int) -> np.ndarray:
    """Return the map from values on a grid to every pixel, (h * w, n) float64."""
    pixels = grid_centres(size, size)
    basis = _basis(pixels, grid_centres(grid, size), order, np)
    return _frozen(basis @ grid_weights(grid, size, order))


def solve(
    centres: Float[Array, "n 2"],
    values: Float[Array, "n 2"],
    order: int,
    regularization: Scalar,
) -> Float[Array, "n+3 2"]:
    """Return the spline's weights for traced centres.

    Args:
      centres: in units of `scale`, not all on one line.
      values: what the spline takes at the centres.
      order: 1, 2 or 3; static.
      regularization: Tikhonov term added to the diagonal; above 0 the spline need not
        pass through the values.

    Returns:
      Weights of the n kernels, then of 1, y and x.
    """
    count = centres.shape[0]
    ridge = jnp.diag(jnp.arange(count + 3) < count).astype(centres.dtype)
    system = _system(centres, order, jnp) + regularization * ridge
    return jnp.linalg.solve(system, jnp.pad(values, ((0, 3), (0, 0))))


def evaluate(
    points: Float[Array, "*lead 2"],
    centres: Float[Array, "n 2"],
    weights: Float[Array, "n+3 2"],
    order: int,
) -> Float[Array, "*lead 2"]:
    """Return the spline at any points, in units of `scale`.

    The sum is unrolled over the centres: as one matrix product it is seven times
    slower on XLA:CPU, which then writes the kernel's value for every pixel and centre.
    """
    y, x = points[..., 0], points[..., 1]
    count = centres.shape[0]

    def add(total, centre_and_weight):
        centre, weight = centre_and_weight
        square = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
        kernel = _kernel(square, order, jnp)
        return [total[d] + weight[d] * kernel for d in range(2)], None

    constant, down, across = weights[count], weights[count + 1], weights[count + 2]
    affine = [constant[d] + down[d] * y + across[d] * x for d in range(2)]
    total, _ = jax.lax.scan(add, affine, (centres, weights[:count]), unroll=True)
    return jnp.stack(total, axis=-1)


def sides(size: Size, dtype: jnp.dtype) -> Float[Array, "1 2"]:
    """Return (height, width) as a row, to turn fractions of a side into pixels."""
    return jnp.array(size, dtype)[None]


def check_size(size: Size) -> None:
    """Raise a ValueError if a spline over the pixel centres has no extent."""
    if min(size) < 2:
        raise ValueError(
            f"size must be at least 2x2 for a warp; got {size[0]}x{size[1]}. Leave "
            "smaller images as they are."
        )


def _upsample_rows(
    coarse: Float[Array, "n m 2"], stride: int, length: int
) -> Float[Array, "length m 2"]:
    """Interpolate linearly between rows that lie ``stride`` pixels apart."""
    part = jnp.arange(stride, dtype=coarse.dtype)[None, :, None, None] / stride
    rows = coarse[:-1, None] * (1 - part) + coarse[1:, None] * part
    return rows.reshape(-1, *coarse.shape[1:])[:length]


def upsample(
    coarse: Float[Array, "n m 2"], stride: int, size: Size
) -> Float[Array, "h w 2"]:
    """Interpolate a field known at every ``stride``-th pixel to every pixel."""
    rows = _upsample_rows(coarse, stride, size[0])
    columns = _upsample_rows(jnp.swapaxes(rows, 0, 1), stride, size[1])
    return jnp.swapaxes(columns, 0, 1)


def _kernel(square: Any, order: int, xp: ModuleType) -> Any:
    """Return phi from the squared distance; its derivative at 0 is finite."""
    positive = xp.maximum(square, 1e-30)
    if order == 2:
        return 0.5 * square * xp.log(positive)
    return xp.sqrt(positive) if order == 1 else square * xp.sqrt(positive)


def _basis(points: Any, centres: Any, order: int, xp: ModuleType) -> Any:
    """Return the kernels and the affine part at each point, (m, n + 3)."""
    square = ((points[:, None] - centres[None, :]) ** 2).sum(-1)
    ones = xp.ones_like(points[:, :1])
    return xp.concatenate([_kernel(square, order, xp), ones, points], axis=1)


def _system(centres: Any, order: int, xp: ModuleType) -> Any:
    """Return the symmetric matrix of the interpolation conditions."""
    upper = _basis(centres, centres, order, xp)
    affine = upper[:, len(centres) :]
    lower = xp.concatenate([affine.T, xp.zeros((3, 3), upper.dtype)], axis=1)
    return xp.concatenate([upper, lower], axis=0)


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return the array, protected from writes as callers share the cached one."""
    array.setflags(write=False)
    return array
