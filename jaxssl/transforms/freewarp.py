"""Smooth random warps by control points anywhere in the image.

The variant of the code released with thesis chapter 4; prefer `jaxssl.transforms.warp`
unless it is to be matched: about half of the warps with free points fold.
"""

import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks, polyharmonic
from jaxssl.transforms.checks import PerChannel, Scalar, Size
from jaxssl.transforms.sampling import CoordMap, bilinear_sample, pixel_grid
from jaxssl.types import Array, Float, Key, Shaped


class FreeWarpParams(NamedTuple):
    """Control points anywhere in the image, and where they move.

    Attributes:
      points: (y, x) in the input; 0 and 1 are the outermost pixel centres.
      offsets: (y, x) as a fraction of height and width. The output shows, at
        p + offset, the input at control point p.
    """

    points: Float[Array, "n 2"]
    offsets: Float[Array, "n 2"]


def free_warp_params(
    key: Key[Array, ""], *, num_points: int = 16, magnitude: Scalar = 1 / 16
) -> FreeWarpParams:
    """Draw control points over the whole image and an offset for each of them.

    Nothing keeps two points from lying close together, where the spline becomes steep:
    with the defaults half of the warps fold and the longest flow vector of a 64-pixel
    image is 8 pixels in the median, 16 in the 95th percentile and 35 at worst. Prefer
    `warp_params` unless the released code is to be matched.

    Args:
      key: a typed key.
      num_points: static, at least 3.
      magnitude: offsets are uniform in [-magnitude, magnitude), as a fraction of the
        side; may be traced.

    Returns:
      Points uniform in [0, 1) and their offsets, float32.

    Raises:
      ValueError: for too few points or if the magnitude is a negative Python number.
    """
    _check_points(num_points)
    checks.non_negative(magnitude, "magnitude")
    points, offsets = jax.random.uniform(key, (2, num_points, 2))
    return FreeWarpParams(points, magnitude * (2 * offsets - 1))


def free_warp(
    image: Shaped[Array, "*lead h w c"],
    params: FreeWarpParams,
    *,
    regularization: Scalar = 0.0,
    stride: int = 1,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Warp an image by a thin-plate spline through control points anywhere.

    The warp of the code released with thesis chapter 4: the spline is centred on the
    moved points, as in TensorFlow Addons' ``sparse_image_warp``. Any dtype (kept) and
    value range; differentiable in the image and in both parameters.

    Args:
      image: one image, or several that share the parameters.
      params: control points and offsets.
      regularization: see `free_warp_flow`.
      stride: see `free_warp_flow`.
      border: see `jaxssl.transforms.bilinear_sample`.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The warped image.

    Raises:
      ValueError: if the rank, the points, the stride, the border or ``fill`` is wrong.
    """
    size = checks.image_size(image)
    flow = free_warp_flow(params, size, regularization=regularization, stride=stride)
    return bilinear_sample(image, pixel_grid(size) + flow, border=border, fill=fill)


def random_free_warp(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    num_points: int = 16,
    magnitude: Scalar = 1 / 16,
    regularization: Scalar = 0.0,
    stride: int = 1,
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Shaped[Array, "*lead h w c"], FreeWarpParams]:
    """Warp an image at random control points; see `free_warp_params`, `free_warp`.

    Returns:
      The warped image, the control points and their offsets.
    """
    params = free_warp_params(key, num_points=num_points, magnitude=magnitude)
    warped = free_warp(
        image,
        params,
        regularization=regularization,
        stride=stride,
        border=border,
        fill=fill,
    )
    return warped, params


def free_warp_flow(
    params: FreeWarpParams,
    size: int | tuple[int, int],
    *,
    regularization: Scalar = 0.0,
    stride: int = 1,
) -> Float[Array, "h w 2"]:
    """Return the dense backward flow of a warp by free control points.

    Args:
      params: control points and offsets. The points must not lie on one line; two that
        coincide need ``regularization``.
      size: static side, or (height, width), at least 2.
      regularization: Tikhonov term of the spline, with distances in units of the
        longer side; 0 interpolates, 0.01 tames close pairs of points. May be traced.
      stride: static. 1 evaluates the spline at every pixel. A larger one evaluates it
        at every ``stride``-th pixel and interpolates linearly in between: at 64
        pixels 2 is half as costly and 4 a third, with a mean error of 0.014 (0.007 at
        128 pixels) and 0.056 (0.029) pixels; where points lie close together the
        error reaches several pixels.

    Returns:
      (y, x) in pixels, to be added to the output position.

    Raises:
      ValueError: if the points, the size or the stride is wrong, or ``regularization``
        is a negative Python number.
    """
    size = checks.size_pair(size)
    checks.non_negative(regularization, "regularization")
    if not isinstance(stride, numbers.Integral) or stride < 1:
        raise ValueError(
            f"stride must be an integer of at least 1; got {stride}. 1 is exact."
        )
    # The last node lies past the last pixel, so that each pixel is between two.
    nodes = (
        size if stride == 1 else (-(-size[0] // stride) + 1, -(-size[1] // stride) + 1)
    )
    flow = _free_flow_at(pixel_grid(nodes) * stride, params, size, regularization)
    return flow if stride == 1 else polyharmonic.upsample(flow, stride, size)


def free_warp_coords(
    params: FreeWarpParams, *, regularization: Scalar = 0.0
) -> CoordMap:
    """Return the coordinate form of `free_warp`, evaluated exactly (stride 1)."""
    checks.non_negative(regularization, "regularization")

    def pull(coords, size):
        return coords + _free_flow_at(coords, params, size, regularization)

    return CoordMap(pull)


def _free_flow_at(coords, params: FreeWarpParams, size: Size, regularization):
    """Return the backward flow of a free warp at any positions."""
    _check_points(params.points.shape[0])
    polyharmonic.check_size(size)
    points, offsets = map(jnp.asarray, params)
    last = jnp.array([size[0] - 1, size[1] - 1], points.dtype)[None]
    shift = offsets * polyharmonic.sides(size, offsets.dtype)
    moved = (points * last + shift) / polyharmonic.scale(size)
    weights = polyharmonic.solve(moved, -shift, 2, regularization)
    places = coords / polyharmonic.scale(size)
    return polyharmonic.evaluate(places, moved, weights, 2)


def _check_points(count: int) -> None:
    if count < 3:
        raise ValueError(
            f"num_points must be at least 3, as the spline has an affine part; got "
            f"{count}. Add points whose offset is 0."
        )
