"""Flips, quarter turns and rotations of images ``(..., H, W, C)``.

Each transform ``x`` comes as up to four pure functions: ``x(image, value)`` applies it,
``x_params(key)`` draws the value (a NamedTuple with one field), ``random_x(key,
image)`` does both and returns the parameters too, and ``x_coords(value)`` is its
coordinate form for `jaxssl.transforms.geometric_chain`. To repeat a draw on another
image write ``x(mask, *params)``.

All keep the dtype and share the value over leading axes. Angles turn counter-clockwise
as seen on a screen (rows downwards), as ``np.rot90`` does.
"""

import math
import numbers
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import PerChannel, Scalar, Size
from jaxssl.transforms.sampling import CoordMap, as_real, geometric_chain, inside
from jaxssl.types import Array, Bool, Float, Int, Key, Shaped


class FlipParams(NamedTuple):
    """Whether to mirror the image.

    Attributes:
      flip: bool scalar.
    """

    flip: Bool[Array, ""]


class Rot90Params(NamedTuple):
    """How often to turn by 90 degrees.

    Attributes:
      k: int32 scalar, quarter turns counter-clockwise, 0 to 3 when sampled.
    """

    k: Int[Array, ""]


class RotateParams(NamedTuple):
    """How far to turn.

    Attributes:
      angle: float32 scalar, radians, counter-clockwise.
    """

    angle: Float[Array, ""]


# --- Flips


def hflip(
    image: Shaped[Array, "*lead h w c"], flip: Bool[Array, ""] | bool = True
) -> Shaped[Array, "*lead h w c"]:
    """Mirror left and right, exactly.

    Args:
      image: any dtype and value range.
      flip: whether to do it; may be traced.

    Returns:
      The mirrored image, or the image itself.

    Raises:
      ValueError: if the rank of the image is wrong, or ``flip`` not a single value.
    """
    checks.image_size(image)
    return _flip_axis(image, flip, -2)


def vflip(
    image: Shaped[Array, "*lead h w c"], flip: Bool[Array, ""] | bool = True
) -> Shaped[Array, "*lead h w c"]:
    """Mirror top and bottom, exactly; see `hflip`."""
    checks.image_size(image)
    return _flip_axis(image, flip, -3)


def hflip_coords(flip: Bool[Array, ""] | bool = True) -> CoordMap:
    """Return the coordinate form of `hflip`."""
    checks.scalar(flip, "flip")
    return CoordMap(lambda coords, size: _mirror(coords, flip, 1, size[1]))


def vflip_coords(flip: Bool[Array, ""] | bool = True) -> CoordMap:
    """Return the coordinate form of `vflip`."""
    checks.scalar(flip, "flip")
    return CoordMap(lambda coords, size: _mirror(coords, flip, 0, size[0]))


def hflip_params(key: Key[Array, ""], *, prob: Scalar = 0.5) -> FlipParams:
    """Draw whether to mirror, with probability ``prob``.

    Raises:
      ValueError: if ``prob`` is a Python number outside [0, 1].
    """
    checks.probability(prob, "prob")
    return FlipParams(jax.random.bernoulli(key, prob))


def vflip_params(key: Key[Array, ""], *, prob: Scalar = 0.5) -> FlipParams:
    """Draw whether to mirror, with probability ``prob``; see `hflip_params`."""
    return hflip_params(key, prob=prob)


def random_hflip(
    key: Key[Array, ""], image: Shaped[Array, "*lead h w c"], *, prob: Scalar = 0.5
) -> tuple[Shaped[Array, "*lead h w c"], FlipParams]:
    """Mirror left and right with probability ``prob``; see `hflip`.

    Returns:
      The image and whether it was mirrored.
    """
    params = hflip_params(key, prob=prob)
    return hflip(image, *params), params


