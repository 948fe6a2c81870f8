"""Labels that are not allowed never enter, however they come; -1 is counted aloud."""

import logging
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest

from jaxssl import memory
from jaxssl.data import ArraySource, image_source, load, npz, pipeline
from jaxssl.data.labelled import (
    any_labelled,
    describe_unlabelled,
    labelled,
    labels_of,
    look,
    tell_unlabelled,
)
from jaxssl.data.source import known_labels, label_of, read_record
from jaxssl.data.subset import Part, subset
from jaxssl.errors import UserError

COUNT = 12
IMAGES = np.zeros((COUNT, 1, 1, 3), np.uint8)
NAMES = ("cat", "dog", "eel")


class OnDisk:
    """Records that are read one by one, with ``label`` and ``labels`` if asked for."""

    name, fingerprint = "disk", "disk"

    def __init__(self, labels, names=NAMES, kind="read"):
        self.values, self.class_names = labels, names
        self.spec = {"label": jax.ShapeDtypeStruct(labels.shape[1:], labels.dtype)}
        self.num_read = 0
        if kind == "label":
            self.label = lambda index: self.values[index]
        if kind == "labels":
            self.labels = labels

    def __len__(self):
        return len(self.values)

    def read(self, index, rng):
        self.num_read += 1
        return {"label": self.values[index]}

    def record_name(self, index):
        return f"disk/{index}.png"


def from_npz(labels, path):
    np.savez(path / "train.npz", image=IMAGES[: len(labels)], label=labels)
    return load("npz", split="train", data_dir=str(path))


def from_batches(labels, path):
    source = OnDisk(labels)
    rows = [
        batch["label"][mask] for batch, mask in pipeline.epoch(source, batch_size=5)
    ]
    return image_source(IMAGES, np.concatenate(rows))


ENTRIES = {
    "pictures": lambda labels, path: image_source(IMAGES, labels, class_names=NAMES),
    "pictures without names": lambda labels, path: image_source(IMAGES, labels),
    "arrays": lambda labels, path: ArraySource({"label": labels}, class_names=NAMES),
    "npz": from_npz,
    "batches": from_batches,
    "record": lambda labels, path: [
        read_record(OnDisk(labels), i) for i in range(COUNT)
    ],
    "label": lambda labels, path: [
        label_of(OnDisk(labels, kind="label"), i) for i in range(COUNT)
    ],
    "known": lambda labels, path: known_labels(OnDisk(labels, kind="labels")),
    "looked at": lambda labels, path: look(OnDisk(labels)),
    "part": lambda labels, path: subset(Part(OnDisk(labels), COUNT), COUNT),
    "noise": lambda labels, path: labels_of(OnDisk(labels, kind="label")),
}
NAMELESS = ("pictures without names", "npz")  # The largest label says how many.

CLASSES = [-2, -3, -128, 3, 4, 127]
WIDE = {np.int64: [2**31, 2**32 + 3, -(2**63)], np.uint64: [2**64 - 1, 2**31]}
ATTRIBUTES = [-1, 2, 127]


def faulty():
    """Yield an entry, labels of which one or several are wrong, and a wrong value."""
    rng = np.random.default_rng(0)
    for entry in ENTRIES:
        types = [np.int32, np.int8] if entry != "noise" else [np.int32]
        values = [(value, kind) for value in CLASSES for kind in types]
        if entry in ("pictures", "pictures without names", "npz", "arrays"):
            values += [(value, kind) for kind in WIDE for value in WIDE[kind]]
        for value, kind in values:
            if entry in NAMELESS and 0 <= value < 2**16:
                continue
            labels = (np.arange(COUNT) % 3).astype(kind)
            labels[rng.choice(COUNT, rng.integers(1, 4), replace=False)] = value
            yield entry, labels, value
        if entry in ("known", "looked at", "noise"):
            continue  # They are asked for classes alone.
        for value in ATTRIBUTES:
            labels = rng.integers(0, 2, (COUNT, 3)).astype(np.int32)
            labels[rng.integers(COUNT), rng.integers(3)] = value
            yield entry, labels, value


