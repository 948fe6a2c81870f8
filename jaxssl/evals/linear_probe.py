"""Linear probes: accuracies of linear classifiers on the frozen features.

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
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.feature_bank import FeatureBank, Features, class_labels, standardized
from jaxssl.evals.logits import mean_softmax
from jaxssl.types import SHARE, Array, Eval, EvalResult, Float, Int, Metric, TrainState


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
    """Fit one linear classifier for each endpoint and measure its accuracy.

    Where ``test`` has several views of a record, their softmax outputs are averaged
    (multi-crop evaluation).

    Args:
      train: features (n, d) by endpoint and labels (n,).
      test: features (m, d) or (m, v, d) by the same endpoints, and labels (m,).
      config: how the classifiers are fitted.

    Returns:
      Accuracy on ``test`` in [0, 1] by endpoint.

    Raises:
      UserError: the records have no label, or several labels each.
    """
    labels, test_labels = (class_labels(x, "linear_probe") for x in (train, test))
    num_classes = int(labels.max()) + 1
    accuracies = {}
    for endpoint, rows in train.endpoints.items():
        x, x_test = standardized(rows, test.endpoints[endpoint])
        probe = fit_probe(
            *jax.device_put((x, labels)), num_outputs=num_classes, config=config
        )
        views = x_test.reshape(len(x_test), -1, x_test.shape[-1])
        accuracies[endpoint] = float((predict(probe, views) == test_labels).mean())
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


def linear_probe_eval(
    bank: FeatureBank, train: Source, test: Source, config: LinearProbeConfig
) -> Eval:
    """Measure the cached linear probe of every endpoint.

    Args:
      bank: where features come from.
      train: records and labels that the classifiers learn from.
      test: records and labels that the classifiers are tested on.
      config: how the classifiers are fitted.

    Returns:
      An evaluation whose metrics are accuracies by endpoint.
    """

    def run(state: TrainState) -> EvalResult:
        features = bank(state, train)
        accuracies = linear_probes(features, bank(state, test), config=config)
        chance = 1 / (int(class_labels(features, "linear_probe").max()) + 1)
        metrics = {n: Metric(x, SHARE, True, chance) for n, x in accuracies.items()}
        return EvalResult(metrics, {})

    return run