def random_vflip(
    key: Key[Array, ""], image: Shaped[Array, "*lead h w c"], *, prob: Scalar = 0.5
) -> tuple[Shaped[Array, "*lead h w c"], FlipParams]:
    """Mirror top and bottom with probability ``prob``; see `random_hflip`."""
    params = vflip_params(key, prob=prob)
    return vflip(image, *params), params


# --- Quarter turns


def rot90(
    image: Shaped[Array, "*lead h w c"], k: Int[Array, ""] | int = 1
) -> Shaped[Array, "*lead h2 w2 c"]:
    """Turn by ``k`` times 90 degrees counter-clockwise, exactly, as ``np.rot90``.

    Args:
      image: any dtype and value range; square if ``k`` is an array.
      k: quarter turns, any sign. A Python int is static; an array may be traced.

    Returns:
      The turned image.

    Raises:
      ValueError: if ``k`` is an array and the image is not square, or ``k`` has axes.
      TypeError: if ``k`` is not whole.

    References:
      The transformations T_1 to T_3 of thesis section 4.2.3.

    Example:
      >>> import jax.numpy as jnp
      >>> rot90(jnp.array([[[1], [2]], [[3], [4]]]))[..., 0]
      Array([[2, 4],
             [1, 3]], dtype=int32)
    """
    size = checks.image_size(image)
    if isinstance(k, numbers.Integral):
        return jnp.rot90(image, int(k), axes=(-3, -2))
    turns = _quarter(k)
    checks.square(size, "rot90 with an array k")
    last = size[0] - 1
    # Counted row by row, the pixel that comes to (y, x) is first + down y + across x.
    # XLA:CPU computes this for every value anew: a rotation of (y, x) is slower.
    steps = [
        (0, last + 1, 1),
        (last, -1, last + 1),
        ((last + 1) ** 2 - 1, -last - 1, -1),
        ((last + 1) * last, 1, -last - 1),
    ]
    first, down, across = jnp.array(steps, jnp.int32)[turns]
    line = jnp.arange(last + 1, dtype=jnp.int32)
    index = first + down * line[:, None] + across * line[None, :]
    return _take(image, index.reshape(-1))


def rot90_coords(k: Int[Array, ""] | int = 1) -> CoordMap:
    """Return the coordinate form of `rot90`."""
    turns = _quarter(k)

    def out_size(size: Size) -> Size:
        if not isinstance(k, numbers.Integral):
            checks.square(size, "rot90 with an array k")
            return size
        return (size[1], size[0]) if k % 2 else size

    def pull(coords, size):
        cos = jnp.array([1, 0, -1, 0], coords.dtype)[turns]
        sin = jnp.array([0, 1, 0, -1], coords.dtype)[turns]
        return _turn(coords, cos, sin, out_size(size), size)

    return CoordMap(pull, out_size)


def rot90_params(key: Key[Array, ""]) -> Rot90Params:
    """Draw the number of quarter turns, uniform over 0, 1, 2, 3."""
    return Rot90Params(jax.random.randint(key, (), 0, 4, jnp.int32))


def random_rot90(
    key: Key[Array, ""], image: Shaped[Array, "*lead h w c"]
) -> tuple[Shaped[Array, "*lead h w c"], Rot90Params]:
    """Turn a square image by a random multiple of 90 degrees; see `rot90`.

    Returns:
      The image and the number of quarter turns.
    """
    params = rot90_params(key)
    return rot90(image, *params), params


def all_rotations(
    image: Shaped[Array, "*lead h w c"],
) -> Shaped[Array, "*lead 4 h w c"]:
    """Stack the image turned by 0, 90, 180 and 270 degrees counter-clockwise.

    Args:
      image: square; any dtype and value range.

    Returns:
      The four images on a new axis in front of height, width and channels.

    Raises:
      ValueError: if the image is not square.

    References:
      RotNet, thesis reference 54.
    """
    checks.square(checks.image_size(image), "all_rotations")
    return jnp.stack([rot90(image, k) for k in range(4)], axis=-4)


# --- Rotations by any angle


