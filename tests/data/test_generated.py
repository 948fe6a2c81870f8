import numpy as np
import pytest

from jaxssl.data import generated, load, pipeline
from jaxssl.data.source import read_record
from jaxssl.errors import UserError


@pytest.mark.parametrize(
    ("name", "options", "shape", "classes"),
    [
        ("stl10", {}, (96, 96, 3), 10),
        ("cifar100", {}, (32, 32, 3), 100),
        ("celeb_a", {}, (218, 178, 3), 40),
        ("celeb_a", {"load_size": 128}, (128, 128, 3), 40),
        ("imagenet2012", {"load_size": 61}, (61, 61, 3), 1000),
        ("voc/2007", {"load_size": 32, "label_key": "labels"}, (32, 32, 3), 20),
    ],
)
def test_records_have_the_form_of_the_real_set(name, options, shape, classes):
    source = load(f"generated:{name}", split="train", **options)
    record = read_record(source, 16_383)
    assert record["image"].shape == shape
    assert record["image"].dtype == np.uint8
    assert len(source.class_names) == classes
    label = record["label"]
    assert label.dtype == np.int32
    if generated.FORMS[name].attributes:
        assert label.shape == (classes,)
        assert set(label.tolist()) == {0, 1}
    else:
        assert label == 16_383 % classes
    np.testing.assert_array_equal(source.label(16_383), label)


def test_a_record_follows_from_split_and_index_alone():
    first, again = (generated.load("stl10", split="train") for _ in range(2))
    other = generated.load("stl10", split="test")
    image = read_record(first, 7)["image"]
    np.testing.assert_array_equal(image, read_record(again, 7)["image"])
    assert np.any(image != read_record(first, 8)["image"])
    assert np.any(image != read_record(other, 7)["image"])
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_the_bytes_never_change():
    """A run on generated images must be repeatable with another NumPy."""
    image = read_record(generated.load("cifar10", split="train"), 3)["image"]
    assert image[0, ::8].tolist() == [
        [116, 228, 76],
        [33, 164, 118],
        [195, 126, 126],
        [99, 75, 135],
    ]
    np.testing.assert_array_equal(
        image[:8, :8], np.broadcast_to(image[0, 0], (8, 8, 3))
    )


def test_batches_come_from_it():
    source = load("generated:cifar10", split="train", num_records=32)
    with pipeline.batches(source, batch_size=32, seed=0) as rows:
        batch = next(rows)
    assert sorted(batch["id"].tolist()) == list(range(32))
    np.testing.assert_array_equal(batch["label"], batch["id"] % 10)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("stl", {}, r"generated: is 'stl'; allowed: stl10, .* Did you mean 'stl10'"),
        ("imagenet2012", {}, "images of many sizes; set load_size"),
        ("stl10", {"label_key": "labels"}, "label_key is 'labels'; allowed: label"),
        ("stl10", {"num_records": 0}, "num_records is 0"),
        ("stl10", {"load_size": 0}, "load_size is 0"),
        ("stl10", {"image_key": "image"}, "no option 'image_key'"),
    ],
)
def test_mistakes_are_named(name, options, told):
    with pytest.raises(UserError, match=told):
        load(f"generated:{name}", split="train", **options)


def test_without_a_name_it_is_no_data_set():
    with pytest.raises(UserError, match=r"'generated:' is no data set; .*generated:<n"):
        load("generated:", split="train")
