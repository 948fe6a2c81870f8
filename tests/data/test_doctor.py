import numpy as np
import pytest
from pictures import encode, noise

from jaxssl.data import doctor, image_source, load
from jaxssl.data.source import ArraySource, image_spec
from jaxssl.errors import UserError


def test_the_doctor_finds_what_was_broken(class_folder):
    (class_folder / "cat" / "02.png").write_bytes(b"")
    (class_folder / "dog" / "08.png").write_bytes(encode(noise(8))[:60])
    (class_folder / "dog" / "10.png").write_bytes(encode(noise(0)))
    (class_folder / "cat" / "04.png").write_bytes(encode(noise(0)))
    source = load("folder", split="train", data_dir=str(class_folder))
    report = doctor.doctor(source)
    assert (report.count, report.readable) == (12, 10)
    assert report.classes == {"cat": 5, "dog": 5}
    assert report.sizes == {(20, 24, "RGB"): 10}
    names = [name.rpartition("/")[2] for name, _ in report.corrupt]
    assert names == ["02.png", "08.png"]
    pairs = [(a[-6:-4], b[-6:-4], same) for a, b, same in report.duplicates]
    assert pairs == [("00", "04", True), ("00", "10", False)]
    text = doctor.render(report)
    assert "10 of 12 records readable\n" in text
    assert "each record holds: image uint8 (20, 24, 3), label int32 ()\n" in text
    assert "classes: cat: 5, dog: 5" in text
    assert "duplicates: 2, of them 1 with another label" in text
    assert str(class_folder / "cat" / "02.png") + ": file of 0 bytes" in text


def test_sizes_are_those_on_disk(tmp_path):
    for i, (h, w) in enumerate([(30, 50), (30, 50), (64, 40)]):
        (tmp_path / f"{i}.png").write_bytes(encode(noise(i, h, w)))
    options = {"data_dir": str(tmp_path), "load_size": 16}
    report = doctor.doctor(load("folder", split="train", **options))
    assert report.sizes == {(30, 50, "RGB"): 2, (64, 40, "RGB"): 1}
    assert report.classes == {"unlabelled": 3}
    assert "image uint8 (16, 16, 3)" in doctor.render(report)


def test_arrays_with_attributes_are_counted_by_attribute():
    labels = np.array([[1, 0, 1], [1, 0, 0]])
    images = np.stack([noise(0), noise(1)])
    source = image_source(images, labels, class_names=("a", "b", "c"))
    assert doctor.doctor(source).classes == {"a": 2, "b": 0, "c": 1}
    without = image_source(images, np.array([0, 5]))
    assert doctor.doctor(without).classes == {"label 0": 1, "label 5": 1}


def test_records_without_picture_or_label_are_described():
    clips = np.random.default_rng(0).integers(0, 256, (4, 2, 3, 3, 3), np.uint8)
    clips[3] = clips[1]
    arrays = {"clip": clips, "num_frames": np.full(4, 2, np.int32)}
    report = doctor.doctor(ArraySource(arrays))
    assert report.duplicates == [("arrays[1]", "arrays[3]", True)]
    text = doctor.render(report)
    assert "each record holds: clip uint8 (2, 3, 3, 3), num_frames int32 ()\n" in text
    assert "classes: none" in text
    assert "stored sizes" not in text
    poses = {"pose": np.eye(2, 3, dtype=np.float32), "label": np.ones((2, 3), np.int32)}
    classes = doctor.doctor(ArraySource(poses)).classes
    assert classes == {"label 0": 2, "label 1": 2, "label 2": 2}


def test_long_lists_are_cut():
    report = doctor.Report(
        name="x",
        count=50,
        readable=10,
        spec=image_spec((8, 8, 3)),
        sizes={(i, 8, "RGB"): 1 for i in range(30)},
        classes={},
        corrupt=[(f"file{i}", "bad") for i in range(40)],
        duplicates=[],
    )
    text = doctor.render(report)
    assert "and 10 more" in text
    assert "and 20 more" in text
    assert "file39" not in text
    assert "classes: none" in text


def test_the_list_names_every_data_set_and_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXSSL_DATA", str(tmp_path))
    text = doctor.list_text()
    rows = {line.split()[0]: line for line in text.splitlines()}
    assert rows["fashion_on_photos"].endswith("embedded")
    assert "jaxssl data prepare tfds:stl10" in rows["tfds:stl10"]
    assert {"folder", "npz", "fashion_mnist", "tfds:celeb_a"} <= set(rows)


def test_preparing_what_needs_none_says_so(tmp_path):
    assert "embedded" in doctor.prepare("fashion_on_photos")
    assert "--data_dir" in doctor.prepare("folder")
    with pytest.raises(UserError, match="apt-get install"):
        doctor.prepare("fashion_mnist", data_dir=str(tmp_path))
    with pytest.raises(UserError, match="is no data set"):
        doctor.prepare("cifar")
    with pytest.raises(UserError, match="is no data set"):
        doctor.prepare("tfds:")