def rotate(
    image: Shaped[Array, "*lead h w c"],
    angle: Scalar,
    *,
    border: str = "edge",
    fill: PerChannel = 0,
) -> Shaped[Array, "*lead h w c"]:
    """Turn about the centre by any angle, with bilinear interpolation.

    Any value range; differentiable in the image and in the angle.

    Args:
      image: one image, or several that share the angle.
      angle: radians, counter-clockwise; may be traced.
      border: see `jaxssl.transforms.bilinear_sample`.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The turned image, as large as the input.

    Raises:
      ValueError: if the rank of the image, the border or ``fill`` is wrong, or
        ``angle`` is not a single number.
    """
    return geometric_chain(image, [rotate_coords(angle)], border=border, fill=fill)


def rotate_coords(angle: Scalar) -> CoordMap:
    """Return the coordinate form of `rotate`."""
    checks.scalar(angle, "angle")

    def pull(coords, size):
        turn = as_real(angle, coords.dtype)
        return _turn(coords, jnp.cos(turn), jnp.sin(turn), size, size)

    return CoordMap(pull)


def rotate_params(
    key: Key[Array, ""], *, max_angle: Scalar = 0.07 * math.pi
) -> RotateParams:
    """Draw an angle, uniform in [-max_angle, max_angle).

    Args:
      key: a typed key.
      max_angle: radians; the default is that of the code released with chapter 4.

    Returns:
      The angle.

    Raises:
      ValueError: if ``max_angle`` is a negative Python number.
    """
    checks.non_negative(max_angle, "max_angle")
    return RotateParams(max_angle * jax.random.uniform(key, (), minval=-1, maxval=1))


def random_rotate(
    key: Key[Array, ""],
    image: Shaped[Array, "*lead h w c"],
    *,
    max_angle: Scalar = 0.07 * math.pi,
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Shaped[Array, "*lead h w c"], RotateParams]:
    """Turn about the centre by a random angle; see `rotate`.

    Returns:
      The image and the angle.
    """
    params = rotate_params(key, max_angle=max_angle)
    return rotate(image, *params, border=border, fill=fill), params


# --- Shared


def _flip_axis(image, flip, axis: int):
    known = checks.known(flip, "flip")
    if known is not None:
        return jnp.flip(image, axis) if known else image
    # Indices are chosen, not pixels: a selection between two copies of an image that
    # was gathered just before would run ten times slower on XLA:CPU.
    height, width = image.shape[-3:-1]
    line = jnp.arange(image.shape[axis], dtype=jnp.int32)
    line = jnp.where(flip, line[::-1], line)
    if axis == -3:
        return _take(image, line)
    index = width * jnp.arange(height, dtype=jnp.int32)[:, None] + line[None, :]
    return _take(image, index.reshape(-1))


def _take(image, index):
    """Take rows or pixels, whichever there are as many of as indices.

    They are laid out one after the other. To take columns instead, XLA:CPU writes the
    transposed result and copies it, five times slower.
    """
    flat = image.reshape(*image.shape[:-3], len(index), -1)
    return inside(flat, index, -2).reshape(image.shape)


def _mirror(coords, flip, axis: int, length: int):
    position = [coords[..., 0], coords[..., 1]]
    position[axis] = jnp.where(flip, length - 1 - position[axis], position[axis])
    return jnp.stack(position, axis=-1)


def _quarter(k):
    """Return ``k`` modulo 4."""
    checks.scalar(k, "k")
    return jnp.mod(checks.whole(k, "k"), 4)


def _turn(coords, cos, sin, out_size: Size, in_size: Size):
    """Pull positions back through a counter-clockwise turn about the centres."""
    y = coords[..., 0] - (out_size[0] - 1) / 2
    x = coords[..., 1] - (out_size[1] - 1) / 2
    row = cos * y + sin * x + (in_size[0] - 1) / 2
    column = cos * x - sin * y + (in_size[1] - 1) / 2
    return jnp.stack([row, column], axis=-1)
