"""Records without a label change no evaluation, and what cannot be measured is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import image_source
from jaxssl.errors import UserError
from jaxssl.evals.accuracy import accuracy, accuracy_eval
from jaxssl.evals.attributes import attribute_probes
from jaxssl.evals.average_precision import average_precisions
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank, Features
from jaxssl.evals.few_shot import FewShotConfig, few_shot
from jaxssl.evals.knn import KnnConfig, knn, knn_eval
from jaxssl.evals.label_fit import label_fit_eval
from jaxssl.evals.linear_probe import LinearProbeConfig, linear_probes
from jaxssl.evals.predictions import predictions_eval
from jaxssl.evals.retrieval import RetrievalConfig, retrieve
from tests.evals.clusters import clusters
from tests.evals.conftest import colour_logits, noisy, pictures

PROBE = LinearProbeConfig(num_epochs=4, batch_size=16)
SHOTS, VOTES = FewShotConfig(shots=3, num_draws=2), KnnConfig(ks=(1, 3))
SEARCH = RetrievalConfig(num_queries=3, num_neighbors=2)


def gallery(features):
    """Pictures for the ids of some features."""
    shape = (int(features.ids.max()) + 1, 2, 2, 3)
    return image_source(np.zeros(shape, np.uint8))


def found_images(train, test):
    """Search twice: in the other set, and in the query set itself."""
    sources = {id(x): gallery(x) for x in (train, test)}
    return {
        name: retrieve(
            sources[id(test)], test, sources[id(base)], base, config=SEARCH
        ).metrics["precision"]
        for name, base in (("train", train), ("queries", test))
    }


MEASURES = {
    "knn": lambda *sets: knn(*sets, config=VOTES),
    "few_shot": lambda *sets: few_shot(*sets, config=SHOTS),
    "linear_probe": lambda *sets: linear_probes(*sets, config=PROBE),
    "retrieval": found_images,
}


def diluted(features, seed, share=0.7):
    """Put records without a label anywhere between the others, some far away."""
    rng = np.random.default_rng(seed)
    count = len(features.ids)
    extra = int(share * count)
    places = np.sort(rng.choice(count + extra, count, replace=False))
    endpoints = {}
    for name, rows in features.endpoints.items():
        mixed = 9 * rng.normal(size=(count + extra, rows.shape[1]))
        mixed = mixed.astype(np.float32)
        mixed[places] = rows
        endpoints[name] = mixed
    labels = np.full(count + extra, -1, np.int32)
    labels[places] = features.labels
    return Features(endpoints, labels, np.arange(count + extra))


@pytest.mark.parametrize("name", MEASURES)
def test_records_without_a_label_change_nothing(name, faults):
    train, test = clusters(40, seed=0), clusters(30, seed=1)
    want = MEASURES[name](train, test)
    cases = [
        (diluted(train, 2), test),
        (train, diluted(test, 3)),
        (diluted(train, 4), diluted(test, 5, share=3)),
    ]
    same = [MEASURES[name](*sets) == want for sets in cases]
    faults.record("F21", injected=len(cases), survived=sum(same))


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: np.full_like(y, -1), r"none of the 30 records has a label"),
        (
            lambda y: np.where(np.arange(30) == 4, 3, y),
            r"class 3: 1 in the test set, none",
        ),
        (lambda y: np.where(np.arange(30) == 4, -2, y), r"record 4 has the label -2"),
        (lambda y: y + (y > 1) * 2**30, r"has the label 1073741826, and 10 more"),
        (lambda y: y[:, None], r"needs one class a record; .* shape \(30, 1\)"),
    ],
)
def test_a_test_set_that_cannot_be_scored_is_one_line(name, labels, message, faults):
    train, test = clusters(40, seed=0), clusters(30, seed=1)
    test = test._replace(labels=labels(test.labels))
    with pytest.raises(UserError, match=message) as caught:
        MEASURES[name](train, test)
    assert "\n" not in str(caught.value)
    faults.record("F21", injected=1, survived=1)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of", ["train", "test"])
def test_one_number_that_is_not_finite_is_named(name, value, of):
    sets = {"train": clusters(40, seed=0), "test": clusters(30, seed=1)}
    sets[of].endpoints["conv5"][7, 2] = value
    with pytest.raises(UserError, match="features 'conv5' of record 7 are not finite"):
        MEASURES[name](*sets.values())


def test_attributes_are_0_or_1_and_their_features_finite():
    train, test = clusters(40, seed=0), clusters(30, seed=1)

    def several(features):
        columns = np.stack([features.labels == k for k in range(3)], axis=1)
        return features._replace(labels=columns.astype(np.int32))

    for value in (2, -1):
        wrong = several(test)
        wrong.labels[5, 1] = value
        with pytest.raises(UserError, match=f"record 5 has the attribute {value}; "):
            attribute_probes(several(train), wrong, config=PROBE)
        with pytest.raises(UserError, match=f"record 5 has the attribute {value}; "):
            average_precisions(np.zeros((30, 3)), wrong.labels)
    test.endpoints["noise"][3, 0] = np.nan
    with pytest.raises(UserError, match="features 'noise' of record 3 are not finite"):
        attribute_probes(several(train), several(test), config=PROBE)


# --- Evaluations that run a network


def unlabelled_rows(source, share=3):
    """Take the labels of every third record away; return the source and who is left."""
    labels = source.arrays["label"].copy()
    labels[::share] = -1
    names = source.class_names
    left = np.flatnonzero(labels >= 0)
    return image_source(source.arrays["image"], labels, class_names=names), left


def part(source, rows):
    arrays = source.take(rows)
    extras = {"true_label": arrays["true_label"]} if "true_label" in arrays else None
    return image_source(arrays["image"], arrays["label"], extras=extras)


def test_classifiers_are_measured_on_the_records_with_a_label(tiny, test_set):
    fns = {
        "logits": colour_logits,
        "sampled_logits": lambda s, x, k: colour_logits(s, x),
    }
    asked = {"prepare": CenterCrops(9), "batch_size": 7}
    some, left = unlabelled_rows(test_set)
    few = part(test_set, left)
    assert len(few) < len(test_set)
    for evaluate in (accuracy_eval, label_fit_eval):
        got, want = (
            evaluate(fns, source, **asked)(tiny.state) for source in (some, few)
        )
        assert got == want
    wrong, _ = noisy(test_set)
    rows = np.flatnonzero(np.arange(len(wrong)) % 4 > 0)
    for key in ("label", "true_label"):
        wrong.arrays[key] = np.where(
            np.arange(len(wrong)) % 4 > 0, wrong.arrays[key], -1
        )
    got, want = (
        label_fit_eval(fns, source, **asked)(tiny.state)
        for source in (wrong, part(wrong, rows))
    )
    assert got == want
    assert set(got.metrics) == {"labels", "true_labels", "memorized"}
    told = predictions_eval(fns, some, **asked, seed=0)(tiny.state)
    assert told.arrays["predicted"].shape == (len(some),)
    unknown = np.isnan(told.arrays["probability"])
    np.testing.assert_array_equal(np.flatnonzero(~unknown), left)
    share = (told.arrays["predicted"] != some.arrays["label"])[left].mean()
    assert told.metrics["disagreement"].value == pytest.approx(share)


def test_labels_that_the_classifier_has_not_are_refused(tiny):
    with pytest.raises(UserError, match=r"record 2 has the label 3; allowed: 0 to 2"):
        accuracy(np.zeros((4, 1, 3)), np.array([0, 1, 3, 2]))
    with pytest.raises(UserError, match=r"none of the 4 records has a label"):
        accuracy(np.zeros((4, 1, 3)), np.full(4, -1))
    assert accuracy(np.eye(3)[:, None], np.array([0, -1, 1])) == 0.5


def test_a_network_that_gives_no_numbers_is_told_with_the_record(tiny):
    train, test = pictures(20, seed=0), pictures(15, seed=1)
    broken = jnp.asarray(test.arrays["image"][11].mean(axis=(0, 1)))

    def spoil(images, x):
        means = images.astype(jnp.float32).mean(axis=(1, 2))
        bad = jnp.isclose(means, broken[None]).all(axis=1)
        return jnp.where(bad[:, None], jnp.nan, x)

    def features(state, images):
        return {"conv5": spoil(images, images.astype(jnp.float32).mean(axis=(1, 2)))}

    def logits(state, images):
        return spoil(images, colour_logits(state, images))

    bank = FeatureBank(features, CenterCrops(9), batch_size=8)
    runs = [
        (knn_eval(bank, train, test, VOTES), "conv5"),
        (accuracy_eval({"logits": logits}, test, CenterCrops(9), batch_size=8), ""),
    ]
    told = (
        f"the outputs {{}} of record {test.name}\\[11\\] are not finite \\(1 of 15 rec"
    )
    for run, name in runs:
        with pytest.raises(UserError, match=told.format(name).replace("  ", " ")):
            run(tiny.state)


def test_features_of_unlabelled_records_are_still_given(tiny, test_set):
    some, _ = unlabelled_rows(test_set)
    bank = FeatureBank(tiny.predict_fns["features"], CenterCrops(8), batch_size=10)
    rows = bank(tiny.state, some)
    assert len(rows.ids) == len(test_set)
    jax.tree.map(
        np.testing.assert_array_equal,
        rows.endpoints,
        bank(tiny.state, test_set).endpoints,
    )
