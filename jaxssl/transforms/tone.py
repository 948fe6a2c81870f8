"""Gamma, solarization and posterization of images ``(..., H, W, C)``: tone curves.

Each output value depends on one input value alone. Images, ``value_range`` and dtypes
are those of `jaxssl.transforms.color`. What is defined on 256 levels works on floating
point, too: black is level 0, white is level 255, so that an image of uint8 divided by
255 gives what Pillow gives for the uint8.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import IntScalar, Scalar
from jaxssl.transforms.color import ValueRange, check, computed, finished
from jaxssl.types import Array, Float, Int, Key

LEVELS = 256

DARKEST = 1e-30
"""Share of white up to which `gamma` takes a value for black."""


class GammaParams(NamedTuple):
    """How to bend the scale from black to white.

    Attributes:
      exponent: float32 scalar above 0; 1 keeps the image.
    """

    exponent: Float[Array, ""]


class SolarizeParams(NamedTuple):
    """From where on to invert.

    Attributes:
      threshold: float32 scalar, 0 for black to 1 for white; above 1 keeps the image.
    """

    threshold: Float[Array, ""]


class PosterizeParams(NamedTuple):
    """How many levels to keep.

    Attributes:
      bits: int32 scalar from 0 to 8; 8 keeps the image.
    """

    bits: Int[Array, ""]


# --- Gamma


def gamma(
    image: Float[Array, "*lead h w c"],
    exponent: Scalar,
    *,
    value_range: ValueRange = (0.0, 1.0),
) -> Float[Array, "*lead h w c"]:
    """Raise the share of white to a power: above 1 darkens, below 1 brightens.

    ``black + (white - black) ((image - black) / (white - black)) ** exponent``.
    Differentiable in the image and in the exponent. The slope at black counts as 1, as
    the true one is infinite for exponents below 1.

    Args:
      image: floating-point, in ``value_range``, any number of channels.
      exponent: above 0; 1 keeps the image; may be traced.
      value_range: black and white; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point.
      ValueError: if the range is reversed or ``exponent`` a Python number that is not
        positive.
    """
    check(image, value_range, "gamma")
    checks.positive(exponent, "exponent")
    wide, exponent = computed(image, exponent)
    low, high = value_range
    share = (wide - low) / (high - low)
    log = jnp.log(jnp.where(share > DARKEST, share, 1))
    # A change that is added: an exponent of 1 gives the image bit by bit.
    change = (wide - low) * jnp.expm1((exponent - 1) * log)
    return finished(wide + change, image, value_range)


def gamma_params(
    key: Key[Array, ""], *, exponent: tuple[Scalar, Scalar] = (0.8, 1.25)
) -> GammaParams:
    """Draw an exponent, its logarithm uniform in [log low, log high).

    Args:
      key: a typed key.
      exponent: (low, high), above 0; may be traced.

    Returns:
      The exponent.

    Raises:
      ValueError: if the pair is reversed or holds a Python number that is not positive.
    """
    checks.interval(exponent, "exponent")
    for end in exponent:
        checks.positive(end, "exponent")
    low, high = (jnp.log(jnp.asarray(end, jnp.float32)) for end in exponent)
    return GammaParams(jnp.exp(low + (high - low) * jax.random.uniform(key, ())))


def random_gamma(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    exponent: tuple[Scalar, Scalar] = (0.8, 1.25),
    value_range: ValueRange = (0.0, 1.0),
) -> tuple[Float[Array, "*lead h w c"], GammaParams]:
    """Darken or brighten by a random power; see `gamma_params` and `gamma`.

    Returns:
      The image and the exponent.
    """
    params = gamma_params(key, exponent=exponent)
    return gamma(image, *params, value_range=value_range), params


# --- Solarize


def solarize(
    image: Float[Array, "*lead h w c"],
    threshold: Scalar,
    *,
    value_range: ValueRange = (0.0, 1.0),
) -> Float[Array, "*lead h w c"]:
    """Invert all values from a threshold on, as Pillow's ``ImageOps.solarize``.

    Differentiable in the image: the slope is -1 from the threshold on, else 1.

    Args:
      image: floating-point, in ``value_range``, any number of channels.
      threshold: 0 for black to 1 for white, in any ``value_range`` (level 128 of 255 is
        ``128 / 255``). 0 inverts all, above 1 nothing; at most 2. May be traced.
      value_range: black and white; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point.
      ValueError: if the range is reversed or ``threshold`` a Python number outside of
        [0, 2].

    References:
      Cubuk et al., "AutoAugment", 2019; the views of Grill et al., "Bootstrap Your Own
      Latent", 2020, have a threshold of 0.5.
    """
    check(image, value_range, "solarize", threshold=threshold)
    checks.at_most(threshold, 2, "threshold")
    wide, threshold = computed(image, threshold)
    low, high = value_range
    start = low + (high - low) * threshold
    inverted = jnp.where(wide >= start, (low + high) - wide, wide)
    return finished(inverted, image, value_range)


def solarize_params(
    key: Key[Array, ""], *, threshold: tuple[Scalar, Scalar] = (0.0, 1.0)
) -> SolarizeParams:
    """Draw a threshold, uniform in [low, high).

    Args:
      key: a typed key.
      threshold: (low, high), 0 for black to 1 for white; may be traced.

    Returns:
      The threshold.

    Raises:
      ValueError: if the pair is reversed or holds a Python number outside of [0, 2].
    """
    checks.interval(threshold, "threshold")
    for end in threshold:
        checks.non_negative(end, "threshold")
        checks.at_most(end, 2, "threshold")
    low, high = threshold
    return SolarizeParams(low + (high - low) * jax.random.uniform(key, ()))


def random_solarize(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    threshold: tuple[Scalar, Scalar] = (0.0, 1.0),
    value_range: ValueRange = (0.0, 1.0),
) -> tuple[Float[Array, "*lead h w c"], SolarizeParams]:
    """Invert from a random threshold on; see `solarize_params` and `solarize`.

    Returns:
      The image and the threshold.
    """
    params = solarize_params(key, threshold=threshold)
    return solarize(image, *params, value_range=value_range), params


# --- Posterize


def posterize(
    image: Float[Array, "*lead h w c"],
    bits: IntScalar,
    *,
    value_range: ValueRange = (0.0, 1.0),
) -> Float[Array, "*lead h w c"]:
    """Keep the highest bits of each of 256 levels, as Pillow's ``ImageOps.posterize``.

    Values between two levels are rounded first. Piecewise constant: the gradient in the
    image is 0, or 1 for 8 bits.

    Args:
      image: floating-point, in ``value_range``, any number of channels.
      bits: from 0 (black) to 8 (the image as it is); may be traced, and is then moved
        into this range.
      value_range: black and white; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point or ``bits`` not whole.
      ValueError: if the range is reversed or ``bits`` a Python number outside of 0 to
        8.

    References:
      Cubuk et al., "AutoAugment", 2019.
    """
    check(image, value_range, "posterize")
    bits = checks.within(bits, "bits", 8)
    (wide,) = computed(image)
    step = jnp.left_shift(1, 8 - bits).astype(wide.dtype)
    kept = step * jnp.floor(to_levels(wide, value_range) / step)
    chosen = jnp.where(bits == 8, wide, from_levels(kept, value_range))
    return finished(chosen, image, value_range)


def posterize_params(
    key: Key[Array, ""], *, bits: tuple[IntScalar, IntScalar] = (4, 8)
) -> PosterizeParams:
    """Draw a number of bits, uniform over low, ..., high.

    Args:
      key: a typed key.
      bits: (low, high), both included; may be traced.

    Returns:
      The number of bits.

    Raises:
      TypeError: if an end is not whole.
      ValueError: if the pair is reversed or holds a Python number outside of 0 to 8.
    """
    checks.interval(bits, "bits")
    low, high = (checks.within(end, "bits", 8) for end in bits)
    return PosterizeParams(jax.random.randint(key, (), low, high + 1, jnp.int32))


def random_posterize(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    bits: tuple[IntScalar, IntScalar] = (4, 8),
    value_range: ValueRange = (0.0, 1.0),
) -> tuple[Float[Array, "*lead h w c"], PosterizeParams]:
    """Keep a random number of bits; see `posterize_params` and `posterize`.

    Returns:
      The image and the number of bits.
    """
    params = posterize_params(key, bits=bits)
    return posterize(image, *params, value_range=value_range), params


# --- Shared with `jaxssl.transforms.histogram`


def to_levels(wide: Array, value_range: ValueRange) -> Array:
    """Return the nearest of 256 levels for each value, still as real numbers."""
    low, high = value_range
    share = jnp.clip((wide - low) / (high - low), 0, 1)
    return jnp.round((LEVELS - 1) * share)


def from_levels(level: Array, value_range: ValueRange) -> Array:
    """Return the values of levels."""
    low, high = value_range
    return low + (high - low) * (level / (LEVELS - 1))
