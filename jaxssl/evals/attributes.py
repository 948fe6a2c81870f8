"""Attributes: the average precision of linear classifiers of several 0/1 labels.

References:
  Table 4.3 of the thesis.
"""

import numpy as np

from jaxssl.data.labels import check_attributes
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.average_precision import average_precisions, mean_precision
from jaxssl.evals.feature_bank import FeatureBank, Features, check_finite
from jaxssl.evals.linear_probe import LinearProbeConfig, probe_logits, sigmoid_loss
from jaxssl.types import Eval, EvalResult, Float, TrainState


def attribute_probes(
    train: Features, test: Features, *, config: LinearProbeConfig
) -> dict[str, Float[np.ndarray, " k"]]:
    """Fit one linear classifier of all attributes for each endpoint.

    Args:
      train: features (n, d) by endpoint and labels (n, k) of 0 and 1.
      test: features (m, d) by the same endpoints and labels (m, k).
      config: how the classifiers are fitted.

    Returns:
      Average precision of each attribute by endpoint (`average_precision`).

    Raises:
      UserError: the records do not have several 0/1 labels each, or features are not
        finite.

    References:
      Table 4.3 of the thesis; its loss is not given, sigmoid cross-entropy is assumed.
    """
    labels, test_labels = (_attribute_labels(x) for x in (train, test))
    logits = probe_logits(
        train,
        test,
        num_outputs=labels.shape[1],
        config=config,
        loss_fn=sigmoid_loss,
    )
    return {
        endpoint: average_precisions(x[:, 0], test_labels) for endpoint, x in logits
    }


def _attribute_labels(features: Features) -> np.ndarray:
    if features.labels is None or features.labels.ndim != 2:
        kind = "no labels" if features.labels is None else "one class a record"
        raise UserError(
            "attributes needs several 0/1 labels a record, (n, k); this data set has "
            f"{kind}. Use linear_probe, or leave the evaluation out."
        )
    check_attributes(features.labels, lambda row: f"record {features.ids[row]}")
    check_finite(features)
    return features.labels


def attributes_eval(
    bank: FeatureBank, train: Source, test: Source, config: LinearProbeConfig
) -> Eval:
    """Measure the average precision of linear classifiers of attributes (Table 4.3).

    Args:
      bank: where features come from.
      train: records with several 0/1 labels, as CelebA has.
      test: records and labels that the classifiers are tested on.
      config: how the classifiers are fitted.

    Returns:
      An evaluation whose metrics are the mean over attributes by endpoint, whose arrays
      hold each attribute's by endpoint, and their ``names``.
    """

    def run(state: TrainState) -> EvalResult:
        precisions = attribute_probes(
            bank(state, train), bank(state, test), config=config
        )
        metrics = {endpoint: mean_precision(x) for endpoint, x in precisions.items()}
        names = np.array(test.class_names, dtype=np.str_)
        return EvalResult(metrics, {**precisions, "names": names})

    return run
