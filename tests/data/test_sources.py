import sys

import numpy as np
import pytest

from jaxssl.data import Source, image_source, load
from jaxssl.data import source as source_lib
from jaxssl.errors import UserError


def test_an_array_source_is_a_source():
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    source = image_source(images, np.array([1, 0]), name="two", class_names=["a", "b"])
    assert isinstance(source, Source)
    assert len(source) == 2
    assert source.spec["image"].shape == (4, 5, 3)
    assert source.class_names == ("a", "b")
    assert source.record_name(1) == "two[1]"
    assert np.shares_memory(source.arrays["image"], images)
    record = source_lib.read_record(source, 1)
    np.testing.assert_array_equal(record["image"], images[1])
    assert record["label"] == 0
    taken = source.take(np.array([1, 1, 0]))
    np.testing.assert_array_equal(taken["image"], images[[1, 1, 0]])
    assert taken["label"].tolist() == [0, 0, 1]
    assert taken["label"].dtype == np.int32


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 1)])
def test_grey_becomes_colour_without_a_copy(shape):
    grey = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    source = image_source(grey, np.zeros(3, int))
    assert source.spec["image"].shape == (4, 5, 3)
    assert np.shares_memory(source.arrays["image"], grey)
    for channel in range(3):
        np.testing.assert_array_equal(
            source.arrays["image"][..., channel], grey.reshape(3, 4, 5)
        )


def test_the_fingerprint_follows_the_content():
    images, labels = np.zeros((2, 2, 2, 3), np.uint8), np.zeros(2, int)
    one = image_source(images, labels).fingerprint
    assert one == image_source(images.copy(), labels).fingerprint
    assert one != image_source(images, labels + 1).fingerprint
    assert one != image_source(images + np.uint8(1), labels).fingerprint
    assert source_lib.digest("ab", "c") != source_lib.digest("a", "bc")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, int), "images are float32"),
        (np.zeros((2, 4, 4, 4), np.uint8), np.zeros(2, int), "they must be uint8"),
        (np.zeros((2, 4), np.uint8), np.zeros(2, int), "they must be uint8"),
        (np.zeros((0, 4, 4, 3), np.uint8), np.zeros(0, int), "hold nothing"),
        (
            np.zeros((2, 4, 4, 3), np.uint8),
            np.zeros(3, int),
            "rows are: image 2, label 3",
        ),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2), "labels are float64"),
        (
            np.zeros((2, 4, 4, 3), np.uint8),
            np.zeros((2, 1, 1), int),
            "must be integers",
        ),
    ],
)
def test_arrays_of_another_kind_are_refused(images, labels, words):
    with pytest.raises(UserError, match=words):
        image_source(images, labels)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fashion_on_photo", "Did you mean 'fashion_on_photos'"),
        ("stl10", "Did you mean 'tfds:stl10'"),
        (
            "tfds:",
            "allowed: fashion_on_photos, fashion_mnist_10k, fashion_mnist, folder, "
            "npz, tfds:<name>",
        ),
        ("os", "'os' is no data set"),
        ("folder:x", "'folder:x' is no data set"),
        ("", "'' is no data set"),
    ],
)
def test_an_unknown_name_gives_the_nearest(name, words):
    with pytest.raises(UserError, match=words):
        load(name, split="train")


def test_all_options_that_are_not_there_are_named_with_a_way_out():
    options = {"split": "train", "size": 40, "preset": "demo", "seed": 0}
    with pytest.raises(UserError) as caught:
        load("fashion_mnist", **options)
    assert str(caught.value) == (
        "fashion_mnist has no option 'size', 'preset', 'seed'; allowed: data_dir, "
        "num_train. Leave it out. In a config made for another data set replace the "
        "whole section data, as docs/configuration.md shows under 'Your own images'."
    )


def test_extras_have_a_row_for_each_image():
    images, extras = (
        np.zeros((3, 2, 2, 3), np.uint8),
        {"weight": np.arange(3, dtype=np.float32)},
    )
    source = image_source(images, np.arange(3), extras=extras)
    assert source_lib.read_record(source, 2)["weight"] == 2
    assert source.take(np.array([2, 0]))["weight"].tolist() == [2, 0]
    with pytest.raises(UserError, match="image 3, label 3, weight 2"):
        image_source(images, np.arange(3), extras={"weight": np.arange(2)})


def test_data_dir_is_refused_where_nothing_is_read_from_disk():
    with pytest.raises(UserError, match="no option 'data_dir'"):
        load("fashion_on_photos", split="train", data_dir="/nowhere")


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules, "jaxssl.data.tfds_source", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'jaxssl\[train\]'"):
        load("tfds:stl10", split="train")
