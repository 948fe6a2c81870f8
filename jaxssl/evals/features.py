"""Frozen features of a data set: crop, run the network, pool, bring to the host.

Nearly all of an evaluation's time goes here, so `FeatureBank` computes the features of
one state and one data set once and lends them to every evaluation that asks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.config import checks
from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.placement import place
from jaxssl.ops.average import Pool, average_pool
from jaxssl.types import Array, Shaped, TrainState, UInt8

VIEWS = {"center": 1, "five": 5, "ten": 10}
"""Crops an image can be seen by: the centre; with the corners; with their mirrors."""

FeaturesFn = Callable[[TrainState, UInt8[Array, "b h w c"]], dict[str, Any]]
"""The predict_fn ``features``: feature maps (b, h, w, c) or vectors (b, d) by endpoint."""

PoolRule = Callable[[str, tuple[int, int, int]], Pool]
"""From a endpoint and its map's (h, w, c) to the pooling that a probe sees it through."""


class Features(NamedTuple):
    """What a frozen network says about a data set, on the host.

    Attributes:
      endpoints: float32 (n, d) by endpoint; (n, v, d) where several views were asked for.
      labels: int32 (n,), or (n, k) for attributes.
      ids: index of each row in its data set, int32 (n,).
    """

    endpoints: dict[str, np.ndarray]
    labels: np.ndarray
    ids: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """How images become feature vectors.

    Attributes:
      crop_size: side of the square crops, in pixels.
      batch_size: images a forward pass; the last batch is padded.
      max_cells: maps are average-pooled to at most this many cells a side,
      max_dims: and to at most this many values (facts of the cached protocol).
      train_images: evenly spaced training images that are used, 0 for all: features lie
        in memory, 27 kB an image with five endpoints.
    """

    crop_size: int
    batch_size: int = 256
    max_cells: int = 4
    max_dims: int = 1536
    train_images: int = 0

    def __post_init__(self) -> None:
        checks.positive(self, "crop_size", "batch_size", "max_cells", "max_dims")
        if self.train_images < 0:
            raise UserError(
                f"train_images is {self.train_images}; it must be 0 (all) or more."
            )


# --- Crops


