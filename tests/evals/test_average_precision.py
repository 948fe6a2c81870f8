"""Average precision against a walk down the thresholds."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxssl.data.source import image_source
from jaxssl.evals import average_precision
from jaxssl.evals.average_precision import precision_eval
from jaxssl.evals.crops import CenterCrops


def literal_average_precision(scores, labels) -> float:
    """Walk down the distinct thresholds: sum of (recall gained) * precision."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [
            label for s, label in zip(scores, labels, strict=True) if s >= threshold
        ]
        new_recall = sum(chosen) / sum(labels)
        total += (new_recall - recall) * (sum(chosen) / len(chosen))
        recall = new_recall
    return total


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30
    ).filter(lambda rows: any(label for _, label in rows))
)
def test_average_precision_is_the_sum_over_thresholds(rows):
    scores = np.array([float(score) for score, _ in rows])  # Many of them tie.
    labels = np.array([int(label) for _, label in rows])
    got = average_precision.average_precision(scores, labels)
    want = literal_average_precision(scores.tolist(), labels.tolist())
    assert got == pytest.approx(want, abs=1e-12)


def test_average_precision_of_a_known_ranking():
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 0])
    got = average_precision.average_precision(scores, labels)
    assert got == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    tied = average_precision.average_precision(np.zeros(4), labels)
    assert tied == pytest.approx(0.5)
    assert np.isnan(average_precision.average_precision(scores, np.zeros(4)))


def test_attribute_classifiers_are_asked_for_their_precision(tiny, test_set):
    labels = np.stack([test_set.arrays["label"] == k for k in range(3)], axis=1)
    source = image_source(test_set.arrays["image"], labels)

    def logits(state, images):
        return images.astype(jnp.float32).mean(axis=(1, 2)) / 20

    run = precision_eval({"logits": logits}, source, CenterCrops(9), batch_size=10)
    found = run(tiny.state)
    scores = test_set.arrays["image"].astype(np.float32).mean(axis=(1, 2))
    want = average_precision.average_precisions(scores, labels)
    np.testing.assert_allclose(found.arrays["precision"], want)
    assert found.metrics["precision"].value == pytest.approx(want.mean())
