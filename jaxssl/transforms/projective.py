"""Affine and perspective maps of images ``(..., H, W, C)``: straight lines stay so.

The functions of a transform are those of `jaxssl.transforms.geometric`. Parameters are
fractions of the sides, so that they fit images of any size.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks, polyharmonic
from jaxssl.transforms.checks import PerChannel, Scalar, Size
from jaxssl.transforms.geometric import rotate_coords
from jaxssl.transforms.sampling import CoordMap, as_real, geometric_chain
from jaxssl.types import Array, Float, Key, Shaped

HORIZON = 1e-6
"""Smallest depth: what lies behind the horizon is taken from far outside."""


class AffineParams(NamedTuple):
    """How an image is sheared, scaled, turned and moved, in this order.

    Angle, translation and shear of 0 with a scale of 1 keep the image.

    Attributes:
      angle: float32 scalar, radians, counter-clockwise.
      translate: float32 (y, x), as fractions of height and width, down and to the
        right.
      scale: float32 scalar, above 0; above 1 the image is enlarged.
      shear: float32 (y, x): a pixel moves down by ``y`` times its distance to the right
        of the centre, and to the right by ``x`` times its distance below. The tangent
        of the angle by which an edge turns.
    """

    angle: Float[Array, ""]
    translate: Float[Array, "2"]
    scale: Float[Array, ""]
    shear: Float[Array, "2"]


class PerspectiveParams(NamedTuple):
    """Where the corners of the image go.

    Attributes:
      offsets: float32 (y, x) by which the corners move, as fractions of height and
        width: those of the upper row from left to right, then those of the lower row.
        Corners are the centres of the outermost pixels. Offsets of 0 keep the image.
    """

    offsets: Float[Array, "2 2 2"]


# --- Affine maps


def affine(
    image: Shaped[Array, "*lead h w c"],
    params: AffineParams,
    *,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Shear, scale and turn about the centre, then move; bilinear interpolation.

    Shear x comes before shear y, as in torchvision's affine. Any value range;
    differentiable in the image and in the parameters. Shrunk images are not averaged:
    use `jaxssl.transforms.resize` for that.

    Args:
      image: one image, or several that share the parameters.
      params: angle, translation, scale and shear; numbers do, too.
      border: see `jaxssl.transforms.bilinear_sample`.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The image, as large as the input.

    Raises:
      ValueError: if the rank of the image, the border, ``fill`` or a parameter is
        wrong, or the scale is a Python number that is not positive.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxssl import transforms as T
      >>> image = jnp.arange(4.0).reshape(1, 4, 1)
      >>> right = T.AffineParams(0, (0, 0.25), 1, (0, 0))
      >>> T.affine(image, right, border="constant", fill=9)[0, :, 0]
      Array([9., 0., 1., 2.], dtype=float32)
    """
    return geometric_chain(image, [affine_coords(params)], border=border, fill=fill)


def affine_coords(params: AffineParams) -> CoordMap:
    """Return the coordinate form of `affine`."""
    checks.positive(params.scale, "scale")
    turn = rotate_coords(params.angle)
    translate = checks.pair(params.translate, "translate")
    shear = checks.pair(params.shear, "shear")

    def pull(coords, size):
        dtype = coords.dtype
        centre = (jnp.array(size, dtype) - 1)[None, None] / 2
        moved = (as_real(translate, dtype) * jnp.array(size, dtype))[None, None]
        turned = turn.pull(coords - moved, size) - centre
        down, across = as_real(shear, dtype)
        y = turned[..., 0] - down * turned[..., 1]
        x = turned[..., 1] - across * y
        return jnp.stack([y, x], axis=-1) / as_real(params.scale, dtype) + centre

    return CoordMap(pull)


def affine_params(
    key: Key[Array, ""],
    *,
    max_angle: Scalar = 0.07 * math.pi,
    max_translate: tuple[Scalar, Scalar] = (0.1, 0.1),
    scale: tuple[Scalar, Scalar] = (0.9, 1.1),
    max_shear: tuple[Scalar, Scalar] = (0.1, 0.1),
) -> AffineParams:
    """Draw all parameters, each uniform and independent of the others.

    Args:
      key: a typed key.
      max_angle: radians; the angle is uniform in [-max_angle, max_angle).
      max_translate: largest (y, x), as fractions of height and width, in both
        directions.
      scale: (low, high).
      max_shear: largest (y, x), in both directions. All may be traced, and 0 (for the
        scale (1, 1)) switches one off.

    Returns:
      The parameters.

    Raises:
      ValueError: if a Python number is out of range, or ``scale`` reversed.
    """
    checks.non_negative(max_angle, "max_angle")
    checks.interval(scale, "scale")
    checks.positive(scale[0], "scale")
    for name, largest in (("max_translate", max_translate), ("max_shear", max_shear)):
        checks.pair(largest, name)
        for value in largest:
            checks.non_negative(value, name)
    uniform = jax.random.uniform(key, (6,))
    both_ways = 2 * uniform - 1
    return AffineParams(
        angle=max_angle * both_ways[0],
        translate=jnp.array(max_translate, uniform.dtype) * both_ways[1:3],
        scale=scale[0] + (scale[1] - scale[0]) * uniform[3],
        shear=jnp.array(max_shear, uniform.dtype) * both_ways[4:],
    )


