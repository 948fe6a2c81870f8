"""How well a network tells transformations apart, and which it takes for which."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxssl.config import fields
from jaxssl.data.source import Source
from jaxssl.evals.extract import Extracted, PredictFns, extract
from jaxssl.types import (
    SHARE,
    Array,
    Batch,
    Eval,
    EvalResult,
    Float,
    Int,
    Key,
    Metric,
    TrainState,
)

PretextFn = Callable[[TrainState, Batch, Key[Array, ""]], dict[str, Any]]
"""The predict_fn ``pretext``: every record of a batch once in each of k classes.

It returns ``logits`` (b, k, k) and, where records can be shown, ``image`` uint8
(b, k, h, w, 3).
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretextConfig:
    """How the pretext task is examined.

    Attributes:
      batch_size: records a forward pass; each is transformed once into every class.
      num_examples: images kept with all their transformed versions, for the report.
      seed: of the transformations.
    """

    batch_size: int = fields.count(100)
    num_examples: int = fields.count(8)
    seed: int = fields.seed(0)

    __post_init__ = fields.validate


@functools.lru_cache(maxsize=8)
def make_pretext(
    pretext_fn: PretextFn, config: PretextConfig
) -> Callable[[TrainState, Source], Extracted]:
    """Return ``pretext(state, source)``, compiled once for all states and sources.

    Args:
      pretext_fn: the predict_fn ``pretext``; its randomness is by the ids of the batch,
        so every batch gets the same key.
      config: batches and examples.

    Returns:
      A function to the output ``logits`` (n, k, k): record, applied transformation,
      class. Where there are images, it also returns the first ``num_examples``:
      the output ``image`` (g, k, s, s, c) and the records' ``image`` (g, h, w, c).
    """

    @jax.jit
    def forward(state: TrainState, batch: Batch) -> dict[str, Array]:
        outputs = pretext_fn(state, batch, jax.random.key(config.seed))
        if "image" in outputs and outputs["image"].dtype != np.uint8:
            raise TypeError(
                "The predict_fn 'pretext' returned images of "
                f"{outputs['image'].dtype}; it must return uint8 pixels, so that they "
                "can be shown."
            )
        return outputs

    def pretext(state: TrainState, source: Source) -> Extracted:
        return extract(
            forward,
            state,
            source,
            batch_size=config.batch_size,
            optional=("image",),
            limits={"image": config.num_examples},
        )

    return pretext


def confusion(logits: Float[np.ndarray, "n k k"]) -> Int[np.ndarray, "k k"]:
    """Count answers: row = applied transformation, column = the network's choice.

    Args:
      logits: (record, applied transformation, class).

    Returns:
      Counts; every row sums to the number of records.
    """
    num_classes = logits.shape[-1]
    chosen = logits.argmax(axis=-1)  # n k
    flat = np.arange(num_classes)[None] * num_classes + chosen
    counts = np.bincount(flat.ravel(), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def pretext_eval(
    predict_fns: PredictFns,
    source: Source,
    names: Sequence[str],
    config: PretextConfig,
) -> Eval:
    """Count which transformation is taken for which, on held-out records.

    Args:
      predict_fns: of the task; needs ``pretext``.
      source: held-out records.
      names: the transformations in label order.
      config: batches and examples.

    Returns:
      An evaluation with the metrics ``accuracy`` and one by transformation, and the
      arrays ``confusion`` and ``names``; where there are images also
      ``gallery_original`` and ``gallery``.
    """
    pretext = make_pretext(predict_fns["pretext"], config)

    def run(state: TrainState) -> EvalResult:
        outputs, records = pretext(state, source)
        counts = confusion(outputs["logits"])
        shares = np.diag(counts) / counts.sum(axis=1)
        values = {"accuracy": float(shares.mean())}
        values |= zip(names, map(float, shares), strict=True)
        chance = 1 / len(names)
        metrics = {n: Metric(x, SHARE, True, chance) for n, x in values.items()}
        arrays = {"confusion": counts, "names": np.array(names, dtype=np.str_)}
        if "image" in outputs and "image" in records:
            arrays["gallery_original"] = records["image"]
            arrays["gallery"] = outputs["image"]
        return EvalResult(metrics, arrays)

    return run
