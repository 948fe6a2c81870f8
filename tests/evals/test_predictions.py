"""Predictions with dropout, kept by the index of their record."""

import jax
import numpy as np
import pytest

from jaxssl.errors import BadRecord
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.predictions import predictions_eval
from tests.evals.conftest import colour_logits, noisy


def test_predictions_are_drawn_anew_and_kept_by_index(tiny, test_set):
    def sampled(state, images, key):
        noise = jax.random.normal(key, (len(images), 3))
        return colour_logits(state, images) + 60 * noise

    def predict(seed, source=test_set):
        run = predictions_eval(
            {"sampled_logits": sampled}, source, CenterCrops(9), batch_size=7, seed=seed
        )
        return run(tiny.state)

    found = predict(0)
    labels = found.arrays["predicted"]
    assert labels.shape == test_set.arrays["label"].shape
    assert labels.dtype == np.int32
    wrong = (labels != test_set.arrays["label"]).mean()
    assert found.metrics["disagreement"].value == pytest.approx(wrong)
    assert 0 < wrong < 0.9
    np.testing.assert_array_equal(found.arrays["label"], test_set.arrays["label"])
    kept = found.arrays["probability"]
    assert (kept[labels == test_set.arrays["label"]] >= 1 / 3).all()
    assert (kept[labels != test_set.arrays["label"]] <= 1 / 2).all()
    source, _ = noisy(test_set)
    again = predict(0, source)
    assert again.metrics == found.metrics  # Against the true labels, not the given.
    np.testing.assert_array_equal(predict(0).arrays["predicted"], labels)
    assert (predict(1).arrays["predicted"] != labels).any()


class Damaged:
    """A source whose records 0, 4 and 22 cannot be read."""

    def __init__(self, source):
        self.source = source
        self.name = source.name
        self.class_names = source.class_names
        self.fingerprint = source.fingerprint
        self.spec = source.spec

    def __len__(self):
        return len(self.source)

    def read(self, index, rng):
        if index in (0, 4, 22):
            raise BadRecord("cut short")
        return self.source.read(index, rng)

    def record_name(self, index):
        return str(index)


def test_a_damaged_record_gets_the_prediction_of_the_next(tiny, test_set):
    predict_fns = {"sampled_logits": lambda state, x, key: colour_logits(state, x)}

    def predict(source):
        run = predictions_eval(
            predict_fns, source, CenterCrops(9), batch_size=7, seed=0
        )
        return run(tiny.state).arrays

    want, got = predict(test_set), predict(Damaged(test_set))
    for name, x in want.items():
        x = x.copy()
        x[0], x[4], x[22] = x[1], x[5], x[1]
        np.testing.assert_allclose(got[name], x, err_msg=name, rtol=1e-6)