def crop_views(
    images: Shaped[Array, "b h w c"], *, size: int, views: str = "center"
) -> Shaped[Array, "b v s s c"]:
    """Cut the centre crop, or also the corners, or also the mirrors of the five.

    The order is centre, top left, top right, bottom left, bottom right, then the five
    mirrors. An odd margin leaves its extra pixel at the bottom and at the right.

    Args:
      images: any dtype and range; both are kept.
      size: side of the crops, in pixels.
      views: ``center``, ``five`` or ``ten``.

    Returns:
      The crops along a new second axis.

    Raises:
      UserError: the crop is larger than the images, or the views are unknown.
    """
    checks.choice("views", views, VIEWS)
    height, width = images.shape[1:3]
    if size > min(height, width):
        raise UserError(
            f"crop_size is {size} but the images are {height}x{width}; "
            f"it must be at most {min(height, width)}."
        )
    bottom, right = height - size, width - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    places = [(bottom // 2, right // 2)] + (corners if views != "center" else [])
    crops = [images[:, y : y + size, x : x + size] for y, x in places]
    if views == "ten":
        crops += [crop[:, :, ::-1] for crop in crops]
    return jnp.stack(crops, axis=1)


# --- Pools


def bounded_pools(*, max_cells: int = 4, max_dims: int = 1536) -> PoolRule:
    """Return the rule of the cached protocol: the smallest SAME window within bounds.

    Args:
      max_cells: cells a side that remain at most.
      max_dims: values that remain at most; one cell is kept whatever its width.

    Returns:
      A rule for `extract`: 16x16x24, 8x8x64 and 4x4x96 become 4x4x24, 4x4x64, 4x4x96.
    """

    def rule(endpoint: str, shape: tuple[int, int, int]) -> Pool:
        height, width, channels = shape
        for size in range(1, max(height, width) + 1):
            cells = -(-height // size), -(-width // size)
            if max(cells) <= max_cells and cells[0] * cells[1] * channels <= max_dims:
                return Pool(size)
        return Pool(max(height, width))

    return rule


# --- Extraction


def make_extractor(
    features_fn: FeaturesFn,
    *,
    crop_size: int,
    batch_size: int,
    pools: PoolRule,
    views: str = "center",
) -> Callable[[TrainState, Source], Features]:
    """Return ``extract(state, source)``, compiled once for all states and sources.

    Args:
      features_fn: the predict_fn ``features``.
      crop_size: side of the crops, in pixels.
      batch_size: images a forward pass.
      pools: how each map is pooled.
      views: which crops (`crop_views`); one row of features for each.

    Returns:
      A function whose features have no axis of views where ``views`` is ``center``.
    """

    def forward(state: TrainState, images: UInt8[Array, "b h w c"]):
        crops = crop_views(images, size=crop_size, views=views)
        crops = crops.reshape(-1, *crops.shape[2:])  # (b v) s s c
        endpoints = features_fn(state, crops).items()
        return {
            endpoint: _pooled(x, endpoint, pools, len(images))
            for endpoint, x in endpoints
        }

    forward = jax.jit(forward)

    def extract(state: TrainState, source: Source) -> Features:
        endpoints: list[dict[str, np.ndarray]] = []
        rows: list[tuple[np.ndarray, np.ndarray]] = []
        for batch, mask in pipeline.epoch(source, batch_size=batch_size):
            out = forward(state, place(batch["image"], state))
            endpoints.append(
                {endpoint: x[mask] for endpoint, x in jax.device_get(out).items()}
            )
            rows.append((batch["label"][mask], batch["id"][mask]))
        joined = {
            endpoint: np.concatenate([part[endpoint] for part in endpoints])
            for endpoint in endpoints[0]
        }
        if views == "center":
            joined = {endpoint: x[:, 0] for endpoint, x in joined.items()}
        labels, ids = (np.concatenate(column) for column in zip(*rows, strict=True))
        return Features(joined, labels, ids)

    return extract


def extract(
    features_fn: FeaturesFn,
    state: TrainState,
    source: Source,
    *,
    crop_size: int,
    batch_size: int,
    pools: PoolRule,
    views: str = "center",
) -> Features:
    """Extract the features of one data set once (`make_extractor` for many times).

    Args:
      features_fn: the predict_fn ``features``.
      state: the network; no leaf of it changes.
      source: the images and their labels.
      crop_size: side of the crops, in pixels.
      batch_size: images a forward pass.
      pools: how each map is pooled.
      views: which crops (`crop_views`).

    Returns:
      Features of every image, in the order of the source.
    """
    run = make_extractor(
        features_fn,
        crop_size=crop_size,
        batch_size=batch_size,
        pools=pools,
        views=views,
    )
    return run(state, source)


def _pooled(x: Array, endpoint: str, pools: PoolRule, images: int) -> Array:
    x = x.astype(jnp.float32)
    if x.ndim == 4:
        _, height, width, channels = x.shape
        x = average_pool(x, pools(endpoint, (height, width, channels)))
    return x.reshape(images, len(x) // images, -1)


class FeatureBank:
    """Features of the newest state, each computed when first asked for.

    Evaluations of one experiment share one bank. It holds the features of one state: a
    state with other arrays (a later step, the untrained network) empties it.
    """

    def __init__(self, features_fn: FeaturesFn, config: FeatureConfig) -> None:
        """Make an empty bank.

        Args:
          features_fn: the predict_fn ``features``.
          config: crops, batches and pools.
        """
        pools = bounded_pools(max_cells=config.max_cells, max_dims=config.max_dims)
        self._extractors = {
            views: make_extractor(
                features_fn,
                crop_size=config.crop_size,
                batch_size=config.batch_size,
                pools=pools,
                views=views,
            )
            for views in VIEWS
        }
        self._leaves: list[Any] = []
        self._rows: dict[tuple[int, str], tuple[Source, Features]] = {}

    def __call__(
        self, state: TrainState, source: Source, *, views: str = "center"
    ) -> Features:
        """Return the features of ``source`` under ``state``.

        Args:
          state: the network; no leaf of it changes.
          source: the images and their labels.
          views: which crops (`crop_views`).

        Returns:
          The features, computed now or before.
        """
        leaves = jax.tree.leaves((state.params, state.stats))
        same = len(leaves) == len(self._leaves)
        if not (same and all(map(_is, leaves, self._leaves))):
            self._leaves, self._rows = leaves, {}
        checks.choice("views", views, VIEWS)
        name = id(source), views
        if name not in self._rows:
            self._rows[name] = source, self._extractors[views](state, source)
        return self._rows[name][1]


def _is(a: Any, b: Any) -> bool:
    return a is b


# --- Scale


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
