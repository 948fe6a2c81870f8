"""How transformations are told apart, by a network that reads sides of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import ArraySource
from jaxssl.errors import UserError
from jaxssl.evals import pretext
from jaxssl.evals.pretext import PretextConfig

NAMES = ("none", "rot90", "rot180", "rot270")


@pytest.mark.parametrize("batch_size", [4, 23, 50])
def test_every_image_is_seen_once_in_every_class(tiny, test_set, batch_size):
    config = PretextConfig(batch_size=batch_size, num_examples=6)
    look = pretext.make_pretext(tiny.predict_fns["pretext"], config)
    outputs, records = look(tiny.state, test_set)
    assert outputs["logits"].shape == (23, 4, 4)
    np.testing.assert_array_equal(records["image"], test_set.arrays["image"][:6])
    assert outputs["image"].shape == (6, 4, 9, 9, 3)
    for k in range(4):
        turned = np.rot90(test_set.arrays["image"][:6], k, axes=(1, 2))
        np.testing.assert_array_equal(outputs["image"][:, k], turned)
    # The stand-in answers with the mean of each side: top, left, bottom, right.
    images = test_set.arrays["image"].astype(np.float32)
    sides = [images[:, 0], images[:, :, 0], images[:, -1], images[:, :, -1]]
    want = np.stack([side.mean(axis=(1, 2)) for side in sides], axis=-1)
    np.testing.assert_allclose(outputs["logits"][:, 0], want, rtol=1e-5)


def test_one_compilation(tiny, test_set, train_set):
    traces = []

    def counted(state, batch, key):
        traces.append(batch["image"].shape)
        return tiny.predict_fns["pretext"](state, batch, key)

    look = pretext.make_pretext(counted, PretextConfig(batch_size=10))
    with jax.transfer_guard("disallow"):
        look(tiny.state, test_set)
        look(tiny.state, train_set)
    assert len(traces) == 1


def test_confusion_counts_answers():
    logits = np.zeros((3, 2, 2))
    logits[:, 0] = [[1, 0], [0, 1], [1, 0]]
    logits[:, 1] = [[0, 1], [0, 1], [0, 1]]
    np.testing.assert_array_equal(pretext.confusion(logits), [[2, 1], [0, 3]])
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 5, 5))
    want = np.zeros((5, 5), int)
    for image in logits:
        for true, answer in enumerate(image.argmax(axis=-1)):
            want[true, answer] += 1
    np.testing.assert_array_equal(pretext.confusion(logits), want)


def test_pictures_must_be_pixels(tiny, test_set):
    def floats(state, batch, key):
        out = tiny.predict_fns["pretext"](state, batch, key)
        return out | {"image": out["image"].astype("float32")}

    look = pretext.make_pretext(floats, PretextConfig())
    with pytest.raises(TypeError, match="must return uint8 pixels"):
        look(tiny.state, test_set)
    with pytest.raises(UserError, match="batch_size is 0"):
        PretextConfig(batch_size=0)


def test_pretext_brings_what_the_report_shows(tiny, test_set):
    config = PretextConfig(batch_size=10, num_examples=2)
    found = pretext.pretext_eval(tiny.predict_fns, test_set, NAMES, config)(tiny.state)
    counts = found.arrays["confusion"]
    np.testing.assert_array_equal(counts.sum(axis=1), 23)
    right = np.diag(counts) / 23
    assert found.metrics["accuracy"].value == pytest.approx(right.mean())
    assert [found.metrics[name].value for name in NAMES] == pytest.approx(
        right.tolist()
    )
    np.testing.assert_array_equal(
        found.arrays["gallery_original"], test_set.arrays["image"][:2]
    )
    assert found.arrays["gallery"].shape == (2, 4, 9, 9, 3)
    assert found.arrays["names"].tolist() == list(NAMES)


def test_records_without_pictures_have_no_gallery(tiny):
    source = ArraySource({"pose": np.arange(6, dtype=np.float32)})

    def pretext_fn(state, batch, key):
        return {"logits": batch["pose"][:, None, None] * jnp.eye(2)[None]}

    run = pretext.pretext_eval(
        {"pretext": pretext_fn}, source, ("none", "mirror"), PretextConfig()
    )
    found = run(tiny.state)
    assert sorted(found.arrays) == ["confusion", "names"]
    np.testing.assert_array_equal(found.arrays["confusion"], [[6, 0], [1, 5]])
