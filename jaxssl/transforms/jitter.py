"""Colour jitter: brightness, contrast, saturation, hue at once or one by one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks, color
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.color import ValueRange
from jaxssl.transforms.hue import check_strength, hue_matrix, mix_channels
from jaxssl.transforms.hue import hue as turn_hue
from jaxssl.types import Array, Float, Int, Key


class ColorJitterParams(NamedTuple):
    """How far to change each of four things, and in what order.

    Factors of 1 with a shift of 0 keep the image.

    Attributes:
      brightness: float32 scalar; see `jaxssl.transforms.brightness`.
      contrast: float32 scalar; see `jaxssl.transforms.contrast`.
      saturation: float32 scalar; see `jaxssl.transforms.saturation`.
      hue: float32 scalar, in turns; see `jaxssl.transforms.hue`.
      order: int32 (4,), a permutation of 0 to 3 that stand for the four above; the
        first is applied first, where the order matters.
    """

    brightness: Float[Array, ""]
    contrast: Float[Array, ""]
    saturation: Float[Array, ""]
    hue: Float[Array, ""]
    order: Int[Array, "4"]


def color_jitter(
    image: Float[Array, "*lead h w 3"],
    params: ColorJitterParams,
    *,
    value_range: ValueRange = (0.0, 1.0),
    exact: bool = False,
) -> Float[Array, "*lead h w 3"]:
    """Change brightness, contrast, saturation and hue.

    By default the four are one affine map of the colours, applied once and clipped
    once: the hue turns in YIQ, contrast goes by the mean of the unclipped image, and
    the order does not matter. With ``exact`` they follow each other in their order,
    each clipped, with the hue of HSV, as torchvision's ColorJitter; about ten times
    slower on CPU.

    Differentiable in the image and in the factors.

    Args:
      image: floating-point RGB in ``value_range``; images on leading axes share the
        factors, each has its own mean.
      params: the factors and their order.
      value_range: black and white; static.
      exact: whether to apply the four one by one; static.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point.
      ValueError: if the channels or the range are wrong.

    Example:
      >>> import jax
      >>> from jaxssl import transforms as T
      >>> image = jax.random.uniform(jax.random.key(0), (8, 8, 3))
      >>> params = T.color_jitter_params(jax.random.key(1), hue=0.0)
      >>> T.color_jitter(image, params).shape
      (8, 8, 3)
    """
    checks.image_size(image)
    checks.floating(image, "color_jitter")
    checks.channels(image, (3,), "color_jitter")
    checks.interval(value_range, "value_range", strict=True)
    for name in ("brightness", "contrast", "saturation"):
        checks.non_negative(getattr(params, name), name)
    checks.scalar(params.hue, "hue")
    order = checks.whole(params.order, "order")
    if order.shape != (4,):
        raise ValueError(
            f"order must be one permutation of four; got shape {order.shape}. Use "
            "jax.vmap or batched for one per example."
        )
    wide, *factors = color.computed(image, *params[:4])
    if exact:
        values = _one_by_one(wide, factors, order, value_range)
    else:
        values = _at_once(wide, factors, value_range)
    return color.finished(values, image, value_range)


def color_jitter_params(
    key: Key[Array, ""],
    *,
    brightness: Scalar = 0.4,
    contrast: Scalar = 0.4,
    saturation: Scalar = 0.4,
    hue: Scalar = 0.1,
) -> ColorJitterParams:
    """Draw three factors, a hue shift and the order, independently.

    Args:
      key: a typed key.
      brightness: strength; the factor is uniform in [max(0, 1 - s), 1 + s).
      contrast: strength; the factor is drawn from the same range.
      saturation: strength; the factor is drawn from the same range.
      hue: largest shift, in turns. All four may be traced, and 0 switches one off.

    Returns:
      The factors, the shift and an order, uniform over all 24.

    Raises:
      ValueError: if a strength is a negative Python number or ``hue`` above 0.5.
    """
    checks.non_negative(brightness, "brightness")
    checks.non_negative(contrast, "contrast")
    checks.non_negative(saturation, "saturation")
    check_strength(hue, "hue")
    # One draw of eight numbers is 5 times cheaper than a key for each of them.
    uniform = jax.random.uniform(key, (8,))
    return ColorJitterParams(
        brightness=color.spread(uniform[0], brightness),
        contrast=color.spread(uniform[1], contrast),
        saturation=color.spread(uniform[2], saturation),
        hue=hue * (2 * uniform[3] - 1),
        order=jnp.argsort(uniform[4:]).astype(jnp.int32),
    )


def random_color_jitter(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w 3"],
    *,
    brightness: Scalar = 0.4,
    contrast: Scalar = 0.4,
    saturation: Scalar = 0.4,
    hue: Scalar = 0.1,
    value_range: ValueRange = (0.0, 1.0),
    exact: bool = False,
) -> tuple[Float[Array, "*lead h w 3"], ColorJitterParams]:
    """Change the colours at random; see `color_jitter_params` and `color_jitter`.

    Returns:
      The image, and the factors with their order.
    """
    params = color_jitter_params(
        key, brightness=brightness, contrast=contrast, saturation=saturation, hue=hue
    )
    return color_jitter(image, params, value_range=value_range, exact=exact), params


def _one_by_one(image, factors, order, value_range: ValueRange):
    """Apply the four one after the other; each clips.

    A switch at each of the four places would run all four there under `jax.vmap`. But
    three of them are blends, which a factor of 1 turns off, so that one hue stands
    between the three places before it and the three after it.
    """
    shift, hue_place = factors[3], jnp.argmax(order == 3)

    def blend(image, place, active):
        factor = jnp.where(active, jnp.stack(factors[:3])[order[place]], 1)
        gray = color.luma(image)
        mean = color.luma(image.mean((-3, -2), keepdims=True))
        black = jnp.full_like(mean, value_range[0])
        flat = jnp.where(order[place] == 0, black, mean)
        other = jnp.where(order[place] == 2, gray, flat)
        return jnp.clip(factor * image + (1 - factor) * other, *value_range)

    for place in (0, 1, 2):
        image = blend(image, place, place < hue_place)
    image = turn_hue(image, shift, value_range=value_range, exact=True)
    for place in (1, 2, 3):
        image = blend(image, place, place > hue_place)
    return image


def _at_once(image, factors, value_range: ValueRange):
    """Apply the four as ``pixel -> matrix @ pixel + offset``.

    In YIQ, brightness scales all about black, contrast all about the mean luma,
    saturation and hue scale and turn I and Q. So the four commute, and with b, c for
    the first two and M for the others, a pixel x becomes
    b c M x + b (1 - c) mean + (1 - b) black.
    """
    brightness, contrast, saturation, shift = factors
    mean = color.luma(image.mean((-3, -2), keepdims=True))
    matrix = brightness * contrast * hue_matrix(shift, saturation)
    offset = brightness * (1 - contrast) * mean + (1 - brightness) * value_range[0]
    return mix_channels(image, matrix) + offset
