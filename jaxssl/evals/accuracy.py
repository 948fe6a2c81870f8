"""The accuracy of a classifier that the task itself trains."""

import numpy as np

from jaxssl.config import checks
from jaxssl.data.labels import NO_LABEL, check
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.extract import PredictFns, Prepare
from jaxssl.evals.logits import Arrays, logits_eval, mean_softmax
from jaxssl.types import SHARE, Eval, EvalResult, Float, Metric, Shaped


def accuracy(
    logits: Float[np.ndarray, "n v k"], labels: Shaped[np.ndarray, " n"]
) -> float:
    """Return the accuracy in [0, 1]; the softmax outputs of the views are averaged.

    Records without a label are left out.

    Raises:
      UserError: the labels are no classes of the logits, or no record has a label.
    """
    checks.class_dtype(labels)
    num_classes = logits.shape[-1]
    check(labels, lambda row: f"record {row}", num_classes=num_classes)
    given = labels != NO_LABEL
    if not given.any():
        raise UserError(
            f"none of the {len(labels)} records has a label, so there is no accuracy. "
            "Leave the evaluation out, or give labelled data."
        )
    right = mean_softmax(logits).argmax(axis=1) == labels
    return float(right[given].mean())


def accuracy_eval(
    predict_fns: PredictFns, source: Source, prepare: Prepare, *, batch_size: int = 256
) -> Eval:
    """Measure the accuracy of a classifier that the task itself trains.

    Args:
      predict_fns: of the task; ``logits`` returns (b, k), or several by name, as the
        thesis' five probes do.
      source: held-out records; those without a label are left out.
      prepare: from a batch to inputs, as `jaxssl.evals.crops.CenterCrops`.
      batch_size: records a forward pass.

    Returns:
      An evaluation with the metric ``accuracy``, or one by name.
    """

    def measure(logits: Arrays, records: Arrays) -> EvalResult:
        metrics = {}
        for name, x in logits.items():
            value, chance = accuracy(x, records["label"]), 1 / x.shape[-1]
            metrics[name or "accuracy"] = Metric(value, SHARE, True, chance)
        return EvalResult(metrics, {})

    return logits_eval(measure, predict_fns, source, prepare, batch_size=batch_size)
