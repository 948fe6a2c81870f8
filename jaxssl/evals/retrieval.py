"""Nearest images, for the eye: which training images look alike to the network.

References:
  Section 4.4.2 and figure 4.7 of the thesis.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxssl.config import checks
from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.features import Features, standardized
from jaxssl.evals.knn import concatenated, nearest
from jaxssl.types import Float, Int, UInt8


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """What is shown.

    Attributes:
      endpoint: whose features are compared.
      num_queries: images to search for, drawn from the query set.
      num_neighbors: images shown beside each.
      seed: of the draw.
    """

    endpoint: str = "conv5"
    num_queries: int = 8
    num_neighbors: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        checks.positive(self, "num_queries", "num_neighbors")


class Retrieval(NamedTuple):
    """Query images with their nearest images, nearest first.

    Attributes:
      queries: images.
      query_labels: their classes.
      neighbors: images.
      neighbor_labels: their classes.
      similarities: cosines in [-1, 1].
      precision: share of neighbours of the query's class, over all of the query set.
    """

    queries: UInt8[np.ndarray, "q h w c"]
    query_labels: Int[np.ndarray, " q"]
    neighbors: UInt8[np.ndarray, "q k h w c"]
    neighbor_labels: Int[np.ndarray, "q k"]
    similarities: Float[np.ndarray, "q k"]
    precision: float


def retrieve(
    query_source: Source,
    query_features: Features,
    source: Source,
    features: Features,
    *,
    config: RetrievalConfig,
) -> Retrieval:
    """Search the nearest images of some queries.

    Where both sources are the same object, an image is not its own neighbour.

    Args:
      query_source: where the query images come from.
      query_features: their features (n, d) by endpoint.
      source: where the neighbours come from.
      features: their features by the same endpoints.
      config: how many of which endpoint.

    Returns:
      The images with their classes and similarities.

    Raises:
      UserError: there are fewer images than asked for, or several labels an image.
    """
    if features.labels.ndim != 1:
        raise UserError(
            "retrieval needs one class an image; this data set has labels of shape "
            f"{features.labels.shape}."
        )
    total = len(query_features.ids)
    if config.num_queries > total:
        raise UserError(
            f"num_queries is {config.num_queries}, but there are only {total} images; "
            f"it must be at most {total}."
        )
    database, queries = standardized(
        concatenated(features, config.endpoint),
        concatenated(query_features, config.endpoint),
    )
    found = nearest(
        queries,
        database,
        k=config.num_neighbors,
        leave_one_out=query_source is source,
    )
    labels = features.labels[found.indices]
    same = labels == query_features.labels[:, None]
    rng = np.random.default_rng(config.seed)
    rows = np.sort(rng.choice(total, config.num_queries, replace=False))
    return Retrieval(
        queries=_images(query_source, query_features.ids[rows]),
        query_labels=query_features.labels[rows],
        neighbors=_images(source, features.ids[found.indices[rows]]),
        neighbor_labels=labels[rows],
        similarities=found.similarities[rows],
        precision=float(same.mean()),
    )


def _images(source: Source, ids: np.ndarray) -> np.ndarray:
    images = pipeline.fetch(source, ids.ravel(), 0).batch["image"]
    return images.reshape(*ids.shape, *images.shape[1:])
