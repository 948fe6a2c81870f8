"""Labels made harder or softer: mixup, label noise, smoothing (thesis section 8.4.3).

Functions over class indices take any shape but the exact share of `label_noise_params`,
which counts over a whole data set. Probabilities have classes on the last axis.
"""

import numbers
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import Scalar
from jaxssl.transforms.sampling import accumulator, restore
from jaxssl.types import Array, Bool, Float, Int, Key

COUNTS = ("exact", "bernoulli")
REPLACEMENTS = ("other", "any")


class MixupParams(NamedTuple):
    """How much of each example a mixture has.

    Attributes:
      weight: float32 scalar in [0, 1], the share of the first example.
    """

    weight: Float[Array, ""]


class LabelNoiseParams(NamedTuple):
    """Which labels are replaced, and by what.

    Attributes:
      noisy: bool, where the label is replaced.
      replacement: int32, what it would be replaced by; drawn for every label.
    """

    noisy: Bool[Array, "*shape"]
    replacement: Int[Array, "*shape"]


# --- Mixup


def mixup(first: Any, second: Any, weight: Scalar) -> Any:
    """Mix two examples, weight * first + (1 - weight) * second.

    Differentiable in all three. Images are mixed in their own units; class labels must
    be probabilities (``jax.nn.one_hot``).

    Args:
      first: an array or a pytree of arrays, such as ``(image, probabilities)``; all of
        floating point. A batch, too: it shares the weight, as in the paper.
      second: like ``first``. For a batch: its rows in another order.
      weight: share of the first example; may be traced. 1 returns it bit by bit.

    Returns:
      The mixture, in the dtypes of ``first``.

    Raises:
      ValueError: if structures or shapes differ, or ``weight`` is not a single number.
      TypeError: if a leaf is not of floating point, or the dtypes differ.

    References:
      Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018 (thesis reference
      229, Table 8.3).

    Example:
      >>> import jax, jax.numpy as jnp
      >>> labels = jax.nn.one_hot(jnp.array([0, 1]), 2)
      >>> mixup(labels, labels[::-1], 0.75)
      Array([[0.75, 0.25],
             [0.25, 0.75]], dtype=float32)
    """
    checks.scalar(weight, "weight")
    if jax.tree.structure(first) != jax.tree.structure(second):
        raise ValueError(
            "first and second must have the same structure; got "
            f"{jax.tree.structure(first)} and {jax.tree.structure(second)}."
        )

    def mix(one, other):
        if one.shape != other.shape:
            raise ValueError(
                "first and second must have the same shapes; got "
                f"{one.shape} and {other.shape}."
            )
        checks.floating(one, "mixup")
        checks.same_dtype(one, other, "second")
        wide = accumulator(one)
        share = jnp.asarray(weight).astype(wide)
        mixed = share * one.astype(wide) + (1 - share) * other.astype(wide)
        return restore(mixed, one.dtype)

    return jax.tree.map(mix, first, second)


def mixup_params(key: Key[Array, ""], *, alpha: Scalar = 1.0) -> MixupParams:
    """Draw the share of the first example from Beta(alpha, alpha).

    Args:
      key: a typed key.
      alpha: above 0; small values seldom mix. May be traced.

    Returns:
      The share.

    Raises:
      ValueError: if ``alpha`` is a Python number that is not positive.
    """
    known = checks.known(alpha, "alpha")
    if known is not None and not known > 0:
        raise ValueError(f"alpha must be above 0; got {alpha}. Leave mixup out.")
    return MixupParams(jax.random.beta(key, alpha, alpha, (), jnp.float32))


def random_mixup(
    key: Key[Array, ""], first: Any, second: Any, *, alpha: Scalar = 1.0
) -> tuple[Any, MixupParams]:
    """Mix two examples by a random share; see `mixup` and `mixup_params`.

    Returns:
      The mixture and the share of ``first``.
    """
    params = mixup_params(key, alpha=alpha)
    return mixup(first, second, *params), params


# --- Noise


def label_noise(
    labels: Int[Array, "*shape"], params: LabelNoiseParams
) -> Int[Array, "*shape"]:
    """Replace the labels that are marked as noisy.

    Args:
      labels: class indices.
      params: which ones, and by what; drawn for labels of this shape and dtype.

    Returns:
      The labels in their dtype; the rest as it was.

    Raises:
      ValueError: if the shapes differ.
      TypeError: if the labels are not whole.

    References:
      Random label corruptions, thesis section 8.4.3.
    """
    labels = jnp.asarray(labels)
    checks.whole(labels, "labels")
    if params.noisy.shape != labels.shape:
        raise ValueError(
            f"params must be drawn for these labels, of shape {labels.shape}; got "
            f"{params.noisy.shape}."
        )
    return jnp.where(params.noisy, params.replacement.astype(labels.dtype), labels)


