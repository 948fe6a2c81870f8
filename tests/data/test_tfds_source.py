"""A data set prepared by TFDS as array_record, without TensorFlow."""

import functools
import io
import itertools
import json
import os
import shutil
import sys

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from pictures import encode, noise

from jaxssl import transforms
from jaxssl.data import Source, doctor, images, load, pipeline
from jaxssl.data.corruption import NoiseConfig, labels_of, noisy_labels
from jaxssl.data.source import read_record
from jaxssl.errors import UserError

COUNT = 12


class RegisteredShapes(tfds.core.GeneratorBasedBuilder):
    """Noise with each kind of label."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["round", "square"]),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=4)),
            "attributes": {"Young": np.bool_, "Bald": np.bool_},
            "note": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, manager):
        return {"train": self._generate_examples(COUNT)}

    def _generate_examples(self, count):
        for i in range(count):
            yield (
                i,
                {
                    "image": io.BytesIO(encode(noise(i, 20 + i, 24))),
                    "label": i % 2,
                    "labels": [i % 4, (i + 1) % 4],
                    "attributes": {"Young": i % 2 == 0, "Bald": i % 3 == 0},
                    "note": str(i),
                },
            )


class RegisteredDetection(tfds.core.GeneratorBasedBuilder):
    """The features and splits of ``voc/2007``, without and with objects."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        classes = tfds.features.ClassLabel(names=["bird", "cat", "dog"])
        item = {
            "label": classes,
            "bbox": tfds.features.BBoxFeature(),
            "is_difficult": np.bool_,
        }
        features = {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
            "labels": tfds.features.Sequence(classes),
            "labels_no_difficult": tfds.features.Sequence(classes),
            "objects": tfds.features.Sequence(item),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, manager):
        return {
            "train": self._generate_examples(0, 5),
            "validation": self._generate_examples(5, 12),
        }

    def _generate_examples(self, first, last):
        box = tfds.features.BBox(0.1, 0.1, 0.5, 0.9)
        for i in range(first, last):
            labels = sorted({i % 3, i // 4})
            objects = [
                {"label": k, "bbox": box, "is_difficult": k == 0} for k in labels
            ]
            yield (
                i,
                {
                    "image": io.BytesIO(encode(noise(i, 40 + i, 60 - i))),
                    "image/filename": str(i),
                    "labels": labels,
                    "labels_no_difficult": [k for k in labels if k],
                    "objects": objects,
                },
            )


# TFDS does not know the class by name, so it reads what lies in the folder, as it does
# with a folder that was prepared elsewhere.
with tfds.core.registered.skip_registration():

    class TinyShapes(RegisteredShapes):
        """The same, read back from its files alone."""

    class TinyDetection(RegisteredDetection):
        """The same, read back from its files alone."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    builder = TinyShapes(data_dir=root, file_format="array_record")
    builder.download_and_prepare()
    return root


@pytest.fixture
def copied(prepared, tmp_path):
    """The prepared folder, to be damaged, with its one file of records."""
    shutil.copytree(prepared, tmp_path / "data")
    (records,) = (tmp_path / "data").rglob("*.array_record*")
    return tmp_path / "data", records


def open_tiny(root, **options):
    options = {"split": "train", "load_size": 16, "data_dir": str(root)} | options
    return load("tfds:tiny_shapes", **options)


def number(source, index: int) -> int:
    """Return which example a record is: TFDS shuffles when it writes."""
    return int(source._record(index)["note"])


def test_records_come_back_without_tensorflow(prepared):
    source = open_tiny(prepared)
    assert isinstance(source, Source)
    assert len(source) == COUNT
    assert source.class_names == ("round", "square")
    assert source.spec["image"].shape == (16, 16, 3)
    numbers = [number(source, i) for i in range(COUNT)]
    assert sorted(numbers) == list(range(COUNT))
    for i, n in enumerate(numbers):
        record = read_record(source, i)
        assert record["label"] == n % 2
        assert record["label"].dtype == np.int32
        assert source.raw(i) == encode(noise(n, 20 + n, 24))
    assert "tensorflow" not in sys.modules
    assert len(open_tiny(prepared, split="train[:50%]")) == COUNT // 2


def test_attributes_and_lists_of_classes_become_vectors(prepared):
    attributes = open_tiny(prepared, label_key="attributes")
    assert attributes.class_names == ("Bald", "Young")
    lists = open_tiny(prepared, label_key="labels")
    assert len(lists.class_names) == 4
    for i in range(COUNT):
        n = number(lists, i)
        assert read_record(attributes, i)["label"].tolist() == [n % 3 == 0, n % 2 == 0]
        assert set(np.flatnonzero(read_record(lists, i)["label"])) == {
            n % 4,
            (n + 1) % 4,
        }
    with pipeline.batches(attributes, batch_size=4, seed=0) as iterator:
        batch = next(iterator)
    assert batch["label"].shape == (4, 2)
    assert batch["label"].dtype == np.int32


@pytest.mark.parametrize("value", [-1, 4, 2**32 + 3])
def test_a_class_that_the_info_does_not_name_is_refused(prepared, monkeypatch, value):
    lists, one = open_tiny(prepared, label_key="labels"), open_tiny(prepared)
    for source, key, kind in ((lists, "labels", "classes"), (one, "label", "label")):
        if key == "label" and value == -1:
            continue  # No label.
        stored = source._record(3)
        wrong = [0, value] if key == "labels" else value
        monkeypatch.setattr(source, "_record", lambda i, r={**stored, key: wrong}: r)
        with pytest.raises(UserError, match=rf"\[3\] has the {kind} .*{value}"):
            read_record(source, 3)


def test_pictures_of_several_objects_train_with_random_resized_crops(tmp_path):
    builder = TinyDetection(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    options = {"label_key": "labels_no_difficult", "load_size": 48}
    options |= {"split": "train+validation", "data_dir": str(tmp_path)}
    source = load("tfds:tiny_detection", **options)
    assert len(source) == 12
    assert source.class_names == ("bird", "cat", "dog")
    names = [int(source._record(i)["image/filename"]) for i in range(12)]
    assert sorted(names) == list(range(12))

    @jax.jit
    def view(batch):
        crop = functools.partial(
            transforms.random_resized_crop, size=32, scale=(0.3, 1.0)
        )
        key = jax.random.key(0)
        return transforms.batched(crop)(key, batch["image"], batch["id"])[0]

    with pipeline.batches(source, batch_size=4, seed=0) as iterator:
        for batch in itertools.islice(iterator, 3):
            assert batch["image"].shape == (4, 48, 48, 3)
            assert view(batch).shape == (4, 32, 32, 3)
            for row, index in zip(batch["label"], batch["id"], strict=True):
                i = names[index]
                assert set(np.flatnonzero(row)) == {i % 3, i // 4} - {0}
            assert batch["label"].dtype == np.int32
    with pytest.raises(UserError, match=r"has labels int32 \(3,\)"):
        noisy_labels(source, NoiseConfig(kind="symmetric", rate=0.5))


def test_labels_are_read_without_decoding_an_image(prepared, monkeypatch):
    source = open_tiny(prepared)
    monkeypatch.setattr(images, "decode", lambda *_, **__: pytest.fail("decoded"))
    expected = [number(source, i) % 2 for i in range(COUNT)]
    assert labels_of(source).tolist() == expected
    noisy = noisy_labels(source, NoiseConfig(kind="symmetric", rate=0.5))
    wrong = labels_of(noisy) != expected
    assert np.bincount(np.array(expected)[wrong]).tolist() == [3, 3]


def test_workers_read_noisy_labels(prepared):
    source = open_tiny(prepared)
    noisy = noisy_labels(source, NoiseConfig(kind="symmetric", rate=0.5))
    with pipeline.batches(noisy, batch_size=6, seed=0, num_workers=1) as iterator:
        for batch in itertools.islice(iterator, 2):
            ids = batch["id"]
            np.testing.assert_array_equal(batch["label"], labels_of(noisy)[ids])
            np.testing.assert_array_equal(batch["true_label"], labels_of(source)[ids])


def test_batches_of_a_prepared_data_set_cover_an_epoch(prepared):
    with pipeline.batches(open_tiny(prepared), batch_size=4, seed=0) as iterator:
        ids = [i for b in itertools.islice(iterator, 3) for i in b["id"].tolist()]
    assert sorted(ids) == list(range(COUNT))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"load_size": None}, "images of many sizes; set load_size"),
        ({"load_size": -1}, "load_size is -1"),
        ({"split": "test"}, "no split 'test'; allowed: train"),
        ({"image_key": "picture"}, "no feature 'picture'; it has: attributes, image"),
        ({"label_key": "class"}, "no feature 'class'"),
        ({"label_key": "note"}, "a label is a class, a list of classes"),
        ({"data_dir": "/nowhere/at/all"}, "data_dir /nowhere/at/all is no folder"),
    ],
)
def test_impossible_options_say_what_is_allowed(prepared, options, words):
    with pytest.raises(UserError, match=words):
        open_tiny(prepared, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("stl10", r"not in .*stl10/1.0.0. Run: jaxssl data prepare tfds:stl10 --data"),
        ("cifer10", "Did you mean 'cifar10'"),
        ("../../etc", "is no name"),
        ("stl10/nothing", "cannot be opened"),
    ],
)
def test_missing_data_say_what_to_run(tmp_path, name, words):
    with pytest.raises(UserError, match=words) as caught:
        load(f"tfds:{name}", split="train", data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_files_of_another_format_are_refused(copied):
    root, records = copied
    info = records.parent / "dataset_info.json"
    fields = json.loads(info.read_text())
    info.write_text(json.dumps(fields | {"fileFormat": "tfrecord"}))
    records.rename(str(records).replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match="not in the format array_record; remove it"):
        open_tiny(root)


@pytest.mark.parametrize("fault", ["flip", "cut", "gone"])
def test_damaged_records_are_named(copied, fault, faults):
    root, records = copied
    content = bytearray(records.read_bytes())
    content[1000] ^= 0xFF
    if fault == "flip":
        records.write_bytes(bytes(content))
    elif fault == "cut":
        os.truncate(records, 5000)
    else:
        records.unlink()
    source = open_tiny(root)
    corrupt = doctor.doctor(source).corrupt
    assert corrupt if fault == "flip" else len(corrupt) == COUNT
    assert all("damaged array_record" in reason for _, reason in corrupt)
    with pytest.raises(UserError, match=r"tiny_shapes/1.0.0/train\[\d+\]"):
        with pipeline.batches(
            source, batch_size=COUNT, seed=0, max_bad_records=0
        ) as iterator:
            next(iterator)
    faults.record("F10", injected=1, survived=1)


def test_the_doctor_reads_a_prepared_data_set(prepared):
    report = doctor.doctor(open_tiny(prepared))
    assert report.readable == COUNT
    assert report.classes == {"round": 6, "square": 6}
    assert report.sizes == {(20 + i, 24, "RGB"): 1 for i in range(COUNT)}


def test_prepare_returns_the_folder_or_the_reason(prepared, tmp_path, monkeypatch):
    done = doctor.prepare("tfds:tiny_shapes", data_dir=str(prepared))
    assert done == f"tfds:tiny_shapes is in {prepared}/tiny_shapes/1.0.0"

    def fail(error):
        def download_and_prepare(self, **_):
            raise error

        cls = tfds.core.DatasetBuilder
        monkeypatch.setattr(cls, "download_and_prepare", download_and_prepare)
        with pytest.raises(UserError) as caught:
            doctor.prepare("tfds:stl10", data_dir=str(tmp_path / "new"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "no route to host" in fail(OSError("no route\nto host"))
    missing = fail(
        ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    )
    assert "pip install tensorflow" in missing
    assert "file_format='array_record'" in missing


def test_prepare_asks_for_array_record(tmp_path):
    where = doctor.prepare("tfds:registered_shapes", data_dir=str(tmp_path / "new"))
    assert where.endswith("new/registered_shapes/1.0.0")
    (records,) = (tmp_path / "new").rglob("registered_shapes-train*")
    assert ".array_record" in records.name
    options = {"split": "train", "load_size": 8, "data_dir": str(tmp_path / "new")}
    assert len(load("tfds:registered_shapes", **options)) == COUNT


@pytest.mark.parametrize("claimed", [5, 1, COUNT + 3])
def test_an_info_that_claims_another_number_of_records_is_refused(
    copied, claimed, faults
):
    root, records = copied
    info = records.parent / "dataset_info.json"
    text = info.read_text()
    info.write_text(text.replace(f'"{COUNT}"', f'"{claimed}"'))
    assert info.read_text() != text
    words = f"holds {COUNT} records, but dataset_info.json beside it says {claimed}"
    with pytest.raises(UserError, match=words):
        open_tiny(root)
    with pytest.raises(UserError, match=words):
        open_tiny(root, split="train[:1]")
    faults.record("F22", injected=2, survived=2)


def test_files_that_no_split_names_are_left_out_by_name(copied):
    root, records = copied
    assert open_tiny(root).left_out == ()
    other = records.name.replace("train", "more")
    shutil.copy(records, records.with_name(other))
    source = open_tiny(root)
    assert source.left_out == ((other, "file of records that no split names"),)


def test_the_fingerprint_follows_the_content_of_the_files(copied, tmp_path, faults):
    root, records = copied
    before = open_tiny(root).fingerprint
    shutil.copytree(root, tmp_path / "moved")
    assert open_tiny(tmp_path / "moved").fingerprint == before
    assert open_tiny(root, load_size=8).fingerprint != before
    assert open_tiny(root, label_key="labels").fingerprint != before
    status, content = records.stat(), bytearray(records.read_bytes())
    content[1000] ^= 1
    records.write_bytes(bytes(content))
    os.utime(records, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert open_tiny(root).fingerprint != before
    faults.record("F22", injected=1, survived=1)
