"""AugMix of images ``(..., H, W, C)``; see `jaxssl.transforms.policies`."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import PerChannel, Scalar
from jaxssl.transforms.color import ValueRange
from jaxssl.transforms.labels import mixup
from jaxssl.transforms.operations import Look, Reach, check, draw, in_order
from jaxssl.transforms.sampling import accumulator
from jaxssl.types import Array, Float, Int, Key

REACH = Reach(0.3, 0, 1 / 3, math.radians(30), 0.9, (4, 4))

AUGMIX_OPERATIONS = (
    "autocontrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
"""The operations of AugMix: without those that ImageNet-C tests."""


class AugMixParams(NamedTuple):
    """The chains of operations, and how they are mixed.

    Attributes:
      operation: int32 (width, depth), a chain a row, as in `RandAugmentParams`.
      magnitude: float32 (width, depth), as in `RandAugmentParams`.
      weights: float32 (width,), of the chains; they add up to 1.
      share: float32 scalar, of the chains in the result; 0 keeps the image.
    """

    operation: Int[Array, "n m"]
    magnitude: Float[Array, "n m"]
    weights: Float[Array, " n"]
    share: Float[Array, ""]


def augmix(
    image: Float[Array, "*lead h w c"],
    params: AugMixParams,
    *,
    value_range: ValueRange = (0.0, 1.0),
    border: str = "edge",
    fill: PerChannel = 0,
) -> Float[Array, "*lead h w c"]:
    """Mix an image with chains of operations on it.

    ``(1 - share) image + share sum_i weights_i chain_i(image)``. At magnitude 1:
    rotations by 30 degrees, shears by 0.3, translations by a third of the side, no
    bits, and all values solarized.

    Differentiable as `rand_augment`, in the weights and in the share, too.

    Args:
      image: floating-point in ``value_range``, 3 channels (RGB) or 1.
      params: the chains, whose number and length are static, and how they are mixed.
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
      Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness
      and Uncertainty", 2020 (arXiv 1912.02781). Its loss compares one image with two
      draws of this function.
    """
    checks.scalar(params.share, "share")
    check(image, params.operation, params.magnitude, "augmix", 2)
    weights = jnp.asarray(params.weights)
    if weights.shape != params.operation.shape[:1]:
        raise ValueError(
            f"weights must have one number for each of the {len(params.operation)} "
            f"chains; got shape {weights.shape}. Use jax.vmap for one per example."
        )
    image = jnp.asarray(image)
    look = Look(value_range, border, fill)
    # Mapped: vmap would compute every operation for each place of a chain.
    chains = jax.lax.map(lambda one: in_order(image, one, REACH, look), params[:2])
    dtype = accumulator(image, weights)
    weights = jax.lax.expand_dims(weights.astype(dtype), range(1, chains.ndim))
    mixed = (weights * chains.astype(dtype)).sum(axis=0)
    mixed = mixup(mixed.astype(image.dtype), image, params.share)
    return jnp.clip(mixed, *value_range)


def augmix_params(
    key: Key[Array, ""],
    *,
    magnitude: Scalar = 0.3,
    width: int = 3,
    depth: tuple[int, int] = (1, 3),
    alpha: Scalar = 1.0,
    operations: tuple[str, ...] = AUGMIX_OPERATIONS,
) -> AugMixParams:
    """Draw the chains, their weights and their share.

    Each chain has a length uniform over low, ..., high, and operations whose magnitudes
    are uniform in [0.01, magnitude), of random sign. Weights are from
    Dirichlet(alpha, ...), the share from Beta(alpha, alpha).

    Args:
      key: a typed key.
      magnitude: largest share of the ranges, the paper's severity / 10; may be traced.
      width: number of chains; static.
      depth: (low, high), lengths of a chain, both included; static.
      alpha: above 0; may be traced.
      operations: names to draw from, of `jaxssl.transforms.OPERATIONS`; static.

    Returns:
      The chains and how they are mixed.

    Raises:
      TypeError: if ``width`` or a depth is not a Python integer.
      ValueError: if ``width`` or a depth is below 1, the depths are reversed, an
        operation is unknown, ``magnitude`` is a Python number outside of [0, 1] or
        ``alpha`` one that is not positive.
    """
    checks.probability(magnitude, "magnitude")
    checks.positive(alpha, "alpha")
    checks.count(width, "width")
    checks.interval(depth, "depth")
    low, high = (checks.count(end, "depth") for end in depth)
    which, how, where, mix = jax.random.split(key, 4)
    operation, sign = draw(which, (width, high), operations)
    size = 0.01 + (magnitude - 0.01) * jax.random.uniform(how, (width, high))
    lengths = jax.random.randint(where, (width, 1), low, high + 1)
    is_used = jnp.arange(high)[None] < lengths
    # In logarithms a small alpha does not underflow.
    gammas = jax.random.loggamma(mix, alpha, (width + 2,), jnp.float32)
    return AugMixParams(
        operation=jnp.where(is_used, operation, 0),
        magnitude=size * sign,
        weights=jax.nn.softmax(gammas[:width]),
        share=jax.nn.sigmoid(gammas[width] - gammas[width + 1]),
    )


def random_augmix(
    key: Key[Array, ""],
    image: Float[Array, "*lead h w c"],
    *,
    magnitude: Scalar = 0.3,
    width: int = 3,
    depth: tuple[int, int] = (1, 3),
    alpha: Scalar = 1.0,
    operations: tuple[str, ...] = AUGMIX_OPERATIONS,
    value_range: ValueRange = (0.0, 1.0),
    border: str = "edge",
    fill: PerChannel = 0,
) -> tuple[Float[Array, "*lead h w c"], AugMixParams]:
    """Mix an image with random chains; see `augmix_params` and `augmix`.

    Returns:
      The image, and the chains with their weights.
    """
    params = augmix_params(
        key,
        magnitude=magnitude,
        width=width,
        depth=depth,
        alpha=alpha,
        operations=operations,
    )
    return augmix(
        image, params, value_range=value_range, border=border, fill=fill
    ), params
