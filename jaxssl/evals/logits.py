"""The logits of a classifier that the task itself trains, for all its evaluations."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxssl.config import checks
from jaxssl.data.source import Source
from jaxssl.evals.crops import VIEWS
from jaxssl.evals.extract import (
    Extracted,
    Forward,
    PredictFns,
    Prepare,
    extract,
    over_views,
)
from jaxssl.types import Float, TrainState


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsConfig:
    """A config's section ``eval.test``: how a classifier is asked about a data set.

    Attributes:
      crop_size: side of the square crops, in pixels.
      batch_size: images a forward pass.
      views: crops of an image whose softmax (or sigmoid) outputs are averaged.
    """

    crop_size: int
    batch_size: int = 256
    views: str = "center"

    def __post_init__(self) -> None:
        checks.positive(self, "crop_size", "batch_size")
        checks.choice("views", self.views, VIEWS)


def predict_logits(
    predict_fns: PredictFns,
    state: TrainState,
    source: Source,
    prepare: Prepare,
    *,
    batch_size: int,
    optional: Sequence[str] = (),
) -> Extracted:
    """Return the logits of a data set, with its labels.

    Args:
      predict_fns: of the task; ``logits`` returns (b, k), or several by name, as the
        thesis' five probes do.
      state: the network.
      source: records with labels.
      prepare: from a batch to inputs.
      batch_size: records a forward pass.
      optional: other arrays of the records that are kept where there are some.

    Returns:
      Logits (n, v, k) by name, under the empty name where there is only one classifier;
      of the records the ``label`` and those of ``optional``.
    """
    return extract(
        _compile(predict_fns["logits"], prepare),
        state,
        source,
        batch_size=batch_size,
        keep=("label",),
        optional=optional,
    )


@functools.lru_cache(maxsize=8)
def _compile(logits_fn: Callable[..., Any], prepare: Prepare) -> Forward:
    """Return a compiled function that all evaluations of one classifier share."""

    def by_name(state: TrainState, inputs: Any) -> dict[str, Any]:
        logits = logits_fn(state, inputs)
        return logits if isinstance(logits, dict) else {"": logits}

    return jax.jit(over_views(by_name, prepare))


def mean_softmax(logits: Float[np.ndarray, "n v k"]) -> Float[np.ndarray, "n k"]:
    """Return class probabilities, averaged over the views."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).mean(axis=1)
