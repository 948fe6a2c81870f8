"""The embedded garments as a plain data set."""

import numpy as np
import pytest

from jaxssl.data import doctor, load
from jaxssl.data.fashion_on_photos import garments
from jaxssl.errors import UserError


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("test", 2_000)])
def test_it_holds_the_garments_as_they_are(split, count):
    source = load("fashion_mnist_10k", split=split)
    images, labels = garments(split)
    assert len(source) == count
    assert source.spec["image"].shape == (28, 28, 3)
    assert source.class_names[9] == "Ankle boot"
    assert source.name == f"fashion_mnist_10k/{split}"
    for channel in range(3):
        np.testing.assert_array_equal(source.arrays["image"][..., channel], images)
    np.testing.assert_array_equal(source.arrays["label"], labels)
    assert np.bincount(source.arrays["label"]).tolist() == [count // 10] * 10


def test_a_smaller_part_is_the_beginning():
    tiny = load("fashion_mnist_10k", split="train", preset="tiny")
    demo = load("fashion_mnist_10k", split="train")
    assert len(tiny) == 4000
    np.testing.assert_array_equal(tiny.arrays["image"], demo.arrays["image"][:4000])
    np.testing.assert_array_equal(tiny.arrays["label"], demo.arrays["label"][:4000])
    test = load("fashion_mnist_10k", split="test", preset="tiny")
    assert len({tiny.fingerprint, demo.fingerprint, test.fingerprint}) == 3


def test_it_is_known_to_the_doctor_and_refuses_other_values():
    (row,) = [r for r in doctor.list_text().split("\n") if "fashion_mnist_10k" in r]
    assert row.split("  ")[-1] == "embedded"
    assert "needs no preparation: embedded" in doctor.prepare("fashion_mnist_10k")
    with pytest.raises(UserError, match="split is 'valid'; allowed: train, test"):
        load("fashion_mnist_10k", split="valid")
    with pytest.raises(UserError, match="allowed: demo, tiny"):
        load("fashion_mnist_10k", split="test", preset="all")
