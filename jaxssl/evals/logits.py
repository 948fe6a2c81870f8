"""The logits of a classifier that the task itself trains, for all its evaluations."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxssl.config import fields
from jaxssl.data.source import Source
from jaxssl.evals.crops import VIEWS
from jaxssl.evals.extract import Forward, PredictFns, Prepare, extract, over_views
from jaxssl.types import Eval, EvalResult, Float, TrainState

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsConfig:
    """A config's section ``eval.test``: how a classifier is asked about a data set.

    Attributes:
      crop_size: side of the square crops, in pixels.
      batch_size: images a forward pass.
      views: crops of an image whose softmax (or sigmoid) outputs are averaged.
    """

    crop_size: int = fields.pixels()
    batch_size: int = fields.count(256)
    views: str = fields.choice("center", VIEWS)

    __post_init__ = fields.validate


def logits_eval(
    measure: Callable[[Arrays, Arrays], EvalResult],
    predict_fns: PredictFns,
    source: Source,
    prepare: Prepare,
    *,
    batch_size: int,
    optional: Sequence[str] = (),
) -> Eval:
    """Measure something of the logits of a data set and its labels.

    Args:
      measure: from logits (n, v, k) by name, under the empty name where there is only
        one classifier, and from the records' ``label`` and the arrays of ``optional``.
      predict_fns: of the task; ``logits`` returns (b, k), or several by name, as the
        thesis' five probes do.
      source: records with labels.
      prepare: from a batch to inputs, as `jaxssl.evals.crops.CenterCrops`.
      batch_size: records a forward pass.
      optional: other arrays of the records that are kept where there are some.

    Returns:
      An evaluation.
    """
    forward = _compile(predict_fns["logits"], prepare)

    def run(state: TrainState) -> EvalResult:
        logits, records = extract(
            forward,
            state,
            source,
            batch_size=batch_size,
            keep=("label",),
            optional=optional,
        )
        return measure(logits, records)

    return run


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