def label_noise_params(
    key: Key[Array, ""],
    labels: Int[Array, "*shape"],
    *,
    num_classes: int,
    rate: Scalar,
    count: str = "exact",
    replacement: str = "other",
) -> LabelNoiseParams:
    """Draw which labels are wrong, and what they say instead.

    Args:
      key: a typed key.
      labels: class indices in [0, num_classes).
      num_classes: static.
      rate: the noise level pi, in [0, 1]; may be traced.
      count: ``exact`` marks floor(rate * n_c) labels of each class c, as chapter 8
        (``labels`` then is the whole data set, one row); ``bernoulli`` marks each label
        by itself, with probability ``rate``, and so may run in batches, with
        `jaxssl.transforms.batched` and ids. A share that is whole up to float32
        rounding counts as whole.
      replacement: ``other`` draws from the other classes, never the true one, so that
        ``rate`` labels are wrong (chapter 8; ten classes at 0.9 are then random
        labels); ``any`` draws from all classes, so that rate * (1 - 1 / num_classes)
        are wrong (as Zhang et al. 2017, thesis reference 216, where 1 is random).

    Returns:
      The marks and the replacements.

    Raises:
      ValueError: if ``rate`` is a Python number outside [0, 1], there are too few
        classes or more than the labels' dtype can name, the labels are not one row for
        ``exact``, or a name is unknown.
      TypeError: if the labels or ``num_classes`` are not whole.

    References:
      Thesis section 8.4.3.
    """
    checks.choice(count, COUNTS, "count")
    checks.choice(replacement, REPLACEMENTS, "replacement")
    checks.probability(rate, "rate")
    classes = checks.whole(labels, "labels")
    if not isinstance(num_classes, numbers.Integral) or num_classes < 2:
        raise ValueError(
            f"num_classes must be a Python int of 2 or more; got {num_classes}."
        )
    largest = jnp.iinfo(jnp.asarray(labels).dtype).max
    if num_classes - 1 > largest:
        raise ValueError(
            f"num_classes must be at most {largest + 1}, as labels are "
            f"{jnp.asarray(labels).dtype}; got {num_classes}. Cast the labels to int32."
        )
    mark_key, class_key = jax.random.split(key)
    if count == "exact":
        noisy = _exact_share(mark_key, classes, rate, num_classes)
    else:
        noisy = jax.random.bernoulli(mark_key, rate, classes.shape)
    low = int(replacement == "other")
    draws = jax.random.randint(class_key, classes.shape, low, num_classes, jnp.int32)
    if replacement == "other":
        draws = (classes + draws) % num_classes
    return LabelNoiseParams(noisy, draws)


def random_label_noise(
    key: Key[Array, ""],
    labels: Int[Array, "*shape"],
    *,
    num_classes: int,
    rate: Scalar,
    count: str = "exact",
    replacement: str = "other",
) -> tuple[Int[Array, "*shape"], LabelNoiseParams]:
    """Replace random labels; see `label_noise` and `label_noise_params`.

    Returns:
      The labels and what was replaced.
    """
    params = label_noise_params(
        key,
        labels,
        num_classes=num_classes,
        rate=rate,
        count=count,
        replacement=replacement,
    )
    return label_noise(labels, params), params


def _exact_share(key: Key[Array, ""], labels: Array, rate: Scalar, num_classes: int):
    """Mark floor(rate * n_c) labels of each class, every choice as likely."""
    if labels.ndim != 1:
        raise ValueError(
            f"labels must be one row for count='exact', the whole data set; got shape "
            f"{labels.shape}. Use count='bernoulli' for labels of a batch."
        )
    order = jax.random.permutation(key, labels.shape[0])
    order = order[jnp.argsort(labels[order], stable=True)]  # Shuffled in each class.
    sizes = jnp.bincount(labels, length=num_classes)
    first = jnp.cumsum(sizes) - sizes
    rank = jnp.arange(labels.shape[0]) - first[labels[order]]
    share = jnp.asarray(rate, jnp.float32) * sizes.astype(jnp.float32)
    marked = jnp.floor(share * (1 + 2**-22)).astype(jnp.int32)
    return jnp.zeros(labels.shape, bool).at[order].set(rank < marked[labels[order]])


# --- Smoothing


def smooth_labels(
    probabilities: Float[Array, "*lead k"], *, smoothing: Scalar = 0.1
) -> Float[Array, "*lead k"]:
    """Move a share of the probability evenly to all classes.

    Args:
      probabilities: of the classes, such as ``jax.nn.one_hot(labels, k)``.
      smoothing: the share, in [0, 1]; may be traced. 0 returns the input.

    Returns:
      (1 - smoothing) * probabilities + smoothing / k, in the same dtype.

    Raises:
      ValueError: if ``smoothing`` is a Python number outside [0, 1], or there is no
        axis of classes.
      TypeError: if the labels are class indices.

    References:
      Szegedy et al., "Rethinking the Inception Architecture", 2016 (thesis reference
      245, Table 8.3: 0.1).
    """
    checks.probability(smoothing, "smoothing")
    checks.floating(probabilities, "smooth_labels")
    if probabilities.ndim < 1:
        raise ValueError("probabilities must have an axis of classes; got a scalar.")
    wide = accumulator(probabilities)
    share = jnp.asarray(smoothing).astype(wide)
    even = share / probabilities.shape[-1]
    smooth = (1 - share) * probabilities.astype(wide) + even
    return restore(smooth, probabilities.dtype)
