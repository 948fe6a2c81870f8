"""Nearest neighbours by cosine similarity of standardised features.

References:
  Section 4.4.2 of the thesis, "Nearest Neighbor Evaluation", and figure 4.6.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.config import checks, fields
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.extract import Prepare
from jaxssl.evals.feature_bank import (
    FeatureBank,
    Features,
    class_labels,
    classified,
    standardized,
)
from jaxssl.types import SHARE, Array, Eval, EvalResult, Float, Int, Metric, TrainState

# Similarities that are computed at once: 64 MB of float32.
_MAX_SIMILARITIES = 2**24


@dataclasses.dataclass(frozen=True, kw_only=True)
class KnnConfig:
    """Which neighbours vote.

    Attributes:
      ks: numbers of neighbours, each an accuracy of its own.
      endpoint: whose features are compared.
      views: ``center``, or ``five`` crops whose features are concatenated (thesis
        figure 4.6; which five is not said: centre and corners are assumed). The
        experiment gives `knn_eval` the function that cuts them.
    """

    ks: tuple[int, ...] = fields.count((1, 5, 10, 20, 50))
    endpoint: str = "conv5"
    views: str = fields.choice("center", ("center", "five"))

    def __post_init__(self) -> None:
        fields.validate(self)
        if not self.ks:
            raise UserError("ks is empty; it needs at least one number.")


class Neighbors(NamedTuple):
    """The nearest rows of a database, nearest first.

    Attributes:
      indices: row numbers in the database, (q, k).
      similarities: cosines in [-1, 1], (q, k).
    """

    indices: Int[np.ndarray, "q k"]
    similarities: Float[np.ndarray, "q k"]


def nearest(
    queries: Float[np.ndarray, "q d"],
    database: Float[np.ndarray, "n d"],
    *,
    k: int,
    leave_one_out: bool = False,
) -> Neighbors:
    """Find the k database rows of the largest cosine similarity to each query.

    Among rows of equal similarity the one with the lower index comes first. A row of
    zeros has similarity 0 to everything. Similarities are computed a chunk of queries
    at a time, so memory does not grow with their number.

    Args:
      queries: features.
      database: features of the same width.
      k: how many.
      leave_one_out: query i is row i of the database and is not its own neighbour.

    Returns:
      Indices and similarities.

    Raises:
      UserError: the database has fewer than k rows to choose from.
    """
    available = len(database) - leave_one_out
    if k > available:
        raise UserError(
            f"{k} neighbours were asked for, but there are only {available} records to "
            f"choose from; ask for at most {available} (eval.knn.ks, "
            "eval.retrieval.num_neighbors)."
        )
    chunk = max(1, min(len(queries), _MAX_SIMILARITIES // len(database)))
    data = jax.device_put(database)
    parts = []
    for start in range(0, len(queries), chunk):
        rows = queries[start : start + chunk]
        own = np.arange(start, start + chunk) if leave_one_out else np.full(chunk, -1)
        padded = np.pad(rows, ((0, chunk - len(rows)), (0, 0)))
        top = _top(*jax.device_put((padded, own.astype(np.int32))), data, k=k)
        parts.append([part[: len(rows)] for part in jax.device_get(top)])
    similarities, indices = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Neighbors(indices, similarities)


@partial(jax.jit, static_argnames=("k",))
def _top(queries: Array, own: Array, database: Array, *, k: int):
    similarities = _unit(queries) @ _unit(database).T
    columns = jnp.arange(len(database), dtype=own.dtype)
    return jax.lax.top_k(
        jnp.where(columns[None] == own[:, None], -jnp.inf, similarities), k
    )


def _unit(x: Array) -> Array:
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    return x / jnp.maximum(norm, 1e-12)


def vote(
    labels: Int[np.ndarray, "q k"], *, ks: tuple[int, ...], num_classes: int
) -> dict[int, Int[np.ndarray, " q"]]:
    """Let the first k neighbours vote for their class, for several k.

    Of classes with equally many votes the one with the nearest neighbour wins.

    Args:
      labels: classes of the neighbours, nearest first.
      ks: how many of them vote.
      num_classes: labels lie below it.

    Returns:
      The winning class of each query by k.
    """
    queries, depth = labels.shape
    rows = np.arange(queries)
    votes = np.zeros((queries, num_classes), np.int64)
    first = np.full((queries, num_classes), depth)  # Rank of the class' nearest.
    winners = {}
    for rank in range(max(ks)):
        classes = labels[:, rank]
        votes[rows, classes] += 1
        first[rows, classes] = np.minimum(first[rows, classes], rank)
        if rank + 1 in ks:
            winners[rank + 1] = (votes * (depth + 1) - first).argmax(axis=1)
    return winners


def knn(train: Features, test: Features, *, config: KnnConfig) -> dict[str, Metric]:
    """Classify ``test`` by its neighbours in ``train``, and among its own records.

    Args:
      train: features (n, d), or (n, v, d) whose views are concatenated, and labels;
        records without a label neither vote nor count.
      test: features and labels of the same kind.
      config: numbers of neighbours and endpoint.

    Returns:
      Accuracies: ``k<k>`` by the neighbours in ``train``, and ``loo_k<k>`` by those
      among all the other records of ``test`` (leave-one-out).

    References:
      Figure 4.6 of the thesis. For leave-one-out it computes k + 1 neighbours and drops
      the closest; here the record itself is dropped, which differs only where it has a
      duplicate.
    """
    train, test = classified(train, test, "knn", config.endpoint)
    rows, test_rows = (concatenated(x, config.endpoint) for x in (train, test))
    labels, test_labels = (class_labels(x, "knn") for x in (train, test))
    chance, most = 1 / (int(labels.max()) + 1), max(config.ks)
    x, x_test = standardized(rows, test_rows)
    (x_own,) = standardized(test_rows)
    voters = {
        "k": labels[nearest(x_test, x, k=most).indices],
        "loo_k": test_labels[nearest(x_own, x_own, k=most, leave_one_out=True).indices],
    }
    metrics = {}
    for prefix, classes in voters.items():
        num_classes = int(classes.max()) + 1
        winners = vote(classes, ks=config.ks, num_classes=num_classes)
        for k, winner in winners.items():
            accuracy = float((winner == test_labels).mean())
            metrics[f"{prefix}{k}"] = Metric(accuracy, SHARE, True, chance)
    return metrics


def concatenated(features: Features, endpoint: str) -> Float[np.ndarray, "n d"]:
    """Return one row a record: the features of its views, one after the other.

    Args:
      features: of one or several views.
      endpoint: whose features.

    Raises:
      UserError: the network has no such endpoint.
    """
    checks.choice("endpoint", endpoint, features.endpoints)
    rows = features.endpoints[endpoint]
    return rows.reshape(len(rows), -1)


def knn_eval(
    bank: FeatureBank,
    train: Source,
    test: Source,
    config: KnnConfig,
    *,
    prepare: Prepare | None = None,
) -> Eval:
    """Measure nearest-neighbour classification, held-out and leave-one-out.

    Args:
      bank: where features come from.
      train: the neighbours of the held-out accuracies.
      test: records to classify; among themselves for leave-one-out.
      config: numbers of neighbours and endpoint.
      prepare: from a batch to inputs; by default the bank's own. The features of
        several views are concatenated.

    Returns:
      An evaluation whose metrics are accuracies ``k<k>`` and ``loo_k<k>``.
    """

    def run(state: TrainState) -> EvalResult:
        database, queries = bank(state, train, prepare), bank(state, test, prepare)
        return EvalResult(knn(database, queries, config=config), {})

    return run
