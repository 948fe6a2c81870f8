"""The accuracy of a classifier whose predictions are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import ArraySource
from jaxssl.errors import UserError
from jaxssl.evals.accuracy import accuracy, accuracy_eval
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import Features, class_labels
from jaxssl.evals.label_fit import label_fit_eval
from jaxssl.evals.logits import LogitsConfig
from jaxssl.types import SHARE, Metric


def test_a_classifier_is_asked_on_several_crops(tiny, test_set):
    weights = jax.random.normal(jax.random.key(0), (3, 3))

    def logits(state, images):
        return images.astype(jnp.float32).mean(axis=(1, 2)) @ weights / 10

    settings = {"prepare": CenterCrops(7, "five"), "batch_size": 10}
    alone = accuracy_eval({"logits": logits}, test_set, **settings)
    images = test_set.arrays["image"].astype(np.float32)
    places = [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)]
    total = 0
    for y, x in places:
        crop = images[:, y : y + 7, x : x + 7].mean(axis=(1, 2))
        scores = np.exp(crop @ np.asarray(weights) / 10)
        total = total + scores / scores.sum(axis=1, keepdims=True)
    want = (total.argmax(axis=1) == test_set.arrays["label"]).mean()
    assert alone(tiny.state).metrics == {
        "accuracy": Metric(pytest.approx(want), SHARE, True, chance=1 / 3)
    }
    by_endpoint = {"logits": lambda state, x: {"conv1": logits(state, x)}}
    named = accuracy_eval(by_endpoint, test_set, **settings)
    assert named(tiny.state).metrics["conv1"].value == pytest.approx(want)


def test_evaluations_of_one_classifier_share_one_compilation(tiny, train_set, test_set):
    traces = []

    def logits(state, images):
        traces.append(images.shape)
        return images.astype(jnp.float32).mean(axis=(1, 2))

    for evaluate in (accuracy_eval, label_fit_eval):
        for source in (train_set, test_set):
            run = evaluate({"logits": logits}, source, CenterCrops(7), batch_size=10)
            run(tiny.state)
    assert traces == [(10, 7, 7, 3)]


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_classes_are_integers(dtype):
    labels = np.zeros(4, dtype)
    features = Features({}, labels, np.arange(4))
    refused = f"the labels are {labels.dtype}; classes are expected"
    with pytest.raises(UserError, match=refused):
        accuracy(np.zeros((4, 1, 3)), labels)
    with pytest.raises(UserError, match=refused):
        class_labels(features, "knn")
    assert accuracy(np.zeros((4, 1, 3)), labels.astype(np.uint8)) == 1


def test_records_without_labels_are_refused_before_the_network_runs(tiny):
    def logits(state, images):
        raise AssertionError("the network was compiled")

    source = ArraySource({"image": np.zeros((2, 8, 8, 3), np.uint8)})
    run = accuracy_eval({"logits": logits}, source, CenterCrops(8), batch_size=2)
    with pytest.raises(UserError, match=r"needs the array 'label'; the records of arr"):
        run(tiny.state)


def test_bad_settings_name_the_field():
    with pytest.raises(UserError, match="views is 'all'"):
        LogitsConfig(crop_size=8, views="all")
    with pytest.raises(UserError, match="crop_size is -8"):
        LogitsConfig(crop_size=-8)
