import jax
import numpy as np
import pytest

from jaxssl.data.source import image_source
from jaxssl.errors import UserError
from jaxssl.evals import classification, knn, suite
from jaxssl.evals.classification import FewShotConfig, LinearProbeConfig
from jaxssl.evals.features import FeatureBank, FeatureConfig
from jaxssl.evals.knn import KnnConfig
from jaxssl.evals.pretext import PretextConfig
from jaxssl.evals.retrieval import RetrievalConfig

NAMES = ("none", "rot90", "rot180", "rot270")


@pytest.fixture
def bank(tiny) -> FeatureBank:
    config = FeatureConfig(crop_size=8, batch_size=10)
    return FeatureBank(tiny.predict_fns["features"], config)


@pytest.fixture
def evals(tiny, bank, train_set, test_set) -> dict:
    sources = {"grey": test_set, "background_only": train_set}
    pretext = PretextConfig(batch_size=10, num_examples=2)
    search = RetrievalConfig(endpoint="conv2", num_queries=4, num_neighbors=3)
    return {
        "linear_probe": suite.linear_probe_eval(
            bank, train_set, test_set, LinearProbeConfig(num_epochs=20, batch_size=16)
        ),
        "few_shot": suite.few_shot_eval(
            bank, train_set, test_set, FewShotConfig(shots=5)
        ),
        "knn": suite.knn_eval(
            bank, train_set, test_set, KnnConfig(ks=(1, 3), endpoint="conv1")
        ),
        "retrieval": suite.retrieval_eval(bank, test_set, train_set, search),
        "pretext": suite.pretext_eval(tiny.predict_fns, test_set, NAMES, pretext),
        "shortcut": suite.shortcut_eval(tiny.predict_fns, sources, NAMES, pretext),
        "filters": suite.filters_eval("classifier", ("kernel",)),
    }


def test_every_evaluation_runs_and_leaves_the_state_alone(tiny, evals):
    before = jax.tree.map(np.array, tiny.state)
    with jax.transfer_guard("disallow"):
        results = {name: run(tiny.state) for name, run in evals.items()}
    jax.tree.map(np.testing.assert_array_equal, before, tiny.state)
    for result in results.values():
        assert all(type(x) is float and 0 <= x <= 1 for x in result.scalars.values())
        assert all(isinstance(x, np.ndarray) for x in result.arrays.values())
        assert all(x.dtype != object for x in result.arrays.values())
    scalars = {name: set(result.scalars) for name, result in results.items()}
    assert scalars["linear_probe"] == {"conv1", "conv2"}
    assert scalars["few_shot"] == {"conv1", "conv1_sd", "conv2", "conv2_sd"}
    assert scalars["knn"] == {"k1", "k3", "loo_k1", "loo_k3"}
    assert scalars["pretext"] == {"accuracy", *NAMES}
    assert scalars["shortcut"] == {"grey", "background_only"}
    assert results["linear_probe"].scalars["conv1"] > 0.8  # The colour is the class.
    assert results["few_shot"].scalars["conv1"] > 0.8
    assert results["knn"].scalars["k3"] > 0.8


def test_retrieval_brings_what_the_report_shows(tiny, evals):
    found = evals["retrieval"](tiny.state)
    assert found.arrays["query_images"].shape == (4, 9, 9, 3)
    assert found.arrays["neighbor_images"].shape == (4, 3, 9, 9, 3)
    assert found.arrays["neighbor_labels"].shape == (4, 3)
    assert found.arrays["class_names"].tolist() == ["red", "green", "blue"]
    assert found.scalars["precision"] > 0.6


def test_pretext_brings_what_the_report_shows(tiny, evals, test_set):
    found = evals["pretext"](tiny.state)
    counts = found.arrays["confusion"]
    np.testing.assert_array_equal(counts.sum(axis=1), 23)
    right = np.diag(counts) / 23
    assert found.scalars["accuracy"] == pytest.approx(right.mean())
    assert [found.scalars[name] for name in NAMES] == pytest.approx(right.tolist())
    np.testing.assert_array_equal(
        found.arrays["gallery_original"], test_set.arrays["image"][:2]
    )
    assert found.arrays["gallery"].shape == (2, 4, 9, 9, 3)
    assert found.arrays["names"].tolist() == list(NAMES)


def test_shortcut_counts_rotations_only(tiny, test_set):
    names = ("lci", "rot90", "warp", "rot270")
    run = suite.shortcut_eval(
        tiny.predict_fns, {"grey": test_set}, names, PretextConfig(batch_size=10)
    )
    logits = []
    for image in test_set.arrays["image"].astype(np.float32):
        for k in (1, 3):
            turned = np.rot90(image, k)
            logits.append((k, turned[:, 0].mean(), turned[:, -1].mean()))
    right = [(left > right_) == (k == 1) for k, left, right_ in logits]
    assert run(tiny.state).scalars["grey"] == pytest.approx(np.mean(right))
    with pytest.raises(UserError, match="shortcut needs two of none, rot90"):
        suite.shortcut_eval(tiny.predict_fns, {}, ("none", "warp"), PretextConfig())


def test_the_evaluations_share_the_features(tiny, bank, evals, monkeypatch):
    reads = []
    original = bank._extractors["center"]

    def extract(state, source):
        reads.append(source)
        return original(state, source)

    bank._extractors["center"] = extract
    for name in ("linear_probe", "few_shot", "knn", "retrieval"):
        evals[name](tiny.state)
    assert len(reads) == 2


def test_multi_crop_probe_and_five_crop_neighbors(tiny, bank, train_set, test_set):
    probe = LinearProbeConfig(num_epochs=20, batch_size=16)
    run = suite.linear_probe_eval(bank, train_set, test_set, probe, views="ten")
    want = classification.linear_probes(
        bank(tiny.state, train_set),
        bank(tiny.state, test_set, views="ten"),
        config=probe,
    )
    assert run(tiny.state).scalars == want
    near = KnnConfig(ks=(1,), endpoint="conv1", views="five")
    found = suite.knn_eval(bank, train_set, test_set, near)(tiny.state)
    rows = bank(tiny.state, test_set, views="five")
    assert knn.concatenated(rows, "conv1").shape == (23, 5 * 4 * 4 * 5)
    assert found.scalars["loo_k1"] == knn.leave_one_out_knn(rows, config=near)[1]


def test_attributes(tiny, bank, train_set, test_set):
    def several(source):
        labels = np.stack([source.arrays["label"] == k for k in range(3)], axis=1)
        return image_source(
            source.arrays["image"], labels, class_names=source.class_names
        )

    run = suite.attributes_eval(
        bank, several(train_set), several(test_set), LinearProbeConfig(batch_size=16)
    )
    found = run(tiny.state)
    assert found.arrays["conv1"].shape == (3,)
    assert found.scalars["conv1"] == pytest.approx(found.arrays["conv1"].mean())
    assert found.scalars["conv1"] > 0.9
    assert found.arrays["names"].tolist() == ["red", "green", "blue"]