def random_affine(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    max_angle: Scalar = 0.07 * math.pi,
    max_translate: tuple[Scalar, Scalar] = (0.1, 0.1),
    scale: tuple[Scalar, Scalar] = (0.9, 1.1),
    max_shear: tuple[Scalar, Scalar] = (0.1, 0.1),
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Shaped[Array, "*lead h w c"], AffineParams]:
    """Shear, scale, turn and move at random; see `affine_params` and `affine`.

    Returns:
      The image and the parameters.
    """
    params = affine_params(
        key,
        max_angle=max_angle,
        max_translate=max_translate,
        scale=scale,
        max_shear=max_shear,
    )
    return affine(image, params, border=border, fill=fill), params


# --- Perspective


def perspective(
    image: Shaped[Array, "*lead h w c"],
    params: PerspectiveParams,
    *,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Move the corners, and all else as a picture of a plane; bilinear interpolation.

    Any value range; differentiable in the image and in the offsets.

    Args:
      image: one image, or several that share the offsets; at least 2x2 pixels.
      params: the offsets. The moved corners must make a convex quadrilateral; the
        image is undefined otherwise.
      border: see `jaxssl.transforms.bilinear_sample`. Beyond the horizon of the plane
        there is border, too.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The image, as large as the input.

    Raises:
      ValueError: if the rank or the size of the image, the border, ``fill`` or the
        offsets are wrong.

    References:
      Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989: the map of a
      square to a quadrilateral.
    """
    return geometric_chain(
        image, [perspective_coords(params)], border=border, fill=fill
    )


def perspective_coords(params: PerspectiveParams) -> CoordMap:
    """Return the coordinate form of `perspective`."""
    offsets = jnp.asarray(params.offsets)
    if offsets.shape != (2, 2, 2):
        raise ValueError(
            f"offsets must have the shape (2, 2, 2), (y, x) for each corner; got "
            f"{offsets.shape}. Use jax.vmap or batched for others per example."
        )

    def pull(coords, size):
        matrix = _unprojection(as_real(offsets, coords.dtype), size)
        y, x = coords[..., 0], coords[..., 1]
        down, across, depth = (row[0] * y + row[1] * x + row[2] for row in matrix)
        depth = jnp.maximum(depth, HORIZON)
        return jnp.stack([down, across], axis=-1) / depth[..., None]

    return CoordMap(pull)


def perspective_params(
    key: Key[Array, ""], *, magnitude: Scalar = 0.25
) -> PerspectiveParams:
    """Draw how far each corner moves into the image, uniform in [0, magnitude).

    Down and across are independent. This is the rule of torchvision's
    RandomPerspective, whose ``distortion_scale`` is twice the magnitude, at fractional
    instead of whole pixels.

    Args:
      key: a typed key.
      magnitude: as a fraction of the side, at most 0.5; may be traced.

    Returns:
      The offsets.

    Raises:
      ValueError: if the magnitude is a Python number outside of [0, 0.5].
    """
    checks.non_negative(magnitude, "magnitude")
    checks.at_most(magnitude, 0.5, "magnitude")
    inwards = jnp.array([[[1, 1], [1, -1]], [[-1, 1], [-1, -1]]], jnp.float32)
    return PerspectiveParams(inwards * magnitude * jax.random.uniform(key, (2, 2, 2)))


def random_perspective(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    magnitude: Scalar = 0.25,
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Shaped[Array, "*lead h w c"], PerspectiveParams]:
    """See an image from a random side; see `perspective_params` and `perspective`.

    Returns:
      The image and the offsets.
    """
    params = perspective_params(key, magnitude=magnitude)
    return perspective(image, params, border=border, fill=fill), params


def _unprojection(offsets: Float[Array, "2 2 2"], size: Size) -> Float[Array, "3 3"]:
    """Return the matrix from pixels (y, x, 1) back to pixels, up to its scale.

    In units of the sides, the corners of the unit square go to p, and (v, u) goes to
    (a v + b u + p_00) / (g v + h u + 1) with a, b, g, h such that the four agree.
    """
    polyharmonic.check_size(size)
    last = np.array(size, np.float64) - 1
    square = np.array([[[0, 0], [0, 1]], [[1, 0], [1, 1]]])
    moves = offsets * jnp.array(size / last, offsets.dtype)[None, None]
    corners = jnp.array(square, offsets.dtype) + moves
    left, right = corners[1, 0] - corners[1, 1], corners[0, 1] - corners[1, 1]
    rest = corners[0, 0] + corners[1, 1] - corners[1, 0] - corners[0, 1]

    def area(one, other):
        return one[0] * other[1] - one[1] * other[0]

    g = area(rest, right) / area(left, right)
    h = area(left, rest) / area(left, right)
    a = corners[1, 0] * (1 + g) - corners[0, 0]
    b = corners[0, 1] * (1 + h) - corners[0, 0]
    columns = [
        jnp.append(part, depth) for part, depth in ((a, g), (b, h), (corners[0, 0], 1))
    ]
    # The inverse of a matrix, up to its scale, is made of the products of its columns.
    inverse = jnp.stack([jnp.cross(columns[i - 2], columns[i - 1]) for i in range(3)])
    sides = np.append(last, 1)
    return inverse * jnp.array(sides[:, None] / sides[None, :], offsets.dtype)
