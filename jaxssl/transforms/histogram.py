"""Autocontrast and equalization of images ``(..., H, W, C)``: curves by the histogram.

Each channel of each image has its own curve, also where images share the decision to
apply it. Images, ``value_range`` and dtypes are those of `jaxssl.transforms.color`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.color import ValueRange, check, computed, finished
from jaxssl.transforms.sampling import inside
from jaxssl.transforms.tone import LEVELS, from_levels, to_levels
from jaxssl.types import Array, Bool, Float, Key

NARROWEST = 1e-12
"""A channel whose values differ by no more than this is flat."""


class AutocontrastParams(NamedTuple):
    """Whether to stretch the contrast.

    Attributes:
      stretched: bool scalar; false keeps the image.
    """

    stretched: Bool[Array, ""]


class EqualizeParams(NamedTuple):
    """Whether to equalize the histogram.

    Attributes:
      equalized: bool scalar; false keeps the image.
    """

    equalized: Bool[Array, ""]


# --- Autocontrast


def autocontrast(
    image: Float[Array, "*lead h w c"],
    stretched: Bool[Array, ""] | bool = True,
    *,
    value_range: ValueRange = (0.0, 1.0),
) -> Float[Array, "*lead h w c"]:
    """Stretch each channel so that its smallest value is black, its largest white.

    As Pillow's ``ImageOps.autocontrast``, but without its rounding down to whole
    levels. A channel of one value stays as it is. Differentiable in the image.

    Args:
      image: floating-point, in ``value_range``, any number of channels.
      stretched: whether to do it; may be traced.
      value_range: black and white; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point.
      ValueError: if the range is reversed or ``stretched`` is not a single value.

    References:
      Cubuk et al., "AutoAugment", 2019.
    """
    check(image, value_range, "autocontrast")
    checks.scalar(stretched, "stretched")
    wide, stretched = computed(image, stretched)
    low, high = value_range
    darkest = wide.min(axis=(-3, -2), keepdims=True)
    span = wide.max(axis=(-3, -2), keepdims=True) - darkest
    is_flat = span <= NARROWEST
    share = (wide - darkest) / jnp.where(is_flat, 1, span)
    applied = jnp.where(is_flat, 0, stretched)
    values = applied * (low + (high - low) * share) + (1 - applied) * wide
    return finished(values, image, value_range)


def autocontrast_params(
    key: Key[Array, ""], *, prob: Scalar = 0.5
) -> AutocontrastParams:
    """Draw whether to stretch the contrast, with probability ``prob``.

    Raises:
      ValueError: if ``prob`` is a Python number outside [0, 1].
    """
    checks.probability(prob, "prob")
    return AutocontrastParams(jax.random.bernoulli(key, prob))


def random_autocontrast(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    prob: Scalar = 0.5,
    value_range: ValueRange = (0.0, 1.0),
) -> tuple[Float[Array, "*lead h w c"], AutocontrastParams]:
    """Stretch the contrast with probability ``prob``; see `autocontrast`.

    Returns:
      The image and whether its contrast is stretched.
    """
    params = autocontrast_params(key, prob=prob)
    return autocontrast(image, *params, value_range=value_range), params


# --- Equalize


def equalize(
    image: Float[Array, "*lead h w c"],
    equalized: Bool[Array, ""] | bool = True,
    *,
    value_range: ValueRange = (0.0, 1.0),
) -> Float[Array, "*lead h w c"]:
    """Spread the 256 levels of each channel evenly, as Pillow's ``ImageOps.equalize``.

    Values between two levels are rounded first. A channel with fewer than 255 pixels
    below its brightest level stays as it is, as in Pillow.
    Piecewise constant: the gradient in the image is 0 where it is equalized, else 1.

    Args:
      image: floating-point, in ``value_range``, any number of channels.
      equalized: whether to do it; may be traced.
      value_range: black and white; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point.
      ValueError: if the range is reversed or ``equalized`` is not a single value.

    References:
      Cubuk et al., "AutoAugment", 2019.
    """
    check(image, value_range, "equalize")
    checks.scalar(equalized, "equalized")
    wide, equalized = computed(image, equalized)
    index = _index(to_levels(wide, value_range).astype(jnp.int32))
    below, step = _below(index, image.shape, wide.dtype)
    # Divided after the look-up: XLA:CPU would compute a table anew for each pixel.
    safe = jnp.maximum(step, 1)
    level = jnp.floor((inside(below, index, -1) + jnp.floor(safe / 2)) / safe)
    spread = from_levels(jnp.minimum(level, LEVELS - 1), value_range)
    applied = jnp.where(step > 0, equalized, 0)
    return finished(applied * spread + (1 - applied) * wide, image, value_range)


def equalize_params(key: Key[Array, ""], *, prob: Scalar = 0.5) -> EqualizeParams:
    """Draw whether to equalize the histogram, with probability ``prob``.

    Raises:
      ValueError: if ``prob`` is a Python number outside [0, 1].
    """
    checks.probability(prob, "prob")
    return EqualizeParams(jax.random.bernoulli(key, prob))


def random_equalize(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    prob: Scalar = 0.5,
    value_range: ValueRange = (0.0, 1.0),
) -> tuple[Float[Array, "*lead h w c"], EqualizeParams]:
    """Equalize the histogram with probability ``prob``; see `equalize`.

    Returns:
      The image and whether its histogram is equalized.
    """
    params = equalize_params(key, prob=prob)
    return equalize(image, *params, value_range=value_range), params


def _index(levels: Array) -> Array:
    """Return each pixel's place in the histograms of all channels of all images."""
    lead, channels = levels.shape[:-3], levels.shape[-1]
    first = LEVELS * np.arange(math.prod(lead) * channels, dtype=np.int32)
    return levels + jnp.asarray(first.reshape(*lead, 1, 1, channels))


def _below(index: Array, shape: tuple[int, ...], dtype) -> tuple[Array, Array]:
    """Count the pixels of each channel that are darker than each level.

    With n_j pixels of level j, the largest that occurs left out of N, and a step of
    N // 255 pixels, level i becomes (step // 2 + n_0 + ... + n_{i-1}) // step.

    Returns:
      n_0 + ... + n_{i-1} in the places of ``index``, and the step (*lead, 1, 1, c).
    """
    lead, channels = shape[:-3], shape[-1]
    counts = jnp.zeros(math.prod(lead) * channels * LEVELS, jnp.int32)
    counts = counts.at[index.reshape(-1)].add(1, mode="promise_in_bounds")
    counts = counts.reshape(*lead, channels, LEVELS).astype(dtype)
    below = jnp.cumsum(counts, axis=-1) - counts
    others = jnp.where(counts > 0, below, 0).max(axis=-1)
    step = jnp.floor(others / (LEVELS - 1))
    return below.reshape(-1), step.reshape(*lead, 1, 1, channels)
