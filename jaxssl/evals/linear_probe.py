"""Linear probes: accuracies of linear classifiers on the frozen features.

The cached linear probe is a convex problem (softmax or sigmoid cross-entropy plus L2),
solved by Adam over standardised features of one fixed crop. It takes seconds where the
thesis' protocol, ``configs/probe_stl10.py``, takes hours; their numbers are not the
same.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl.config import fields
from jaxssl.data.source import Source
from jaxssl.evals.accuracy import accuracy
from jaxssl.evals.feature_bank import (
    FeatureBank,
    Features,
    class_labels,
    classified,
    standardized,
)
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

    l2: float = fields.number(1e-2, at_least=0, at_most=1e6)
    learning_rate: float = fields.number(2e-3, above=0, at_most=1e6)
    num_epochs: int = fields.number(40, at_least=1, at_most=100_000)
    batch_size: int = fields.count(256)
    seed: int = fields.seed(0)

    __post_init__ = fields.validate


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


def probe_logits(
    train: Features,
    test: Features,
    *,
    num_outputs: int,
    config: LinearProbeConfig,
    loss_fn: ProbeLoss = softmax_loss,
) -> Iterator[tuple[str, Float[np.ndarray, "m v k"]]]:
    """Fit one linear classifier for each endpoint, and yield its logits of ``test``.

    Args:
      train: features (n, d) by endpoint, and labels as `fit_probe` wants them.
      test: features (m, d), or (m, v, d) with several views, by the same endpoints.
      num_outputs: classes or attributes.
      config: how the classifiers are fitted.
      loss_fn: `softmax_loss` or `sigmoid_loss`.

    Yields:
      An endpoint and the logits of its classifier; ``test`` without views
      counts as one view.
    """
    for endpoint, rows in train.endpoints.items():
        x, x_test = standardized(rows, test.endpoints[endpoint])
        probe = fit_probe(
            *jax.device_put((x, train.labels)),
            num_outputs=num_outputs,
            config=config,
            loss_fn=loss_fn,
        )
        weights, bias = jax.device_get(probe)
        views = x_test.reshape(len(x_test), -1, x_test.shape[-1])
        yield endpoint, views @ weights + bias


def linear_probes(
    train: Features, test: Features, *, config: LinearProbeConfig
) -> dict[str, Metric]:
    """Fit one linear classifier for each endpoint and measure its accuracy.

    Where ``test`` has several views of a record, their softmax outputs are averaged
    (multi-crop evaluation).

    Args:
      train: features (n, d) by endpoint and labels (n,); records without a label are
        left out of both.
      test: features (m, d) or (m, v, d) by the same endpoints, and labels (m,).
      config: how the classifiers are fitted.

    Returns:
      Accuracy on ``test`` by endpoint.

    Raises:
      UserError: no record has a label, records have several labels each, test records
        have a class that training lacks, or features are not finite.
    """
    train, test = classified(train, test, "linear_probe")
    labels, test_labels = (class_labels(x, "linear_probe") for x in (train, test))
    num_classes = int(labels.max()) + 1
    logits = probe_logits(train, test, num_outputs=num_classes, config=config)
    return {
        endpoint: Metric(accuracy(x, test_labels), SHARE, True, 1 / num_classes)
        for endpoint, x in logits
    }


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
        metrics = linear_probes(bank(state, train), bank(state, test), config=config)
        return EvalResult(metrics, {})

    return run