def test_a_label_that_is_not_allowed_is_named_wherever_it_enters(tmp_path, faults):
    injected = refused = 0
    for entry, labels, value in faulty():
        injected += 1
        rows = np.flatnonzero((labels.reshape(COUNT, -1) == value).any(axis=1))
        with pytest.raises(UserError) as caught:
            ENTRIES[entry](labels, tmp_path)
        message = str(caught.value)
        assert "\n" not in message
        assert f" {value}" in message
        assert any(word in message for word in (f"[{rows[0]}]", f"/{rows[0]}.png"))
        refused += 1
    assert injected > 150
    faults.record("F21", injected=injected, survived=refused)


@pytest.mark.parametrize("entry", ENTRIES)
def test_labels_that_are_allowed_pass_unchanged(entry, tmp_path):
    labels = np.arange(COUNT, dtype=np.int32) % 4 - 1
    made = ENTRIES[entry](labels, tmp_path)
    if isinstance(made, ArraySource):
        assert made.arrays["label"].tolist() == labels.tolist()
    assert describe_unlabelled(OnDisk(labels)) == "3 of 12 records have no label"


def test_what_no_class_name_declares_a_class_is_left_alone():
    ages = np.array([-7, 80_000, 3], np.int32)
    source = ArraySource({"label": ages})
    assert read_record(source, 1)["label"] == 80_000
    assert read_record(OnDisk(ages, names=()), 0)["label"] == -7
    for kind in ("read", "labels"):
        assert look(OnDisk(ages, names=(), kind=kind)).labels.tolist() == ages.tolist()


def test_one_column_is_one_class_as_in_medmnist(tmp_path):
    column = (np.arange(COUNT) % 3)[:, None]
    for source in (
        image_source(IMAGES, column, class_names=NAMES),
        ArraySource({"label": column.astype(np.int32)}, class_names=NAMES),
        from_npz(column.astype(np.uint8), tmp_path),
    ):
        assert source.spec["label"].shape == ()
        assert source.arrays["label"].tolist() == column[:, 0].tolist()
        assert len(source.class_names) == 3
    smiling = image_source(IMAGES, column % 2, class_names=["smiling"])
    assert smiling.spec["label"].shape == (1,)
    assert subset(smiling, 4).spec["label"].shape == (1,)


