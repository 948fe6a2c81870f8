"""The contract of every evaluation, on one tiny network.

A new evaluation is one line in `evals`.
"""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import image_source
from jaxssl.evals.accuracy import accuracy_eval
from jaxssl.evals.attributes import attributes_eval
from jaxssl.evals.average_precision import precision_eval
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank
from jaxssl.evals.few_shot import FewShotConfig, few_shot_eval
from jaxssl.evals.filters import filters_eval
from jaxssl.evals.knn import KnnConfig, knn_eval
from jaxssl.evals.label_fit import label_fit_eval
from jaxssl.evals.linear_probe import LinearProbeConfig, linear_probe_eval
from jaxssl.evals.predictions import predictions_eval
from jaxssl.evals.pretext import PretextConfig, pretext_eval
from jaxssl.evals.retrieval import RetrievalConfig, retrieval_eval
from jaxssl.evals.shortcut import shortcut_eval
from jaxssl.run import evaluation
from jaxssl.types import SHARE, Metric
from tests.evals.conftest import colour_logits, noisy

NAMES = ("none", "rot90", "rot180", "rot270")

METRICS = {
    "linear_probe": {"conv1", "conv2"},
    "few_shot": {"conv1", "conv2"},
    "knn": {"k1", "k3", "loo_k1", "loo_k3"},
    "retrieval": {"precision"},
    "attributes": {"conv1", "conv2"},
    "accuracy": {"accuracy"},
    "label_fit": {"labels", "true_labels", "memorized"},
    "precision": {"precision"},
    "predictions": {"disagreement"},
    "pretext": {"accuracy", *NAMES},
    "shortcut": {"grey", "background_only"},
    "filters": set(),
}


def several(source):
    labels = np.stack([source.arrays["label"] == k for k in range(3)], axis=1)
    return image_source(source.arrays["image"], labels, class_names=source.class_names)


@pytest.fixture
def bank(tiny) -> FeatureBank:
    return FeatureBank(tiny.predict_fns["features"], CenterCrops(8), batch_size=10)


@pytest.fixture
def evals(tiny, bank, train_set, test_set) -> dict:
    both = train_set, test_set
    probe = LinearProbeConfig(num_epochs=20, batch_size=16)
    neighbors = KnnConfig(ks=(1, 3), endpoint="conv1")
    search = RetrievalConfig(endpoint="conv2", num_queries=4, num_neighbors=3)
    pretext = PretextConfig(batch_size=10, num_examples=2)
    parts = {"grey": test_set, "background_only": train_set}
    predict_fns = {
        **tiny.predict_fns,
        "logits": colour_logits,
        "sampled_logits": lambda state, x, key: colour_logits(state, x),
    }
    asked = {"prepare": CenterCrops(8), "batch_size": 10}
    return {
        "linear_probe": linear_probe_eval(bank, *both, probe),
        "few_shot": few_shot_eval(bank, *both, FewShotConfig(shots=5)),
        "knn": knn_eval(bank, *both, neighbors),
        "retrieval": retrieval_eval(bank, *both, search),
        "attributes": attributes_eval(bank, *map(several, both), probe),
        "accuracy": accuracy_eval(predict_fns, test_set, **asked),
        "label_fit": label_fit_eval(predict_fns, noisy(train_set)[0], **asked),
        "precision": precision_eval(predict_fns, several(test_set), **asked),
        "predictions": predictions_eval(predict_fns, train_set, **asked, seed=0),
        "pretext": pretext_eval(predict_fns, test_set, NAMES, pretext),
        "shortcut": shortcut_eval(predict_fns, parts, NAMES, pretext),
        "filters": filters_eval(("classifier", "kernel"), name="conv1"),
    }


@pytest.mark.parametrize("name", METRICS)
def test_the_contract(tiny, evals, name, tmp_path):
    before = jax.tree.map(np.array, tiny.state)
    with jax.transfer_guard("disallow"):
        result = evals[name](tiny.state)
    jax.tree.map(np.testing.assert_array_equal, before, tiny.state)
    assert set(result.metrics) == METRICS[name]
    for metric in result.metrics.values():
        assert type(metric) is Metric
        assert type(metric.value) is float
        assert math.isfinite(metric.value)
        assert metric.unit == SHARE  # What else is added here declares its own.
        assert 0 <= metric.value <= 1
        assert metric.chance is None or 0 < metric.chance < 1
    assert all(isinstance(x, np.ndarray) for x in result.arrays.values())
    assert all(x.dtype != object for x in result.arrays.values())
    evaluation.write(tmp_path, name, result, {"step": 3})
    body = json.loads((tmp_path / f"{name}.json").read_text())
    stored = {key: Metric(**fields) for key, fields in body.pop("metrics").items()}
    assert stored == result.metrics
    assert body == {"step": 3}
    with np.load(tmp_path / f"{name}.npz") as arrays:
        assert set(arrays) == set(result.arrays)
        jax.tree.map(np.testing.assert_array_equal, dict(arrays), result.arrays)


def test_all_evaluations_are_in_the_contract(evals):
    assert set(evals) == set(METRICS)


def test_the_class_is_found_where_it_is_the_colour(tiny, evals):
    for name, key in {
        "linear_probe": "conv1",
        "few_shot": "conv1",
        "knn": "k3",
    }.items():
        metric = evals[name](tiny.state).metrics[key]
        assert metric.value > 0.8
        assert metric.chance == pytest.approx(1 / 3)
        assert (metric.spread is not None) == (name == "few_shot")


def test_retrieval_brings_what_the_report_shows(tiny, evals):
    found = evals["retrieval"](tiny.state)
    assert found.arrays["query_images"].shape == (4, 9, 9, 3)
    assert found.arrays["neighbor_images"].shape == (4, 3, 9, 9, 3)
    assert found.arrays["neighbor_labels"].shape == (4, 3)
    assert found.arrays["class_names"].tolist() == ["red", "green", "blue"]
    assert found.metrics["precision"].value > 0.6


def test_the_evaluations_share_the_features(tiny, bank, evals, monkeypatch):
    reads, compute = [], bank._compute
    monkeypatch.setattr(
        bank,
        "_compute",
        lambda state, source, prepare: (
            reads.append(source) or compute(state, source, prepare)
        ),
    )
    for name in ("linear_probe", "few_shot", "knn", "retrieval"):
        evals[name](tiny.state)
    assert len(reads) == 2


def test_a_state_of_many_steps_compiles_once(tiny, test_set):
    traces = []

    def logits(state, images):
        traces.append(images.shape)
        return colour_logits(state, images)

    run = accuracy_eval({"logits": logits}, test_set, CenterCrops(8), batch_size=10)
    for step in range(3):
        run(tiny.state._replace(step=jnp.int32(step)))
    assert traces == [(10, 8, 8, 3)]
