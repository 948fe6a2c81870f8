"""Classifiers on frozen features: linear probes, few labels, average precision.

The cached linear probe is a convex problem (softmax or sigmoid cross-entropy plus L2),
solved by Adam over standardised features of one fixed crop. It takes seconds where the
thesis' protocol, `jaxssl.methods.probe`, takes hours; their numbers are not the same.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl.config import checks
from jaxssl.errors import UserError
from jaxssl.evals.features import Features, standardized
from jaxssl.types import Array, Float, Int, Shaped

# --- Linear probe


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearProbeConfig:
    """How the cached linear probe is fitted.

    Attributes:
      l2: the loss has ``0.5 * l2 * sum(weights ** 2)``; the bias is free.
      learning_rate: Adam's first rate; it falls to zero along a cosine.
      num_epochs: passes over the training features.
      batch_size: rows a step; the rest of an epoch's permutation is left out.
      seed: of the permutations. The weights start at zero.
    """

    l2: float = 1e-2
    learning_rate: float = 2e-3
    num_epochs: int = 40
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        checks.positive(self, "learning_rate", "num_epochs", "batch_size")
        if self.l2 < 0:
            raise UserError(f"l2 is {self.l2}; it must be 0 or above.")


class LinearProbe(NamedTuple):
    """A fitted linear classifier: ``x @ weights + bias``."""

    weights: Float[Array, "d k"]
    bias: Float[Array, " k"]


ProbeLoss = Callable[[Array, Array], Array]


def softmax_loss(logits: Float[Array, "b k"], labels: Int[Array, " b"]) -> Array:
    """Return the mean cross-entropy of one label a row."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses.mean()


def sigmoid_loss(logits: Float[Array, "b k"], labels: Int[Array, "b k"]) -> Array:
    """Return the cross-entropy of k attributes a row, summed over k, mean over rows."""
    targets = labels.astype(logits.dtype)
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=1).mean()


@partial(jax.jit, static_argnames=("num_outputs", "config", "loss_fn"))
def fit_probe(
    x: Float[Array, "n d"],
    labels: Int[Array, "n ..."],
    *,
    num_outputs: int,
    config: LinearProbeConfig,
    loss_fn: ProbeLoss = softmax_loss,
) -> LinearProbe:
    """Fit a linear classifier on standardised features.

    All epochs are one compiled program of matrix products.

    Args:
      x: standardised features.
      labels: int (n,) for `softmax_loss`, int (n, k) of 0 and 1 for `sigmoid_loss`.
      num_outputs: classes or attributes.
      config: loss weight, rates and length.
      loss_fn: `softmax_loss` or `sigmoid_loss`.

    Returns:
      The classifier after the last step.
    """
    rows = len(x)
    batch_size = min(config.batch_size, rows)
    steps = rows // batch_size
    rate = optax.cosine_decay_schedule(config.learning_rate, config.num_epochs * steps)
    tx = optax.adam(rate)

    def objective(probe: LinearProbe, chosen: Array) -> Array:
        logits = x[chosen] @ probe.weights + probe.bias[None]
        penalty = 0.5 * config.l2 * jnp.square(probe.weights).sum()
        return loss_fn(logits, labels[chosen]) + penalty

    def step(carry, chosen):
        probe, opt_state = carry
        updates, opt_state = tx.update(jax.grad(objective)(probe, chosen), opt_state)
        probe = jax.tree.map(jnp.add, probe, updates)
        return (probe, opt_state), None

    keys = jax.random.split(jax.random.key(config.seed), config.num_epochs)
    orders = jax.vmap(lambda key: jax.random.permutation(key, rows))(keys)
    orders = orders[:, : steps * batch_size].reshape(-1, batch_size)
    probe = LinearProbe(jnp.zeros((x.shape[1], num_outputs)), jnp.zeros((num_outputs,)))
    (probe, _), _ = jax.lax.scan(step, (probe, tx.init(probe)), orders)
    return probe


