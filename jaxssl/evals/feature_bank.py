"""Frozen features of a data set: prepare, run the network, pool, bring to the host.

Nearly all of an evaluation's time goes here, so `FeatureBank` computes the features of
one state and one data set once and lends them to every evaluation that asks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.config import checks, fields
from jaxssl.data.labelled import check_taught
from jaxssl.data.labels import NO_LABEL, check, count_classes
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.extract import Forward, Prepare, check_rows, extract, over_views
from jaxssl.ops.average import Pool, average_pool
from jaxssl.types import Array, Int, TrainState

FeaturesFn = Callable[[TrainState, Any], dict[str, Any]]
"""The predict_fn ``features``: maps (b, h, w, c) or vectors (b, d) by endpoint."""

PoolRule = Callable[[str, tuple[int, int, int]], Pool]
"""From an endpoint and its map's (h, w, c) to the pooling that a probe reads it by."""


class Features(NamedTuple):
    """The features of a data set under one frozen network, on the host.

    Attributes:
      endpoints: float32 (n, d) by endpoint; (n, v, d) where records have several views.
      labels: int32 (n,), -1 where there is none; or (n, k) for k attributes; None if
        there are no labels.
      ids: index of each row in its data set, int32 (n,).
    """

    endpoints: dict[str, np.ndarray]
    labels: np.ndarray | None
    ids: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """A config's section ``eval.features``: how images become feature vectors.

    Attributes:
      crop_size: side of the square crops, in pixels.
      batch_size: images a forward pass; the last batch is padded.
      max_cells: maps are average-pooled to at most this many cells a side,
      max_dims: and to at most this many values (facts of the cached protocol).
      train_images: evenly spaced training images that are used, 0 for all: features lie
        in memory, 27 kB an image with five endpoints.
    """

    crop_size: int = fields.pixels()
    batch_size: int = fields.count(256)
    max_cells: int = fields.pixels(4)
    max_dims: int = fields.count(1536)
    train_images: int = fields.count(0, at_least=0)

    __post_init__ = fields.validate


