"""Nearest images, for the eye: which images look alike to the network.

References:
  Section 4.4.2 and figure 4.7 of the thesis.
"""

import dataclasses

import numpy as np

from jaxssl.config import fields
from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.extract import check_arrays
from jaxssl.evals.feature_bank import (
    FeatureBank,
    Features,
    class_labels,
    classified,
    standardized,
)
from jaxssl.evals.knn import concatenated, nearest
from jaxssl.types import SHARE, Eval, EvalResult, Metric, TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """What is searched and shown.

    Attributes:
      endpoint: whose features are compared.
      num_queries: images to search for, drawn from the query set.
      num_neighbors: images shown beside each.
      seed: of the draw.
      database: the set that is searched. ``queries`` is the set that the queries are
        drawn from, where an image is left out of its own results: figure 4.7 of the
        thesis searches the validation set of its queries, so this is the default.
        ``train`` is the training set, which table 5.4 searches, and which version 0.1
        searched for figure 4.7 as well. The author's code for figure 4.7 is not
        published.
    """

    endpoint: str = "conv5"
    num_queries: int = fields.count(8)
    num_neighbors: int = fields.count(6)
    seed: int = fields.seed(0)
    database: str = fields.choice("queries", ("queries", "train"))

    __post_init__ = fields.validate


def retrieve(
    query_source: Source,
    query_features: Features,
    source: Source,
    features: Features,
    *,
    config: RetrievalConfig,
) -> EvalResult:
    """Search the nearest images of some queries.

    Where both sources are the same object, an image is not its own neighbour. Images
    without a label are neither searched nor searched for.

    Args:
      query_source: where the query images come from.
      query_features: their features (n, d) by endpoint.
      source: where the neighbours come from.
      features: their features by the same endpoints.
      config: how many of which endpoint.

    Returns:
      The metric ``precision``, the share of neighbours of the query's class over all of
      the query set. The arrays of the shown queries are ``query_images`` (q, h, w, c)
      and ``query_labels`` (q,), and of their nearest images, nearest first,
      ``neighbor_images`` (q, k, h, w, c), ``neighbor_labels`` and ``similarities``,
      cosines in [-1, 1], (q, k); further ``class_names``, and ``database``, the name of
      the searched set.

    Raises:
      UserError: there are fewer labelled images than asked for, or no images, or not
        one class an image, or features are not finite.
    """
    for searched in (query_source, source):
        check_arrays(searched, ["image"])
    features, query_features = classified(
        features, query_features, "retrieval", config.endpoint
    )
    query_labels = class_labels(query_features, "retrieval")
    labels = class_labels(features, "retrieval")
    total = len(query_features.ids)
    if config.num_queries > total:
        raise UserError(
            f"num_queries is {config.num_queries}, but there are only {total} images "
            f"with a label; it must be at most {total}."
        )
    database, queries = standardized(
        concatenated(features, config.endpoint),
        concatenated(query_features, config.endpoint),
    )
    indices, similarities = nearest(
        queries,
        database,
        k=config.num_neighbors,
        leave_one_out=query_source is source,
    )
    rng = np.random.default_rng(config.seed)
    rows = np.sort(rng.choice(total, config.num_queries, replace=False))
    precision = float((labels[indices] == query_labels[:, None]).mean())
    arrays = {
        "query_images": _images(query_source, query_features.ids[rows]),
        "query_labels": query_labels[rows],
        "neighbor_images": _images(source, features.ids[indices[rows]]),
        "neighbor_labels": labels[indices[rows]],
        "similarities": similarities[rows],
        "class_names": np.array(source.class_names, dtype=np.str_),
        "database": np.array(source.name, dtype=np.str_),
    }
    return EvalResult({"precision": Metric(precision, SHARE, True)}, arrays)


def _images(source: Source, ids: np.ndarray) -> np.ndarray:
    images = pipeline.fetch(source, ids.ravel(), max_bad=0).batch["image"]
    return images.reshape(*ids.shape, *images.shape[1:])


def retrieval_eval(
    bank: FeatureBank, train: Source, test: Source, config: RetrievalConfig
) -> Eval:
    """Find the nearest images of some queries, for the report.

    Args:
      bank: where features come from.
      train: labelled images that are searched where ``config.database`` is ``train``.
      test: labelled images that the queries are drawn from.
      config: which set is searched, how many, and by which endpoint.

    Returns:
      The evaluation; `retrieve` says what it finds.
    """
    source = test if config.database == "queries" else train

    def run(state: TrainState) -> EvalResult:
        queries, database = bank(state, test), bank(state, source)
        return retrieve(test, queries, source, database, config=config)

    return run