def linear_probes(
    train: Features, test: Features, *, config: LinearProbeConfig
) -> dict[str, float]:
    """Fit one linear classifier a endpoint and measure its accuracy.

    Where ``test`` has several views of an image, their softmax outputs are averaged
    (multi-crop evaluation).

    Args:
      train: features (n, d) by endpoint and labels (n,).
      test: features (m, d) or (m, v, d) by the same endpoints.
      config: how the classifiers are fitted.

    Returns:
      Accuracy on ``test`` in [0, 1] by endpoint.
    """
    _one_label(train, "linear_probe")
    num_classes = int(train.labels.max()) + 1
    accuracies = {}
    for endpoint, rows in train.endpoints.items():
        x, x_test = standardized(rows, test.endpoints[endpoint])
        probe = fit_probe(
            *jax.device_put((x, train.labels)), num_outputs=num_classes, config=config
        )
        views = x_test.reshape(len(x_test), -1, x_test.shape[-1])
        accuracies[endpoint] = float((predict(probe, views) == test.labels).mean())
    return accuracies


def predict(probe: LinearProbe, views: Float[np.ndarray, "n v d"]) -> np.ndarray:
    """Return the class with the largest softmax output, averaged over views.

    Args:
      probe: a fitted classifier.
      views: standardised features, one or more views of each image.

    Returns:
      Class index, int (n,).
    """
    weights, bias = jax.device_get(probe)
    return mean_softmax(views @ weights + bias).argmax(axis=-1)


def mean_softmax(logits: Float[np.ndarray, "n v k"]) -> Float[np.ndarray, "n k"]:
    """Return class probabilities, averaged over the views."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).mean(axis=1)


def attribute_probes(
    train: Features, test: Features, *, config: LinearProbeConfig
) -> dict[str, Float[np.ndarray, " k"]]:
    """Fit one linear classifier of all attributes a endpoint; measure average precision.

    Args:
      train: features (n, d) by endpoint and labels (n, k) of 0 and 1.
      test: features (m, d) by the same endpoints and labels (m, k).
      config: how the classifiers are fitted.

    Returns:
      Average precision of each attribute by endpoint (`average_precision`).

    References:
      Table 4.3 of the thesis; its loss is not given, sigmoid cross-entropy is assumed.
    """
    if train.labels.ndim != 2:
        raise UserError(
            "attributes needs several 0/1 labels an image, (n, k); this data set has "
            "one class an image. Use linear_probe."
        )
    precisions = {}
    for endpoint, rows in train.endpoints.items():
        x, x_test = standardized(rows, test.endpoints[endpoint])
        probe = fit_probe(
            *jax.device_put((x, train.labels)),
            num_outputs=train.labels.shape[1],
            config=config,
            loss_fn=sigmoid_loss,
        )
        weights, bias = jax.device_get(probe)
        precisions[endpoint] = average_precisions(x_test @ weights + bias, test.labels)
    return precisions


# --- Average precision


def average_precision(
    scores: Float[np.ndarray, " n"], labels: Shaped[np.ndarray, " n"]
) -> float:
    """Return the area under the precision-recall steps, sum (R_i - R_i-1) P_i.

    The sum runs over the distinct scores from the highest down, so rows of equal score
    enter together and their order does not matter.

    Args:
      scores: larger means more likely positive.
      labels: 1 for positive rows, 0 for the others.

    Returns:
      A number in [0, 1]; nan where no row is positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order] > 0)
    if not len(hits) or hits[-1] == 0:
        return float("nan")
    last = np.append(ranked[1:] != ranked[:-1], True)  # The last row of each tie.
    hits, rows = hits[last], np.arange(1, len(ranked) + 1)[last]
    gained = np.diff(hits, prepend=0) / hits[-1]
    return float((gained * hits / rows).sum())


def average_precisions(
    scores: Float[np.ndarray, "n k"], labels: Shaped[np.ndarray, "n k"]
) -> Float[np.ndarray, " k"]:
    """Return `average_precision` of each column."""
    columns = zip(scores.T, labels.T, strict=True)
    return np.array([average_precision(score, label) for score, label in columns])