def bounded_pools(*, max_cells: int = 4, max_dims: int = 1536) -> PoolRule:
    """Return the rule of the cached protocol: the smallest SAME window within bounds.

    Args:
      max_cells: cells a side that remain at most.
      max_dims: values that remain at most; one cell is kept whatever its width.

    Returns:
      A rule for `FeatureBank`: 16x16x24, 8x8x64 and 4x4x96 become 4x4x24, 4x4x64 and
      4x4x96.
    """

    def rule(endpoint: str, shape: tuple[int, int, int]) -> Pool:
        height, width, channels = shape
        for size in range(1, max(height, width) + 1):
            cells = -(-height // size), -(-width // size)
            if max(cells) <= max_cells and cells[0] * cells[1] * channels <= max_dims:
                return Pool(size)
        return Pool(max(height, width))

    return rule


class FeatureBank:
    """Features of the newest state, each computed when first asked for.

    Evaluations of one experiment share one bank. It holds the features of one state: a
    state with other arrays (a later step, the untrained network) empties it.
    """

    def __init__(
        self,
        features_fn: FeaturesFn,
        prepare: Prepare,
        *,
        batch_size: int = 256,
        pools: PoolRule | None = None,
    ) -> None:
        """Make an empty bank.

        Args:
          features_fn: the predict_fn ``features``.
          prepare: from a batch to inputs of one view, as `CenterCrops` for images.
          batch_size: records a forward pass.
          pools: how each map is pooled; by default as `bounded_pools` does.
        """
        self._features_fn = features_fn
        self._prepare = prepare
        self._batch_size = batch_size
        self._pools = pools or bounded_pools()
        self._forwards: dict[Prepare, Forward] = {}
        self._leaves: list[Any] = []
        self._features: dict[tuple[int, Prepare], tuple[Source, Features]] = {}

    def __call__(
        self, state: TrainState, source: Source, prepare: Prepare | None = None
    ) -> Features:
        """Return the features of ``source`` under ``state``.

        Args:
          state: the network; no leaf of it changes.
          source: the records, with or without labels.
          prepare: from a batch to inputs; by default the bank's own.

        Returns:
          The features, computed now or before; without an axis of views where
          ``prepare`` gives one view.
        """
        leaves = jax.tree.leaves((state.params, state.stats, state.extra))
        if [*map(id, leaves)] != [*map(id, self._leaves)]:
            self._leaves, self._features = leaves, {}
        prepare = prepare or self._prepare
        key = id(source), prepare
        if key not in self._features:
            self._features[key] = source, self._compute(state, source, prepare)
        return self._features[key][1]

    def _compute(self, state: TrainState, source: Source, prepare: Prepare) -> Features:
        if prepare not in self._forwards:
            self._forwards[prepare] = jax.jit(over_views(self._pooled, prepare))
        outputs, records = extract(
            self._forwards[prepare],
            state,
            source,
            batch_size=self._batch_size,
            optional=("label",),
        )
        endpoints = {n: x[:, 0] if x.shape[1] == 1 else x for n, x in outputs.items()}
        return Features(endpoints, records.get("label"), records["id"])

    def _pooled(self, state: TrainState, inputs: Any) -> dict[str, Array]:
        """Return pooled float32 features (n, d) by endpoint."""
        pooled = {}
        for endpoint, x in self._features_fn(state, inputs).items():
            if x.ndim not in (2, 4):
                raise ValueError(
                    f"the endpoint {endpoint!r} has the shape {x.shape}; the "
                    "predict_fn 'features' must return maps (b, h, w, c) or vectors "
                    "(b, d)."
                )
            x = x.astype(jnp.float32)
            if x.ndim == 4:
                _, height, width, channels = x.shape
                x = average_pool(x, self._pools(endpoint, (height, width, channels)))
            pooled[endpoint] = x.reshape(len(x), -1)
        return pooled


def class_labels(features: Features, evaluation: str) -> Int[np.ndarray, " n"]:
    """Return one class a record, `NO_LABEL` where there is none.

    Args:
      features: whose labels.
      evaluation: which evaluation needs them, for the message.

    Raises:
      UserError: the records have no label, several 0/1 labels each, or a label that
        is no class.
    """
    labels = features.labels
    if labels is None or labels.ndim != 1:
        kind = "no labels" if labels is None else f"labels of shape {labels.shape}"
        raise UserError(
            f"{evaluation} needs one class a record; this data set has {kind}. Leave "
            "the evaluation out, or use attributes for several 0/1 labels a record."
        )
    checks.class_dtype(labels)
    check(
        labels,
        lambda row: f"record {features.ids[row]}",
        num_classes=count_classes((), len(labels)),
    )
    return labels


def classified(
    train: Features, test: Features, evaluation: str, endpoint: str | None = None
) -> tuple[Features, Features]:
    """Leave out the records without a class, and check what is left.

    Args:
      train: features and labels of the records that an evaluation learns from.
      test: of those that it is tested on.
      evaluation: which one, for the message.
      endpoint: whose features are read; by default those of all endpoints.

    Returns:
      The features and labels of the labelled records of both.

    Raises:
      UserError: no record has a class, a label is no class, test records have a class
        that no training record has, or features are not finite.
    """
    train, test = (_labelled(x, evaluation) for x in (train, test))
    check_taught(class_labels(train, evaluation), class_labels(test, evaluation))
    for part in (train, test):
        check_finite(part, endpoint)
    return train, test


def _labelled(features: Features, evaluation: str) -> Features:
    labels = class_labels(features, evaluation)
    rows = np.flatnonzero(labels != NO_LABEL)
    if len(rows) == len(labels):
        return features
    if not len(rows):
        raise UserError(
            f"{evaluation} needs one class a record; none of the {len(labels)} records "
            "has a label. Leave the evaluation out, or give labelled data."
        )
    endpoints = {name: x[rows] for name, x in features.endpoints.items()}
    return Features(endpoints, labels[rows], features.ids[rows])


def check_finite(features: Features, endpoint: str | None = None) -> None:
    """Raise unless the features of one endpoint, or of all, are finite.

    Raises:
      UserError: names the endpoint, the first record, and how many there are.
    """
    for name, rows in features.endpoints.items():
        if endpoint in (None, name):
            check_rows(f"the features {name!r}", rows, lambda i: str(features.ids[i]))


def standardized(train: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Shift and scale each value by the mean and deviation it has over ``train``.

    A value that is constant over ``train`` carries nothing and becomes 0 everywhere.

    Args:
      train: (n, d).
      *others: arrays whose last axis is d.

    Returns:
      ``train`` and the others, float32.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    alive = deviation > 1e-6
    scale = np.where(alive, 1 / np.where(alive, deviation, 1), 0).astype(np.float32)
    return tuple((x - mean) * scale for x in (train, *others))
