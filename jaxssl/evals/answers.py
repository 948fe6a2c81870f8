"""Evaluations of a classifier's own answers: functions of the state, ready to run."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxssl.config import checks
from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.evals import classification
from jaxssl.evals.features import VIEWS, crop_views
from jaxssl.evals.placement import place
from jaxssl.types import Eval, EvalResult, TrainState

PredictFns = Mapping[str, Callable[..., Any]]


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
        checks.positive(self, "crop_size", "batch_size")
        checks.choice("views", self.views, VIEWS)


def accuracy_eval(
    predict_fns: PredictFns, source: Source, config: LogitsConfig
) -> Eval:
    """Measure the accuracy of a classifier that the task itself trains.

    Args:
      predict_fns: of the task; ``logits`` returns (b, k), or several by name, as the
        thesis' five probes do.
      source: held-out images with one label each.
      config: crops.

    Returns:
      An evaluation with the scalar ``accuracy``, or one by name.
    """
    ask = _asker(predict_fns, config, alone="accuracy")

    def run(state: TrainState) -> EvalResult:
        logits, labels = ask(state, source)
        scalars = {name: _accuracy(x, labels["label"]) for name, x in logits.items()}
        return EvalResult(scalars, {})

    return run


def fit_eval(predict_fns: PredictFns, source: Source, config: LogitsConfig) -> Eval:
    """Measure how far a classifier has fitted the labels that it is trained on.

    Args:
      predict_fns: of the task; ``logits`` returns (b, k).
      source: training images with one label each, some of them perhaps wrong.
      config: crops.

    Returns:
      An evaluation with the scalar ``labels``, the accuracy on the labels as they are;
      where some of them are wrong also ``true_labels``, the accuracy on what they
      should be, and ``memorized``, the share of the wrong ones that it says itself.
    """
    ask = _asker(predict_fns, config, alone="logits")

    def run(state: TrainState) -> EvalResult:
        logits, labels = ask(state, source)
        logits, given = logits["logits"], labels["label"]
        scalars = {"labels": _accuracy(logits, given)}
        true = labels.get("true_label", given)
        wrong = true != given
        if wrong.any():
            scalars["true_labels"] = _accuracy(logits, true)
            scalars["memorized"] = _accuracy(logits[wrong], given[wrong])
        return EvalResult(scalars, {})

    return run


def predictions_eval(
    predict_fns: PredictFns, source: Source, config: LogitsConfig, *, seed: int
) -> Eval:
    """Let a classifier label a data set with its dropout active (section 8.4.3).

    Its mistakes are realistic label noise for other networks; they are the file of
    ``noise.kind=predicted``.

    Args:
      predict_fns: of the task; needs ``sampled_logits``.
      source: the images, in the order of their labels.
      config: crops.
      seed: of dropout.

    Returns:
      An evaluation with the scalar ``disagreement``, the share of answers that differ
      from the true labels (from the given ones where those are all there is), and by
      index of the record the arrays ``predicted``, int32 (n,), ``label``, the given
      one, and ``probability``, what the answer leaves for the given one.
    """
    forward = _make_forward(predict_fns["sampled_logits"], config, "logits")

    def run(state: TrainState) -> EvalResult:
        parts = []
        batches = pipeline.epoch(source, batch_size=config.batch_size)
        for i, (batch, _) in enumerate(batches):
            key = jax.random.fold_in(jax.random.key(seed), i)
            images = place(batch["image"], state)
            logits = jax.device_get(forward(state, images, key)["logits"])
            given = batch["label"]
            shares = classification.mean_softmax(logits)
            part = {
                "predicted": shares.argmax(axis=1).astype(np.int32),
                "label": given,
                "probability": shares[np.arange(len(given)), given],
            }
            parts.append(part | {"true": batch.get("true_label", given)})
        # The last batch is padded; a record that cannot be read has its stand-in's.
        found = {name: x[: len(source)] for name, x in _joined(parts).items()}
        disagreement = float((found["predicted"] != found.pop("true")).mean())
        return EvalResult({"disagreement": disagreement}, found)

    return run


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the accuracy of logits (n, v, k), views averaged."""
    return float((classification.mean_softmax(logits).argmax(axis=1) == labels).mean())


def precision_eval(
    predict_fns: PredictFns, source: Source, config: LogitsConfig
) -> Eval:
    """Measure the mean average precision of attribute classifiers the task trains.

    Args:
      predict_fns: as for `accuracy_eval`.
      source: held-out images with several 0/1 labels each.
      config: crops.

    Returns:
      An evaluation with the scalar ``precision``, or one by name, the mean over
      attributes; the arrays hold each attribute's.
    """
    ask = _asker(predict_fns, config, alone="precision")

    def run(state: TrainState) -> EvalResult:
        logits, labels = ask(state, source)
        arrays = {}
        for name, x in logits.items():
            scores = (0.5 + 0.5 * np.tanh(0.5 * x)).mean(axis=1)  # Stable sigmoid.
            arrays[name] = classification.average_precisions(scores, labels["label"])
        scalars = {name: float(np.nanmean(x)) for name, x in arrays.items()}
        return EvalResult(scalars, arrays)

    return run


def _asker(predict_fns: PredictFns, config: LogitsConfig, *, alone: str):
    """Return a function from state and source to (n, v, k), and labels, by name."""
    forward = _make_forward(predict_fns["logits"], config, alone)

    def ask(state: TrainState, source: Source):
        parts, labels = [], []
        for batch, mask in pipeline.epoch(source, batch_size=config.batch_size):
            out = jax.device_get(forward(state, place(batch["image"], state)))
            parts.append({name: x[mask] for name, x in out.items()})
            told = {name: x[mask] for name, x in batch.items() if "label" in name}
            labels.append(told)
        return _joined(parts), _joined(labels)

    return ask


@functools.lru_cache(maxsize=8)
def _make_forward(logits_fn: Callable[..., Any], config: LogitsConfig, alone: str):
    """Return a compiled function to (b, v, k) by name; evaluations share it."""

    def forward(state, images, *key):
        crops = crop_views(images, size=config.crop_size, views=config.views)
        rows = crops.reshape(-1, *crops.shape[2:])  # (b v) s s c
        logits = logits_fn(state, rows, *key)
        by_name = logits if isinstance(logits, dict) else {alone: logits}
        return {name: x.reshape(*crops.shape[:2], -1) for name, x in by_name.items()}

    return jax.jit(forward)


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