# --- Few labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """A ridge classifier from a handful of labels.

    Attributes:
      shots: labelled images a class.
      num_draws: independent draws of the labelled images.
      ridge: weight of the penalty, relative to the mean squared norm of a centred row.
      seed: of the draws.
    """

    shots: int = 10
    num_draws: int = 5
    ridge: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks.positive(self, "shots", "num_draws", "ridge")


class FewShotResult(NamedTuple):
    """Accuracy over the draws, in [0, 1]: mean and standard deviation."""

    mean: float
    deviation: float


def ridge_classifier(
    x: Float[np.ndarray, "n d"], targets: Float[np.ndarray, "n k"], *, ridge: float
) -> tuple[Float[np.ndarray, "d k"], Float[np.ndarray, " k"]]:
    """Minimise ``|x @ w + b - targets|^2 + lam |w|^2`` in closed form.

    ``lam = ridge * trace(xc @ xc.T) / n`` with ``xc`` the centred rows, so one value
    of ``ridge`` fits features of any width and scale. Solved in the n x n dual, which
    is small for few rows.

    Args:
      x: features.
      targets: one-hot labels.
      ridge: relative weight of the penalty.

    Returns:
      ``w`` and ``b``.
    """
    x, targets = x.astype(np.float64), targets.astype(np.float64)
    mean, offset = x.mean(axis=0), targets.mean(axis=0)
    centred = x - mean
    gram = centred @ centred.T
    lam = ridge * np.trace(gram) / len(x) + np.finfo(float).tiny
    dual = np.linalg.solve(gram + lam * np.eye(len(x)), targets - offset)
    weights = centred.T @ dual
    return weights, offset - mean @ weights


def few_shot(
    train: Features, test: Features, *, config: FewShotConfig
) -> dict[str, FewShotResult]:
    """Classify from a few labels a class, by ridge regression on one-hot labels.

    The features are standardised with the statistics of the whole of ``train``, which
    need no labels. Every endpoint sees the same draws.

    Args:
      train: features (n, d) by endpoint and labels (n,), from which the shots are drawn.
      test: features (m, d) by the same endpoints.
      config: shots, draws and penalty.

    Returns:
      Accuracy on ``test`` by endpoint.

    Raises:
      UserError: a class of ``train`` has fewer than ``shots`` images.
    """
    _one_label(train, "few_shot")
    draws = list(_draws(train.labels, config))
    results = {}
    for endpoint, rows in train.endpoints.items():
        x, x_test = standardized(rows, test.endpoints[endpoint])
        accuracies = []
        for draw in draws:
            classes, targets = np.unique(train.labels[draw], return_inverse=True)
            one_hot = np.eye(len(classes))[targets]
            weights, bias = ridge_classifier(x[draw], one_hot, ridge=config.ridge)
            scores = x_test @ weights.astype(np.float32) + bias
            guesses = classes[scores.argmax(axis=1)]
            accuracies.append((guesses == test.labels).mean())
        results[endpoint] = FewShotResult(
            float(np.mean(accuracies)), float(np.std(accuracies))
        )
    return results


def _draws(labels: np.ndarray, config: FewShotConfig):
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < config.shots:
        raise UserError(
            f"shots is {config.shots}, but class {classes[counts.argmin()]} has only "
            f"{counts.min()} training images; it must be at most {counts.min()}."
        )
    rng = np.random.default_rng(config.seed)
    for _ in range(config.num_draws):
        picks = [
            rng.choice(np.flatnonzero(labels == label), config.shots, replace=False)
            for label in classes
        ]
        yield np.concatenate(picks)


def _one_label(features: Features, name: str) -> None:
    if features.labels.ndim != 1:
        raise UserError(
            f"{name} needs one class an image; this data set has labels of shape "
            f"{features.labels.shape}. Use attributes."
        )
