import gzip
import struct

import numpy as np
import pytest

from jaxssl.data import idx, load
from jaxssl.errors import UserError


def idx_bytes(array: np.ndarray, shape=None, magic=None) -> bytes:
    shape = array.shape if shape is None else shape
    magic = bytes([0, 0, 8, len(shape)]) if magic is None else magic
    return magic + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 10


@pytest.fixture(params=["", ".gz"])
def folder(request, tmp_path):
    pack = gzip.compress if request.param else bytes
    for prefix, count in (("train", 30), ("t10k", 10)):
        for kind, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            path = tmp_path / f"{prefix}-{kind}-ubyte{request.param}"
            path.write_bytes(pack(idx_bytes(array[:count])))
    return tmp_path


def test_both_splits_are_read_raw_or_zipped(folder, monkeypatch):
    train = load("fashion_mnist", split="train", data_dir=str(folder))
    np.testing.assert_array_equal(train.arrays["image"], np.stack([IMAGES] * 3, -1))
    np.testing.assert_array_equal(train.arrays["label"], LABELS)
    assert train.class_names[9] == "Ankle boot"
    assert len(load("fashion_mnist", split="test", data_dir=str(folder))) == 10
    monkeypatch.setenv("JAXSSL_DATA", str(folder))
    assert len(load("fashion_mnist", split="train")) == 30
    (folder / "fashion-mnist").mkdir()
    for path in folder.glob("*ubyte*"):
        path.rename(folder / "fashion-mnist" / path.name)
    assert len(load("fashion_mnist", split="train")) == 30


def test_a_part_of_the_train_split_is_random_and_fixed(folder):
    options = {"data_dir": str(folder), "num_train": 12}
    train = load("fashion_mnist", split="train", **options)
    order = np.argsort(np.random.PCG64(np.random.SeedSequence([0, 0])).random_raw(30))
    np.testing.assert_array_equal(train.arrays["image"][..., 0], IMAGES[order[:12]])
    np.testing.assert_array_equal(train.arrays["label"], LABELS[order[:12]])
    assert train.name == "fashion_mnist/train[12]"
    assert len(load("fashion_mnist", split="test", **options)) == 10
    for num, allowed in ((0, "it must be at least 1"), (31, "allowed: 1 to 30")):
        with pytest.raises(UserError, match=f"num_train is {num}; {allowed}"):
            load("fashion_mnist", split="train", **(options | {"num_train": num}))


def test_missing_files_say_what_to_install(tmp_path):
    with pytest.raises(UserError, match="apt-get install dataset-fashion-mnist"):
        load("fashion_mnist", split="train", data_dir=str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES))
    with pytest.raises(UserError, match="neither train-labels-idx1-ubyte nor"):
        load("fashion_mnist", split="train", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="allowed: train, test"):
        load("fashion_mnist", split="valid", data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx_bytes(IMAGES, (31, 28, 28)), "announces 24304 bytes but holds 23520"),
        (idx_bytes(IMAGES, (29, 28, 28)), "announces 22736 bytes but holds more"),
        (idx_bytes(IMAGES, (2**32 - 1, 2**31, 2**31)), "allowed: 1 to 1073741824"),
        (idx_bytes(IMAGES, (0, 28, 28)), "announces 0 bytes"),
        (idx_bytes(IMAGES, magic=b"\x00\x00\x0d\x03"), "is no IDX file of 3"),
        (idx_bytes(LABELS), "is no IDX file of 3"),
        (b"\x00\x00\x08\x03\x00", "is no IDX file of 3"),
        (b"", "is no IDX file of 3"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_lying_header_is_refused(tmp_path, content, words, zipped):
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(UserError, match=words):
        idx.read(path, dims=3)


def test_a_damaged_gzip_is_refused(tmp_path, faults):
    path = tmp_path / "x.gz"
    good = gzip.compress(idx_bytes(IMAGES))
    for content in (good[:2000], good[:100] + b"\xff" * 50 + good[150:], b"no gzip"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read"):
            idx.read(path, dims=3)
    faults.record("F10", injected=1, survived=1)


def test_labels_must_fit_the_images_and_the_classes(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES))
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(LABELS[:29]))
    with pytest.raises(UserError, match="30 train images but 29 labels"):
        load("fashion_mnist", split="train", data_dir=str(tmp_path))
    labels.write_bytes(idx_bytes(LABELS + np.uint8(1)))
    with pytest.raises(UserError, match="label 10; allowed: 0 to 9"):
        load("fashion_mnist", split="train", data_dir=str(tmp_path))