def test_a_small_file_with_a_large_label_takes_no_memory(tmp_path):
    for value in (2**16, 2**31 - 1, 2**32 + 3):
        labels = np.arange(COUNT) % 3
        labels[7] = value
        tracemalloc.start()
        with pytest.raises(
            UserError, match=rf"\[7\] has the label {value}; allowed: 0"
        ):
            from_npz(labels, tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 << 20
    many = np.zeros((COUNT, 2**16 + 1), bool)
    with pytest.raises(UserError, match="k at most 65536"):
        from_npz(many, tmp_path)


# --- Records without a label


@pytest.mark.parametrize("kind", ["arrays", "read", "label", "labels"])
def test_records_without_a_label_are_counted_and_left_out(kind, caplog):
    labels = np.arange(COUNT, dtype=np.int32) % 4 - 1
    source = OnDisk(labels, kind=kind)
    if kind == "arrays":
        images = IMAGES + np.arange(COUNT, dtype=np.uint8)[:, None, None, None]
        source = image_source(images, labels, name="disk", class_names=NAMES)
    with caplog.at_level(logging.WARNING):
        tell_unlabelled(source)
    assert caplog.messages == [
        "disk: 3 of 12 records have no label; what needs labels leaves them out"
    ]
    part = labelled(source)
    assert [int(label_of(part, i)) for i in range(len(part))] == [0, 1, 2] * 3
    assert part.fingerprint != source.fingerprint
    if kind == "arrays":
        assert part.arrays["image"][:, 0, 0, 0].tolist() == [
            1,
            2,
            3,
            5,
            6,
            7,
            9,
            10,
            11,
        ]
    assert labelled(part) is part
    assert describe_unlabelled(part) == ""
    assert (known_labels(Part(source, 4)) is None) == (kind in ("read", "label"))


def test_a_large_data_set_on_disk_is_looked_at_in_part():
    labels = np.zeros(600, np.int32)
    labels[::2] = -1
    source = OnDisk(labels)
    assert describe_unlabelled(source).endswith(
        "of 64 records that were looked at " + ("have no label")
    )
    assert source.num_read == 64
    assert any_labelled(source)
    assert len(labelled(source)) == 300  # Now all of them are read.


def test_data_without_any_label_are_one_line():
    none = np.full(COUNT, -1, np.int32)
    assert not any_labelled(OnDisk(none))
    for source in (OnDisk(none), image_source(IMAGES, none, name="disk")):
        with pytest.raises(UserError, match="disk has no record with a label"):
            labelled(source)
    several = ArraySource({"label": np.zeros((COUNT, 2), np.int32)})
    assert labelled(several) is several
    assert any_labelled(several)
    assert describe_unlabelled(ArraySource({"pose": np.zeros((3, 2))})) == ""


# --- Files of arrays


def flips(data: bytes, step: int):
    """Yield the file with one of its bits flipped, each ``step``-th in turn."""
    for bit in range(0, 8 * len(data), step):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


# Eleven has no divisor in common with the bits of a byte.
@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_no_flipped_bit_makes_labels_vanish(tmp_path, step, faults):
    path = tmp_path / "train.npz"
    labels = np.arange(3, dtype=np.uint8)
    np.savez_compressed(path, image=IMAGES[:3], label=labels)
    injected = survived = 0
    for damaged in flips(path.read_bytes(), step):
        injected += 1
        path.write_bytes(damaged)
        try:
            source = load("npz", split="train", data_dir=str(path))
        except UserError as error:
            survived += "\n" not in str(error)
            continue
        same = source.arrays["label"].tolist() == labels.tolist()
        survived += same and not source.arrays["image"].any()
    faults.record("F21", injected=injected, survived=survived)


def test_only_a_whole_file_of_images_alone_is_unlabelled(tmp_path):
    path = tmp_path / "train.npz"
    options = {"split": "train", "data_dir": str(path)}
    np.savez(path, image=IMAGES)
    assert load("npz", **options).arrays["label"].tolist() == [-1] * COUNT
    np.savez(path, image=IMAGES, labels=np.arange(COUNT))
    with pytest.raises(UserError, match=r"no array 'label'; it has: image, labels"):
        load("npz", **options)
    for key in ("label", "lable"):
        with pytest.raises(UserError, match=f"no array '{key}'.*Did you mean 'labels'"):
            load("npz", label_key=key, **options)
    assert load("npz", label_key="labels", **options).arrays["label"][5] == 5
    assert load("npz", label_key="none", **options).arrays["label"][5] == -1
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.txt", "")
    with pytest.raises(
        UserError, match="no array 'label'; it has: image, labels, notes"
    ):
        load("npz", **options)


def test_arrays_larger_than_the_memory_at_hand_are_refused(tmp_path, monkeypatch):
    np.savez_compressed(
        tmp_path / "train.npz", image=np.zeros((9, 64, 64, 3), np.uint8)
    )
    assert memory.available() > 1 << 20
    for module, name in ((memory, "_machine"), (memory, "_container")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda: 100_000)
            with pytest.raises(
                UserError, match=r"unpacks to .* GiB of memory are at h"
            ):
                npz.load(split="train", data_dir=str(tmp_path))
    assert len(npz.load(split="train", data_dir=str(tmp_path))) == 9


@pytest.mark.parametrize("kind", ["meminfo", "cgroup"])
def test_memory_is_what_the_system_says(kind, tmp_path, monkeypatch):
    if kind == "meminfo":
        (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:   7 kB\n")
        monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
        assert memory.available() == 7 * 1024
        return
    (tmp_path / "memory.stat").write_text("anon 300\nfile 900\n")
    (tmp_path / "memory.max").write_text("1000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.available() == 700
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available() > 1000


def test_what_is_no_regular_file_is_not_read():
    with pytest.raises(UserError, match="/dev/zero is no regular file"):
        npz.read_array(npz.Path("/dev/zero"), "predicted", max_bytes=100)
