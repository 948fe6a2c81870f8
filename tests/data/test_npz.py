import io
import zipfile

import numpy as np
import pytest

from jaxssl.data import load
from jaxssl.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
LABELS = np.array([0, 2, 1, 2, 0], np.int64)


def test_images_and_labels_come_back(tmp_path):
    np.savez_compressed(tmp_path / "train.npz", image=IMAGES, label=LABELS)
    np.savez(tmp_path / "test.npz", image=IMAGES[:2, ..., 0])
    for place in (tmp_path, tmp_path / "train.npz"):
        source = load("npz", split="train", data_dir=str(place))
        np.testing.assert_array_equal(source.arrays["image"], IMAGES)
        np.testing.assert_array_equal(source.arrays["label"], LABELS)
        assert source.class_names == ("0", "1", "2")
    test = load("npz", split="test", data_dir=str(tmp_path))
    assert test.arrays["label"].tolist() == [-1, -1]
    assert test.class_names == ()
    assert test.spec["image"].shape == (4, 6, 3)


def test_the_arrays_may_have_other_names(tmp_path):
    many = np.eye(5, dtype=np.int8)
    np.savez(tmp_path / "train.npz", x=IMAGES, y=many)
    options = {"image_key": "x", "label_key": "y", "data_dir": str(tmp_path)}
    source = load("npz", split="train", **options)
    np.testing.assert_array_equal(source.arrays["label"], many)
    assert len(source.class_names) == 5


def entry(path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)


def header(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_files_of_another_kind_are_refused_in_one_line(tmp_path):
    path = tmp_path / "train.npz"

    def message(split="train", place=path):
        with pytest.raises(UserError) as caught:
            load("npz", split=split, data_dir=place and str(place))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "npz needs data_dir" in message(place=None)
    assert "is no file" in message()
    assert "holds no train.npz" in message(place=tmp_path)
    np.savez(path, images=IMAGES, label=LABELS)
    assert "no array 'image'; it has: images, label. Did you mean" in message()
    assert "one file, which is the split train" in message("test")
    np.savez(path, image=np.array([{"a": 1}, None], dtype=object))
    assert "image holds pickled objects; not read" in message()
    np.savez(path, image=IMAGES, label=LABELS[:3])
    assert "shapes are: image (5, 4, 6, 3), label (3,); each image" in message()
    np.savez(path, image=IMAGES.astype(np.float32), label=LABELS)
    assert "images are float32" in message()
    np.savez(path, image=IMAGES, label=LABELS.astype(float))
    assert "labels are float64" in message()
    path.write_bytes(b"no zip")
    assert "cannot be read as .npz" in message()


def test_lying_headers_are_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "train.npz"
    for shape in ("(1000000000000, 4, 4, 3)", "(1, 2, 2, 3)", "(2, 2, 2, 3)"):
        entry(path, "image.npy", header(shape) + b"\x00" * 23)
        with pytest.raises(UserError, match="header of image does not fit its size"):
            load("npz", split="train", data_dir=str(path))
    for content in (b"", b"\x93NUMPY", b"hello", header("(1,)")[:40]):
        entry(path, "image.npy", content)
        with pytest.raises(UserError, match="image is no array"):
            load("npz", split="train", data_dir=str(path))


def test_a_truncated_or_damaged_archive_is_refused(tmp_path, faults):
    path = tmp_path / "train.npz"
    np.savez_compressed(path, image=IMAGES, label=LABELS)
    good = path.read_bytes()
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(UserError, match="cannot be read"):
        load("npz", split="train", data_dir=str(path))
    damaged = bytearray(good)
    damaged[150] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(UserError):
        load("npz", split="train", data_dir=str(path))
    faults.record("F10", injected=1, survived=1)


def test_a_path_inside_the_archive_is_never_followed(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, IMAGES)
    entry(tmp_path / "train.npz", "../../image.npy", buffer.getvalue())
    with pytest.raises(UserError, match="no array 'image'"):
        load("npz", split="train", data_dir=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["train.npz"]


def test_a_compression_that_python_does_not_know_is_told(tmp_path):
    path = tmp_path / "train.npz"
    np.savez(path, image=np.zeros((2, 4, 4, 3), np.uint8), label=np.zeros(2, np.int32))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = data.find(mark)
        while place >= 0:
            data[place + offset : place + offset + 2] = (97).to_bytes(2, "little")
            place = data.find(mark, place + 1)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be read as .npz: That compression"):
        load("npz", split="train", data_dir=str(tmp_path))


def test_an_archive_that_needs_a_password_is_told(tmp_path):
    path = tmp_path / "train.npz"
    np.savez(path, image=IMAGES, label=LABELS)
    data = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + place] |= 1  # The bit that says: encrypted.
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be read as .npz: .* is encrypted"):
        load("npz", split="train", data_dir=str(path))
