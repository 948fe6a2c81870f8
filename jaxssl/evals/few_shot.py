"""Few labels: the accuracy of a ridge classifier fitted on a handful of labels."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from jaxssl.config import fields
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.feature_bank import (
    FeatureBank,
    Features,
    class_labels,
    classified,
    standardized,
)
from jaxssl.types import SHARE, Eval, EvalResult, Float, Metric, TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShotConfig:
    """A ridge classifier from a handful of labels.

    Attributes:
      shots: labelled images a class.
      num_draws: independent draws of the labelled images.
      ridge: weight of the penalty, relative to the mean squared norm of a centred row.
      seed: of the draws.
    """

    shots: int = fields.count(10)
    num_draws: int = fields.number(5, at_least=1, at_most=100_000)
    ridge: float = fields.number(1.0, above=0, at_most=1e12)
    seed: int = fields.seed(0)

    __post_init__ = fields.validate


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
) -> dict[str, Metric]:
    """Classify from a few labels a class, by ridge regression on one-hot labels.

    The features are standardised with the statistics of all labelled records of
    ``train``. Every endpoint sees the same draws.

    Args:
      train: features (n, d) by endpoint and labels (n,), of which the shots are drawn.
      test: features (m, d) by the same endpoints, and labels (m,).
      config: shots, draws and penalty.

    Returns:
      Accuracy on ``test`` by endpoint, the mean over the draws; with its standard
      deviation where there are several.

    Raises:
      UserError: a class of ``train`` has fewer than ``shots`` images or none, no record
        has a label, or features are not finite.
    """
    train, test = classified(train, test, "few_shot")
    labels, test_labels = (class_labels(x, "few_shot") for x in (train, test))
    draws = list(_draws(labels, config))
    chance = 1 / len(np.unique(labels))
    metrics = {}
    for endpoint, rows in train.endpoints.items():
        x, x_test = standardized(rows, test.endpoints[endpoint])
        accuracies = []
        for draw in draws:
            classes, targets = np.unique(labels[draw], return_inverse=True)
            one_hot = np.eye(len(classes))[targets]
            weights, bias = ridge_classifier(x[draw], one_hot, ridge=config.ridge)
            scores = x_test @ weights.astype(np.float32) + bias
            guesses = classes[scores.argmax(axis=1)]
            accuracies.append((guesses == test_labels).mean())
        spread = float(np.std(accuracies)) if config.num_draws > 1 else None
        mean = float(np.mean(accuracies))
        metrics[endpoint] = Metric(mean, SHARE, True, chance, spread)
    return metrics


def _draws(labels: np.ndarray, config: FewShotConfig) -> Iterator[np.ndarray]:
    """Yield the rows of each draw; every class has ``shots`` of them."""
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


def few_shot_eval(
    bank: FeatureBank, train: Source, test: Source, config: FewShotConfig
) -> Eval:
    """Measure the ridge classifier from a few labels; cheap enough for every epoch.

    Args:
      bank: where features come from.
      train: where the labelled records are drawn from.
      test: records and labels that the classifier is tested on.
      config: shots, draws and penalty.

    Returns:
      An evaluation whose metrics are accuracies by endpoint, with their spread over the
      draws where there are several.
    """

    def run(state: TrainState) -> EvalResult:
        metrics = few_shot(bank(state, train), bank(state, test), config=config)
        return EvalResult(metrics, {})

    return run
