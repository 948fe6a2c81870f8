"""How far a classifier has fitted the labels that it is trained on (section 8.4)."""

from jaxssl.data.source import Source
from jaxssl.evals.accuracy import accuracy
from jaxssl.evals.extract import PredictFns, Prepare
from jaxssl.evals.logits import Arrays, logits_eval
from jaxssl.types import SHARE, Eval, EvalResult, Metric


def label_fit_eval(
    predict_fns: PredictFns, source: Source, prepare: Prepare, *, batch_size: int = 256
) -> Eval:
    """Measure how far a classifier has fitted the labels that it is trained on.

    Args:
      predict_fns: of the task; ``logits`` returns (b, k).
      source: training records with one label each, some of them perhaps wrong; those
        without a label are left out.
      prepare: from a batch to inputs, as `jaxssl.evals.crops.CenterCrops`.
      batch_size: records a forward pass.

    Returns:
      An evaluation with the metric ``labels``, the accuracy on the labels as they are.
      Where some labels are wrong, it also has ``true_labels``, the accuracy on what the
      labels should be, and ``memorized``, the share of the wrong labels that the
      classifier itself predicts.
    """

    def measure(outputs: Arrays, records: Arrays) -> EvalResult:
        (logits,), given = outputs.values(), records["label"]
        chance = 1 / logits.shape[-1]
        metrics = {"labels": Metric(accuracy(logits, given), SHARE, chance=chance)}
        true = records.get("true_label", given)
        wrong = true != given
        if wrong.any():
            fitted = accuracy(logits, true)
            memorized = accuracy(logits[wrong], given[wrong])
            metrics["true_labels"] = Metric(fitted, SHARE, True, chance)
            metrics["memorized"] = Metric(memorized, SHARE, False, chance)
        return EvalResult(metrics, {})

    return logits_eval(
        measure,
        predict_fns,
        source,
        prepare,
        batch_size=batch_size,
        optional=("true_label",),
    )
