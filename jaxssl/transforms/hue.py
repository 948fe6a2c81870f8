"""Hue of images ``(..., H, W, 3)``, as a rotation in YIQ or a shift in HSV."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.color import LUMA, ValueRange, check, computed, finished
from jaxssl.types import Array, Float, Key


class HueParams(NamedTuple):
    """How far to turn the colours.

    Attributes:
      shift: float32 scalar, in turns of the colour circle; 0 keeps the image.
    """

    shift: Float[Array, ""]


def hue(
    image: Float[Array, "*lead h w 3"],
    shift: Scalar,
    *,
    value_range: ValueRange = (0.0, 1.0),
    exact: bool = False,
) -> Float[Array, "*lead h w 3"]:
    """Turn the colours about the grey axis; a third of a turn takes red to green.

    By default a rotation in the YIQ colour space: linear, with finite gradients, and
    keeping the luma. With ``exact`` the hue of HSV is moved, as torchvision and PIL do:
    it keeps the largest channel instead, costs about five times as much, and has kinks
    where channels are equal.

    Args:
      image: floating-point RGB in ``value_range``.
      shift: in turns, positive from red over yellow to green; may be traced.
      value_range: black and white; static.
      exact: whether to move the hue of HSV; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point.
      ValueError: if the channels or the range are wrong, or ``shift`` is not a single
        number.
    """
    check(image, value_range, "hue", (3,))
    checks.scalar(shift, "shift")
    wide, shift = computed(image, shift)
    if exact:
        # The difference of two hues instead of the second: a shift of 0 is exact.
        turned = wide + (
            _with_hue(wide, shift) - _with_hue(wide, jnp.zeros_like(shift))
        )
    else:
        turned = mix_channels(wide, hue_matrix(shift))
    return finished(turned, image, value_range)


def hue_params(key: Key[Array, ""], *, strength: Scalar = 0.1) -> HueParams:
    """Draw a shift, uniform in [-strength, strength).

    Args:
      key: a typed key.
      strength: in turns of the colour circle; may be traced.

    Returns:
      The shift.

    Raises:
      ValueError: if ``strength`` is a Python number outside [0, 0.5].
    """
    check_strength(strength, "strength")
    return HueParams(strength * jax.random.uniform(key, (), minval=-1, maxval=1))


def random_hue(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w 3"],
    *,
    strength: Scalar = 0.1,
    value_range: ValueRange = (0.0, 1.0),
    exact: bool = False,
) -> tuple[Float[Array, "*lead h w 3"], HueParams]:
    """Turn the colours at random; see `hue_params` and `hue`.

    Returns:
      The image and the shift.
    """
    params = hue_params(key, strength=strength)
    return hue(image, *params, value_range=value_range, exact=exact), params


# --- Shared with `jaxssl.transforms.jitter`


def hue_matrix(shift: Array, saturation: Array | float = 1.0) -> Array:
    """Return how RGB turns about the grey axis in YIQ and scales away from it.

    Exactly the unit matrix for a shift of 0 and a saturation of 1.
    """
    # Hue and the angle in the plane of I and Q run in opposite directions.
    angle = -2 * math.pi * shift
    plane, crossed = (jnp.asarray(m, shift.dtype) for m in _HUE_PLANE)
    turned = (saturation * jnp.cos(angle) - 1) * plane
    eye = jnp.eye(3, dtype=shift.dtype)
    return eye + turned + saturation * jnp.sin(angle) * crossed


def mix_channels(image: Array, matrix: Array) -> Array:
    """Apply a 3x3 matrix to every pixel."""
    # Written out: a matrix product over three channels is 3 times slower on XLA:CPU.
    red, green, blue = (image[..., c] for c in range(3))
    rows = [row[0] * red + row[1] * green + row[2] * blue for row in matrix]
    return jnp.stack(rows, axis=-1)


def check_strength(strength, name: str) -> None:
    """Raise a ValueError if a Python number lies outside of [0, 0.5]."""
    checks.non_negative(strength, name)
    checks.at_most(strength, 0.5, name)


def _hue_plane() -> tuple[np.ndarray, np.ndarray]:
    """Return the projection to the plane of I and Q, and it turned by a quarter."""
    yiq = np.array([LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    back = np.linalg.inv(yiq)[:, 1:]
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
    return back @ yiq[1:], back @ quarter @ yiq[1:]


_HUE_PLANE = _hue_plane()


def _with_hue(image: Array, shift: Array) -> Array:
    """Return the pixels with their hue in HSV moved by ``shift`` turns."""
    red, green, blue = (image[..., c] for c in range(3))
    top, bottom = image.max(axis=-1), image.min(axis=-1)
    chroma = top - bottom
    # Grey has no hue; the bound also keeps the square of 1 / chroma, which gradients
    # meet, from overflowing.
    safe = jnp.where(chroma > 1e-12, chroma, 1)
    # Compared among each other, never with their maximum: where XLA computes a value
    # twice, the two may differ in the last bit, and no channel would equal it.
    sixth = jnp.where(
        red >= jnp.maximum(green, blue),
        (green - blue) / safe,
        jnp.where(green >= blue, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    channels = []
    for start in (5, 3, 1):
        place = (start + sixth) / 6 + shift
        place = 6 * (place - jnp.floor(place))  # jnp.mod is 20 times slower on XLA:CPU.
        share = jnp.clip(jnp.minimum(place, 4 - place), 0, 1)
        channels.append(top - chroma * share)
    return jnp.stack(channels, axis=-1)
