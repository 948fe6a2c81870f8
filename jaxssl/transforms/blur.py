"""Gaussian blur of images ``(..., H, W, C)``: two matrix products, or shifted copies.

A depthwise convolution is 10 to 24 times slower than the products on XLA:CPU. There the
sum of shifted copies of the image is up to 3.5 times faster than the products, if the
radius is small; on other devices the products stay.
"""

import functools
import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.color import computed
from jaxssl.transforms.sampling import restore
from jaxssl.types import Array, Float, Key

SHARPEST = 1 / 2048
"""Smallest variance: below it the neighbours' weights are 0 in float64 already."""

NARROW = 16
"""Largest radius, in pixels, of shifted copies: with 30 pixels they take 7 times as
long as the products at a side of 128."""

SIDES_PER_RADIUS = 8
"""Smallest side, in radii, of images whose copies are shifted: at this one both forms
take the same time."""


class BlurParams(NamedTuple):
    """How much to blur.

    Attributes:
      sigma: float32 scalar, standard deviation in pixels; 0 keeps the image.
    """

    sigma: Float[Array, ""]


def gaussian_blur(
    image: Float[Array, "*lead h w c"], sigma: Scalar, *, radius: int = 8
) -> Float[Array, "*lead h w c"]:
    """Blur by a Gaussian that is cut off at ``radius`` pixels.

    The image is continued by its mirror image about the centres of the outermost
    pixels, so that the border is as bright as the rest. The weights add up to 1. They
    are computed in float32 (float64 if an input is); the dtype is kept. Differentiable
    in the image and in sigma.

    The cut makes the blur narrower than asked for: its standard deviation is about 0.9
    sigma at a radius of 2 sigma, 0.99 at 3 sigma and 1.00 at 4 sigma.

    Args:
      image: floating-point, any value range and number of channels.
      sigma: standard deviation in pixels; may be traced.
      radius: static; less than both sides of the image. The default serves the sigmas
        up to 2 that `gaussian_blur_params` draws. On a CPU a radius below an eighth of
        the sides saves time; else time does not depend on it.

    Returns:
      The blurred image.

    Raises:
      TypeError: if the image is not of floating point or the radius not whole.
      ValueError: if the radius does not fit, or sigma is a negative Python number.
    """
    size = checks.image_size(image)
    checks.floating(image, "gaussian_blur")
    checks.non_negative(sigma, "sigma")
    _check_radius(radius, size)
    wide, sigma = computed(image, sigma)
    narrow = radius <= min(NARROW, min(size) // SIDES_PER_RADIUS)
    blur = _narrow_blur if narrow else _multiplied
    return restore(blur(wide, _taps(sigma, radius)), image.dtype)


def gaussian_blur_params(
    key: Key[Array, ""], *, sigma: tuple[Scalar, Scalar] = (0.1, 2.0)
) -> BlurParams:
    """Draw a standard deviation, uniform in [low, high).

    Args:
      key: a typed key.
      sigma: (low, high) in pixels; may be traced.

    Returns:
      The standard deviation.

    Raises:
      ValueError: if the pair is reversed or holds a negative Python number.
    """
    checks.interval(sigma, "sigma")
    low, high = sigma
    checks.non_negative(low, "sigma")
    return BlurParams(low + (high - low) * jax.random.uniform(key, ()))


def random_gaussian_blur(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    sigma: tuple[Scalar, Scalar] = (0.1, 2.0),
    radius: int = 8,
) -> tuple[Float[Array, "*lead h w c"], BlurParams]:
    """Blur at random; see `gaussian_blur_params` and `gaussian_blur`.

    Returns:
      The image and the standard deviation.
    """
    params = gaussian_blur_params(key, sigma=sigma)
    return gaussian_blur(image, *params, radius=radius), params


def _taps(sigma: Array, radius: int) -> Array:
    """Return the weights at distances 0 to ``radius``; both sides add up to 1."""
    distance = jnp.arange(radius + 1, dtype=sigma.dtype)
    variance = jnp.maximum(sigma**2, SHARPEST)
    weights = jnp.exp(-(distance**2) / (2 * variance))
    return weights / (2 * weights.sum() - weights[0])


def _multiplied(image: Array, taps: Array) -> Array:
    """Blur by a matrix for each axis."""
    # The default precision of accelerators would change an image at sigma 0.
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    height, width = image.shape[-3:-1]
    image = product("ij,...jwc->...iwc", _matrix(taps, height), image)
    return product("ij,...hjc->...hic", _matrix(taps, width), image)


@jax.custom_jvp
def _narrow_blur(image: Array, taps: Array) -> Array:
    """Blur in the form that is fast where the program runs."""
    return jax.lax.platform_dependent(image, taps, cpu=_shifted, default=_multiplied)


@_narrow_blur.defjvp
def _narrow_blur_jvp(primals, tangents):
    # The derivative of shifted copies is 3 times slower than that of the products.
    return _narrow_blur(*primals), jax.jvp(_multiplied, primals, tangents)[1]


def _shifted(image: Array, taps: Array) -> Array:
    """Blur by adding up shifted copies, down and then across.

    A row of pixels is one line of numbers: XLA:CPU adds numbers that lie side by side
    many at once, but no three channels.
    """
    *lead, height, width, channels = image.shape
    radius, kept = len(taps) - 1, [(0, 0)] * len(lead)

    def add(padded, axis, step, length):
        def copy(offset):
            start = (radius + offset) * step
            return jax.lax.slice_in_dim(padded, start, start + length, axis=axis)

        total = taps[0] * copy(0)
        for k in range(1, radius + 1):
            total = total + taps[k] * (copy(-k) + copy(k))
        return total

    ends = (radius, radius)
    padded = jnp.pad(image, [*kept, ends, (0, 0), (0, 0)], mode="reflect")
    down = add(padded.reshape(*lead, height + 2 * radius, -1), len(lead), 1, height)
    down = down.reshape(image.shape)
    padded = jnp.pad(down, [*kept, (0, 0), ends, (0, 0)], mode="reflect")
    rows = padded.reshape(*lead, height, -1)
    return add(rows, len(lead) + 1, channels, width * channels).reshape(image.shape)


def _matrix(taps: Array, side: int) -> Array:
    """Return the (side, side) matrix that blurs along one axis."""
    places = jnp.asarray(_places(taps.shape[0] - 1, side), taps.dtype)
    return jnp.einsum("k,kij->ij", taps, places, precision=jax.lax.Precision.HIGHEST)


@functools.lru_cache(maxsize=16)
def _places(radius: int, side: int) -> np.ndarray:
    """Count how often pixel j lies at distance k of pixel i, mirror images included.

    Returns:
      (radius + 1, side, side), indexed by k, i, j.
    """
    places = np.zeros((radius + 1, side, side), np.int8)
    row = np.arange(side)
    for offset in range(-radius, radius + 1):
        seen = np.abs(row + offset)
        seen = np.where(seen < side, seen, 2 * (side - 1) - seen)
        places[abs(offset), row, seen] += 1  # For one offset, no place comes twice.
    places.flags.writeable = False
    return places


def _check_radius(radius: Any, size: checks.Size) -> None:
    if not isinstance(radius, numbers.Integral):
        raise TypeError(
            f"radius must be a Python integer, as it is static; got {radius}. Pass it "
            "outside of the traced arguments."
        )
    if not 0 <= int(radius) < min(size):
        raise ValueError(
            f"radius must be at least 0 and less than both sides of the image of "
            f"{size[0]}x{size[1]}; got {radius}. Pass a smaller radius."
        )
