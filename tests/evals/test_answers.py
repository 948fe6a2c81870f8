"""Evaluations of a classifier's own answers, on answers that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import image_source
from jaxssl.errors import UserError
from jaxssl.evals import answers, classification


def test_a_classifier_is_asked_on_several_crops(tiny, test_set):
    weights = jax.random.normal(jax.random.key(0), (3, 3))

    def logits(state, images):
        return images.astype(jnp.float32).mean(axis=(1, 2)) @ weights / 10

    config = answers.LogitsConfig(crop_size=7, batch_size=10, views="five")
    alone = answers.accuracy_eval({"logits": logits}, test_set, config)
    images = test_set.arrays["image"].astype(np.float32)
    places = [(1, 1), (0, 0), (0, 2), (2, 0), (2, 2)]
    total = 0
    for y, x in places:
        crop = images[:, y : y + 7, x : x + 7].mean(axis=(1, 2))
        scores = np.exp(crop @ np.asarray(weights) / 10)
        total = total + scores / scores.sum(axis=1, keepdims=True)
    want = (total.argmax(axis=1) == test_set.arrays["label"]).mean()
    assert alone(tiny.state).scalars == {"accuracy": pytest.approx(want)}
    by_endpoint = {"logits": lambda state, x: {"conv1": logits(state, x)}}
    named = answers.accuracy_eval(by_endpoint, test_set, config)
    assert named(tiny.state).scalars == {"conv1": pytest.approx(want)}


def test_attribute_classifiers_are_asked_for_their_precision(tiny, test_set):
    labels = np.stack([test_set.arrays["label"] == k for k in range(3)], axis=1)
    source = image_source(test_set.arrays["image"], labels)

    def logits(state, images):
        return images.astype(jnp.float32).mean(axis=(1, 2)) / 20

    config = answers.LogitsConfig(crop_size=9, batch_size=10)
    found = answers.precision_eval({"logits": logits}, source, config)(tiny.state)
    scores = test_set.arrays["image"].astype(np.float32).mean(axis=(1, 2))
    want = classification.average_precisions(scores, labels)
    np.testing.assert_allclose(found.arrays["precision"], want)
    assert found.scalars["precision"] == pytest.approx(want.mean())


def test_bad_settings_name_the_field():
    with pytest.raises(UserError, match="views is 'all'"):
        answers.LogitsConfig(crop_size=8, views="all")
    with pytest.raises(UserError, match="crop_size is -8"):
        answers.LogitsConfig(crop_size=-8)


def noisy(test_set):
    """Every third label is wrong."""
    labels = test_set.arrays["label"].copy()
    labels[::3] = (labels[::3] + 1) % 3
    extras = {"true_label": test_set.arrays["label"]}
    return image_source(test_set.arrays["image"], labels, extras=extras), labels


def colour_logits(state, images):
    """Name the strongest colour, which is the true class of these images."""
    return images.astype(jnp.float32).mean(axis=(1, 2))


def test_the_fit_of_wrong_labels_is_told_apart(tiny, test_set):
    source, labels = noisy(test_set)
    config = answers.LogitsConfig(crop_size=9, batch_size=7)
    found = answers.fit_eval({"logits": colour_logits}, source, config)(tiny.state)
    said = test_set.arrays["image"].mean(axis=(1, 2)).argmax(axis=1)
    wrong = labels != test_set.arrays["label"]
    assert 0 < wrong.sum() < len(labels)
    assert found.scalars == {
        "labels": pytest.approx((said == labels).mean()),
        "true_labels": pytest.approx((said == test_set.arrays["label"]).mean()),
        "memorized": pytest.approx((said == labels)[wrong].mean()),
    }


def test_right_labels_have_nothing_to_be_memorized(tiny, test_set):
    config = answers.LogitsConfig(crop_size=9, batch_size=7)
    found = answers.fit_eval({"logits": colour_logits}, test_set, config)(tiny.state)
    assert set(found.scalars) == {"labels"}


def test_predictions_are_drawn_anew_and_kept_by_index(tiny, test_set):
    def sampled(state, images, key):
        noise = jax.random.normal(key, (len(images), 3))
        return colour_logits(state, images) + 60 * noise

    def predict(seed):
        config = answers.LogitsConfig(crop_size=9, batch_size=7)
        predict_fns = {"sampled_logits": sampled}
        run = answers.predictions_eval(predict_fns, test_set, config, seed=seed)
        return run(tiny.state)

    found = predict(0)
    labels = found.arrays["predicted"]
    assert labels.shape == test_set.arrays["label"].shape
    assert labels.dtype == np.int32
    wrong = (labels != test_set.arrays["label"]).mean()
    assert found.scalars == {"disagreement": pytest.approx(wrong)}
    assert 0 < wrong < 0.9
    np.testing.assert_array_equal(found.arrays["label"], test_set.arrays["label"])
    kept = found.arrays["probability"]
    assert (kept[labels == test_set.arrays["label"]] >= 1 / 3).all()
    assert (kept[labels != test_set.arrays["label"]] <= 1 / 2).all()
    source, _ = noisy(test_set)
    config = answers.LogitsConfig(crop_size=9, batch_size=7)
    predict_fns = {"sampled_logits": sampled}
    again = answers.predictions_eval(predict_fns, source, config, seed=0)(tiny.state)
    assert again.scalars == found.scalars  # Against the true labels, not the given.
    np.testing.assert_array_equal(predict(0).arrays["predicted"], labels)
    assert (predict(1).arrays["predicted"] != labels).any()
