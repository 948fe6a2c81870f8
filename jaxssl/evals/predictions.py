"""The labels that a classifier predicts with its dropout active (section 8.4.3)."""

import jax
import numpy as np

from jaxssl.data.labels import NO_LABEL, check
from jaxssl.data.source import Source
from jaxssl.evals.extract import PredictFns, Prepare, extract, over_views
from jaxssl.evals.logits import mean_softmax
from jaxssl.types import SHARE, Array, Batch, Eval, EvalResult, Metric, TrainState


def predictions_eval(
    predict_fns: PredictFns,
    source: Source,
    prepare: Prepare,
    *,
    batch_size: int = 256,
    seed: int,
) -> Eval:
    """Let a classifier label a data set with its dropout active (section 8.4.3).

    Its mistakes are realistic label noise for other networks; they are the file of
    ``noise.kind=predicted``.

    Args:
      predict_fns: of the task; ``sampled_logits`` returns (b, k).
      source: the records, in the order of their labels.
      prepare: from a batch to inputs, as `jaxssl.evals.crops.CenterCrops`.
      batch_size: records a forward pass.
      seed: of dropout.

    Returns:
      An evaluation with the metric ``disagreement``, the share of predictions that
      differ from the true labels (from the given ones where there are no others; it is
      missing where no record has a label), and
      by index of the record the arrays ``predicted``, int32 (n,), ``label``, the given
      one, and ``probability``, what the network gives to that label. A record without a
      label has a prediction, counts in no share, and its probability is nan.
    """
    sampled_logits = predict_fns["sampled_logits"]

    @jax.jit
    def forward(state: TrainState, batch: Batch) -> dict[str, Array]:
        # The ids of a batch are consecutive, so each batch has a key of its own.
        key = jax.random.fold_in(jax.random.key(seed), batch["id"][0] // batch_size)
        predict_fn = over_views(lambda *args: sampled_logits(*args, key), prepare)
        return {"logits": predict_fn(state, batch)}

    def run(state: TrainState) -> EvalResult:
        outputs, records = extract(
            forward,
            state,
            source,
            batch_size=batch_size,
            keep=("label",),
            optional=("true_label",),
        )
        # A record that cannot be read gets what was predicted for the next one, which
        # also takes its place in training.
        rows = np.searchsorted(records["id"], np.arange(len(source)))
        rows %= len(records["id"])
        probabilities = mean_softmax(outputs["logits"])[rows]
        predicted = probabilities.argmax(axis=1).astype(np.int32)
        given = records["label"][rows]
        check(given, source.record_name, num_classes=probabilities.shape[1])
        true = records.get("true_label", records["label"])[rows]
        probability = probabilities[np.arange(len(given)), given]
        probability[given == NO_LABEL] = np.nan
        arrays = {"predicted": predicted, "label": given, "probability": probability}
        wrong = (predicted != true)[true != NO_LABEL]
        if not len(wrong):
            return EvalResult({}, arrays)
        share = Metric(float(wrong.mean()), SHARE)
        return EvalResult({"disagreement": share}, arrays)

    return run
