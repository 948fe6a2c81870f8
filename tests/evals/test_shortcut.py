"""Which way up an image is, by a network that reads its sides."""

import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.evals.pretext import PretextConfig
from jaxssl.evals.shortcut import restricted_accuracy, shortcut_eval


def test_restricted_accuracy_asks_for_some_classes_only():
    logits = np.zeros((1, 3, 3))
    logits[0] = [
        [2, 0, 9],
        [1, 3, 9],
        [5, 5, 0],
    ]  # Class 2 always wins, and is left out.
    assert restricted_accuracy(logits, [0, 1]) == 1.0
    assert restricted_accuracy(logits, [0, 1, 2]) == 0.0
    logits = np.random.default_rng(0).normal(size=(50, 5, 5))
    right = [
        int(np.argmax(image[t, [0, 2, 3]]) == i)
        for image in logits
        for i, t in enumerate([0, 2, 3])
    ]
    got = restricted_accuracy(logits, [0, 2, 3])
    assert got == pytest.approx(np.mean(right))


def test_shortcut_counts_rotations_only(tiny, test_set):
    names = ("lci", "rot90", "warp", "rot270")
    run = shortcut_eval(
        tiny.predict_fns, {"grey": test_set}, names, PretextConfig(batch_size=10)
    )
    logits = []
    for image in test_set.arrays["image"].astype(np.float32):
        for k in (1, 3):
            turned = np.rot90(image, k)
            logits.append((k, turned[:, 0].mean(), turned[:, -1].mean()))
    right = [(left > right_) == (k == 1) for k, left, right_ in logits]
    assert run(tiny.state).metrics["grey"].value == pytest.approx(np.mean(right))
    with pytest.raises(UserError, match="shortcut needs two of none, rot90"):
        shortcut_eval(tiny.predict_fns, {}, ("none", "warp"), PretextConfig())
