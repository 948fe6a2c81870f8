"""Evaluations of a classifier's own answers: functions of the state, ready to run."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxssl import settings
from jaxssl.data import pipeline
from jaxssl.data.sources import Source
from jaxssl.evals import classification
from jaxssl.evals.features import VIEWS, crop_views
from jaxssl.evals.placement import place
from jaxssl.types import Eval, EvalResult, TrainState

Readouts = Mapping[str, Callable[..., Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitsConfig:
    """How a classifier is asked about a data set.

    Attributes:
      crop_size: side of the square crops, in pixels.
      batch_size: images a forward pass.
      views: crops of an image whose softmax (or sigmoid) outputs are averaged.
    """

    crop_size: int
    batch_size: int = 256
    views: str = "center"

    def __post_init__(self) -> None:
        settings.positive(self, "crop_size", "batch_size")
        settings.choice("views", self.views, VIEWS)


def accuracy_eval(readouts: Readouts, source: Source, config: LogitsConfig) -> Eval:
    """Measure the accuracy of a classifier that the task itself trains.

    Args:
      readouts: of the task; ``logits`` returns (b, k), or several by name, as the
        thesis' five probes do.
      source: held-out images with one label each.
      config: crops.

    Returns:
      An evaluation with the scalar ``accuracy``, or one by name.
    """
    ask = _asker(readouts, config, alone="accuracy")

    def run(state: TrainState) -> EvalResult:
        logits, labels = ask(state, source)
        scalars = {
            name: float(
                (classification.mean_softmax(x).argmax(axis=1) == labels).mean()
            )
            for name, x in logits.items()
        }
        return EvalResult(scalars, {})

    return run


def precision_eval(readouts: Readouts, source: Source, config: LogitsConfig) -> Eval:
    """Measure the mean average precision of attribute classifiers the task trains.

    Args:
      readouts: as for `accuracy_eval`.
      source: held-out images with several 0/1 labels each.
      config: crops.

    Returns:
      An evaluation with the scalar ``precision``, or one by name, the mean over
      attributes; the arrays hold each attribute's.
    """
    ask = _asker(readouts, config, alone="precision")

    def run(state: TrainState) -> EvalResult:
        logits, labels = ask(state, source)
        arrays = {}
        for name, x in logits.items():
            scores = (0.5 + 0.5 * np.tanh(0.5 * x)).mean(axis=1)  # Stable sigmoid.
            arrays[name] = classification.average_precisions(scores, labels)
        scalars = {name: float(np.nanmean(x)) for name, x in arrays.items()}
        return EvalResult(scalars, arrays)

    return run


def _asker(readouts: Readouts, config: LogitsConfig, *, alone: str):
    """Return a function from state and source to (n, v, k) by name, and labels."""

    def forward(state, images):
        crops = crop_views(images, size=config.crop_size, views=config.views)
        rows = crops.reshape(-1, *crops.shape[2:])  # (b v) s s c
        logits = readouts["logits"](state, rows)
        by_name = logits if isinstance(logits, dict) else {alone: logits}
        return {name: x.reshape(*crops.shape[:2], -1) for name, x in by_name.items()}

    forward = jax.jit(forward)

    def ask(state: TrainState, source: Source):
        parts, labels = [], []
        for batch, mask in pipeline.epoch(source, batch_size=config.batch_size):
            out = jax.device_get(forward(state, place(batch["image"], state)))
            parts.append({name: x[mask] for name, x in out.items()})
            labels.append(batch["label"][mask])
        joined = {n: np.concatenate([part[n] for part in parts]) for n in parts[0]}
        return joined, np.concatenate(labels)

    return ask
