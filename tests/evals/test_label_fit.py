"""The fit of labels of which every third is wrong."""

import pytest

from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.label_fit import label_fit_eval
from tests.evals.conftest import colour_logits, noisy


def fit(source):
    predict_fns = {"logits": colour_logits}
    return label_fit_eval(predict_fns, source, CenterCrops(9), batch_size=7)


def test_the_fit_of_wrong_labels_is_told_apart(tiny, test_set):
    source, labels = noisy(test_set)
    found = fit(source)(tiny.state)
    said = test_set.arrays["image"].mean(axis=(1, 2)).argmax(axis=1)
    wrong = labels != test_set.arrays["label"]
    assert 0 < wrong.sum() < len(labels)
    assert {name: metric.value for name, metric in found.metrics.items()} == {
        "labels": pytest.approx((said == labels).mean()),
        "true_labels": pytest.approx((said == test_set.arrays["label"]).mean()),
        "memorized": pytest.approx((said == labels)[wrong].mean()),
    }


def test_right_labels_have_nothing_to_be_memorized(tiny, test_set):
    found = fit(test_set)(tiny.state)
    assert set(found.metrics) == {"labels"}
