"""RandAugment and TrivialAugment of images ``(..., H, W, C)``.

Where the published codes fill with grey or black, ``border`` decides here; angles and
distances are not rounded to whole degrees and pixels. Images are those of
`jaxssl.transforms.color`; how an operation is applied says
`jaxssl.transforms.operations`.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import PerChannel, Scalar
from jaxssl.transforms.color import ValueRange
from jaxssl.transforms.operations import OPERATIONS, Look, Reach, check, draw, in_order
from jaxssl.types import Array, Float, Int, Key

RAND = Reach(0.3, 0, 150 / 331, math.radians(30), 0.9, (7.5, 4))
WIDE = Reach(0.99, 32, 0, math.radians(135), 0.99, (7.5, 6))


class RandAugmentParams(NamedTuple):
    """Which operations to apply, and how much.

    Attributes:
      operation: int32 (n,), places in `jaxssl.transforms.OPERATIONS`; the first is
        applied first, and 0 keeps the image.
      magnitude: float32 (n,), in [-1, 1]; the sign is that of the angle, the distance
        or the change of a factor.
    """

    operation: Int[Array, " n"]
    magnitude: Float[Array, " n"]


class TrivialAugmentParams(NamedTuple):
    """Which operation to apply, and how much.

    Attributes:
      operation: int32 scalar, as in `RandAugmentParams`; 0 keeps the image.
      magnitude: float32 scalar, as in `RandAugmentParams`.
    """

    operation: Int[Array, ""]
    magnitude: Float[Array, ""]


# --- RandAugment


def rand_augment(
    image: Float[Array, "*lead h w c"],
    params: RandAugmentParams,
    *,
    value_range: ValueRange = (0.0, 1.0),
    border: str = "edge",
    fill: PerChannel = 0,
) -> Float[Array, "*lead h w c"]:
    """Apply operations of RandAugment one after the other.

    At magnitude 1: rotations by 30 degrees, shears by 0.3, translations by 150 / 331 of
    the side, factors of 1 - 0.9 and 1 + 0.9, 4 bits, and all values solarized.

    Differentiable in the image and the magnitudes, with the slopes of the operations.

    Args:
      image: floating-point in ``value_range``, 3 channels (RGB) or 1.
      params: the operations; their number is static.
      value_range: black and white; static.
      border: see `jaxssl.transforms.bilinear_sample`; static.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point or an operation not whole.
      ValueError: if the channels, the range, the border, ``fill`` or the shapes are
        wrong.

    References:
      Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced
      search space", 2020 (arXiv 1909.13719). The ranges are those of AutoAugment (arXiv
      1805.09501); factors go both ways.
    """
    check(image, params.operation, params.magnitude, "rand_augment", 1)
    return in_order(image, tuple(params), RAND, Look(value_range, border, fill))


def rand_augment_params(
    key: Key[Array, ""],
    *,
    num_ops: int = 2,
    magnitude: Scalar = 0.3,
    operations: tuple[str, ...] = OPERATIONS,
) -> RandAugmentParams:
    """Draw operations, uniform and independent, and the sign of each magnitude.

    Args:
      key: a typed key.
      num_ops: N of the paper; static.
      magnitude: share of the range, the paper's M / 10; the default is torchvision's 9
        of 30. May be traced.
      operations: names to draw from, of `jaxssl.transforms.OPERATIONS`; static.

    Returns:
      The operations and their magnitudes.

    Raises:
      TypeError: if ``num_ops`` is not a Python integer.
      ValueError: if ``num_ops`` is below 1, an operation is unknown, or ``magnitude`` a
        Python number outside of [0, 1].

    Example:
      >>> import jax
      >>> from jaxssl import transforms as T
      >>> params = T.rand_augment_params(jax.random.key(0))
      >>> [T.OPERATIONS[i] for i in params.operation]
      ['autocontrast', 'translate_y']
    """
    checks.count(num_ops, "num_ops")
    checks.probability(magnitude, "magnitude")
    operation, sign = draw(key, (num_ops,), operations)
    return RandAugmentParams(operation, magnitude * sign)


def random_rand_augment(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    num_ops: int = 2,
    magnitude: Scalar = 0.3,
    operations: tuple[str, ...] = OPERATIONS,
    value_range: ValueRange = (0.0, 1.0),
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Float[Array, "*lead h w c"], RandAugmentParams]:
    """Apply random operations; see `rand_augment_params` and `rand_augment`.

    Returns:
      The image, and the operations with their magnitudes.
    """
    params = rand_augment_params(
        key, num_ops=num_ops, magnitude=magnitude, operations=operations
    )
    look: dict[str, Any] = {
        "value_range": value_range,
        "border": border,
        "fill": fill,
    }
    return rand_augment(image, params, **look), params


# --- TrivialAugment


def trivial_augment(
    image: Float[Array, "*lead h w c"],
    params: TrivialAugmentParams,
    *,
    value_range: ValueRange = (0.0, 1.0),
    border: str = "edge",
    fill: PerChannel = 0,
) -> Float[Array, "*lead h w c"]:
    """Apply one operation of TrivialAugment, with its wide ranges.

    At magnitude 1: rotations by 135 degrees, shears by 0.99, translations by 32 pixels,
    factors of 1 - 0.99 and 1 + 0.99, 2 bits, and all values solarized.

    Differentiable as `rand_augment`.

    Args:
      image: floating-point in ``value_range``, 3 channels (RGB) or 1.
      params: the operation.
      value_range: black and white; static.
      border: see `jaxssl.transforms.bilinear_sample`; static.
      fill: see `jaxssl.transforms.bilinear_sample`.

    Returns:
      The image, clipped to ``value_range``.

    Raises:
      TypeError: if the image is not of floating point or the operation not whole.
      ValueError: if the channels, the range, the border, ``fill`` or a shape is
        wrong.

    References:
      Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
      Augmentation", 2021 (arXiv 2103.10158), the space "Wide".
    """
    checks.scalar(params.operation, "operation")
    checks.scalar(params.magnitude, "magnitude")
    one = jax.tree.map(lambda value: jnp.asarray(value)[None], params)
    check(image, one.operation, one.magnitude, "trivial_augment", 1)
    return in_order(image, tuple(one), WIDE, Look(value_range, border, fill))


def trivial_augment_params(
    key: Key[Array, ""],
    *,
    num_bins: int = 31,
    operations: tuple[str, ...] = OPERATIONS,
) -> TrivialAugmentParams:
    """Draw an operation, and a magnitude uniform over ``num_bins`` values in [0, 1].

    Args:
      key: a typed key.
      num_bins: 0, 1 / (num_bins - 1), ..., 1 may be drawn; static.
      operations: names to draw from, of `jaxssl.transforms.OPERATIONS`; static.

    Returns:
      The operation and its magnitude, of random sign.

    Raises:
      TypeError: if ``num_bins`` is not a Python integer.
      ValueError: if there are fewer than 2 bins, or an operation is unknown.
    """
    if checks.count(num_bins, "num_bins") < 2:
        raise ValueError(f"num_bins must be at least 2; got {num_bins}.")
    first, second = jax.random.split(key)
    operation, sign = draw(first, (), operations)
    size = jax.random.randint(second, (), 0, num_bins) / (num_bins - 1)
    return TrivialAugmentParams(operation, size.astype(sign.dtype) * sign)


def random_trivial_augment(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    num_bins: int = 31,
    operations: tuple[str, ...] = OPERATIONS,
    value_range: ValueRange = (0.0, 1.0),
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Float[Array, "*lead h w c"], TrivialAugmentParams]:
    """Apply a random operation; see `trivial_augment_params` and `trivial_augment`.

    Returns:
      The image, and the operation with its magnitude.
    """
    params = trivial_augment_params(key, num_bins=num_bins, operations=operations)
    look: dict[str, Any] = {
        "value_range": value_range,
        "border": border,
        "fill": fill,
    }
    return trivial_augment(image, params, **look), params
