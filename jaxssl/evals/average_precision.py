"""Average precision, and its mean over the attribute classifiers of a task."""

import numpy as np

from jaxssl.data.labels import check_attributes
from jaxssl.data.source import Source
from jaxssl.evals.extract import PredictFns, Prepare
from jaxssl.evals.logits import Arrays, logits_eval
from jaxssl.types import SHARE, Eval, EvalResult, Float, Metric, Shaped


def average_precision(
    scores: Float[np.ndarray, " n"], labels: Shaped[np.ndarray, " n"]
) -> float:
    """Return the area under the precision-recall steps, sum (R_i - R_i-1) P_i.

    The sum runs over the distinct scores from the highest down, so rows of equal score
    enter together and their order does not matter.

    Args:
      scores: larger means more likely positive.
      labels: 1 for positive rows, 0 for the others.

    Returns:
      A number in [0, 1]; nan where no row is positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(labels[order] > 0)
    if not len(hits) or hits[-1] == 0:
        return float("nan")
    last = np.append(ranked[1:] != ranked[:-1], True)  # The last row of each tie.
    hits, rows = hits[last], np.arange(1, len(ranked) + 1)[last]
    gained = np.diff(hits, prepend=0) / hits[-1]
    return float((gained * hits / rows).sum())


def average_precisions(
    scores: Float[np.ndarray, "n k"], labels: Shaped[np.ndarray, "n k"]
) -> Float[np.ndarray, " k"]:
    """Return `average_precision` of each column.

    Raises:
      UserError: a label is neither 0 nor 1.
    """
    check_attributes(labels, lambda row: f"record {row}")
    columns = zip(scores.T, labels.T, strict=True)
    return np.array([average_precision(score, label) for score, label in columns])


def mean_precision(precisions: Float[np.ndarray, " k"]) -> Metric:
    """Return the mean over the attributes that have a positive row."""
    return Metric(float(np.nanmean(precisions)), SHARE, True)


def precision_eval(
    predict_fns: PredictFns, source: Source, prepare: Prepare, *, batch_size: int = 256
) -> Eval:
    """Measure the mean average precision of attribute classifiers the task trains.

    Args:
      predict_fns: of the task; ``logits`` returns (b, k), or several by name.
      source: held-out records with several 0/1 labels each.
      prepare: from a batch to inputs; the sigmoid outputs of the views are averaged.
      batch_size: records a forward pass.

    Returns:
      An evaluation with the metric ``precision``, or one by name, the mean over
      attributes; the arrays hold each attribute's.
    """

    def measure(logits: Arrays, records: Arrays) -> EvalResult:
        arrays = {}
        for name, x in logits.items():
            scores = (0.5 + 0.5 * np.tanh(0.5 * x)).mean(axis=1)  # Stable sigmoid.
            arrays[name or "precision"] = average_precisions(scores, records["label"])
        metrics = {name: mean_precision(x) for name, x in arrays.items()}
        return EvalResult(metrics, arrays)

    return logits_eval(measure, predict_fns, source, prepare, batch_size=batch_size)
