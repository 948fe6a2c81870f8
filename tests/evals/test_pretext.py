import jax
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.evals import pretext
from jaxssl.evals.pretext import PretextConfig


@pytest.mark.parametrize("batch_size", [4, 23, 50])
def test_every_image_is_seen_once_in_every_class(tiny, test_set, batch_size):
    config = PretextConfig(batch_size=batch_size, num_examples=6)
    look = pretext.make_pretext(tiny.predict_fns["pretext"], config)
    seen = look(tiny.state, test_set)
    assert seen.logits.shape == (23, 4, 4)
    np.testing.assert_array_equal(seen.originals, test_set.arrays["image"][:6])
    for k in range(4):
        turned = np.rot90(test_set.arrays["image"][:6], k, axes=(1, 2))
        np.testing.assert_array_equal(seen.transformed[:, k], turned)
    # The stand-in answers with the mean of each side: top, left, bottom, right.
    images = test_set.arrays["image"].astype(np.float32)
    sides = [images[:, 0], images[:, :, 0], images[:, -1], images[:, :, -1]]
    want = np.stack([side.mean(axis=(1, 2)) for side in sides], axis=-1)
    np.testing.assert_allclose(seen.logits[:, 0], want, rtol=1e-5)


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


def test_restricted_accuracy_asks_for_some_classes_only():
    logits = np.zeros((1, 3, 3))
    logits[0] = [
        [2, 0, 9],
        [1, 3, 9],
        [5, 5, 0],
    ]  # Class 2 always wins, and is left out.
    assert pretext.restricted_accuracy(logits, [0, 1]) == 1.0
    assert pretext.restricted_accuracy(logits, [0, 1, 2]) == 0.0
    logits = np.random.default_rng(0).normal(size=(50, 5, 5))
    right = [
        int(np.argmax(image[t, [0, 2, 3]]) == i)
        for image in logits
        for i, t in enumerate([0, 2, 3])
    ]
    got = pretext.restricted_accuracy(logits, [0, 2, 3])
    assert got == pytest.approx(np.mean(right))


def test_pictures_must_be_pixels(tiny, test_set):
    def floats(state, batch, key):
        out = tiny.predict_fns["pretext"](state, batch, key)
        return out | {"image": out["image"].astype("float32")}

    look = pretext.make_pretext(floats, PretextConfig())
    with pytest.raises(TypeError, match="must return uint8 pixels"):
        look(tiny.state, test_set)
    with pytest.raises(UserError, match="batch_size is 0"):
        PretextConfig(batch_size=0)
