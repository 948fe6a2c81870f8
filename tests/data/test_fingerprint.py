"""A data set is known by its content, wherever it lies."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, noise

from jaxssl.data import fingerprint, load
from jaxssl.data.corruption import NoiseConfig, noisy_labels
from jaxssl.data.subset import Part


def print_of(root, **options):
    options = {"split": "train", "data_dir": str(root)} | options
    return load("folder", **options).fingerprint


@pytest.fixture
def settled(monkeypatch):
    """Take files that were just written for old ones."""
    monkeypatch.setattr(fingerprint, "SETTLE_SECONDS", -60.0)


@pytest.fixture
def reads(monkeypatch):
    """Count the files that are read for a hash."""
    read, hash_file = [], fingerprint._hash

    def count(path, *rest):
        read.append(path)
        return hash_file(path, *rest)

    monkeypatch.setattr(fingerprint, "_hash", count)
    return read


def test_the_content_counts_and_neither_place_nor_time(class_folder, tmp_path):
    before = print_of(class_folder)
    assert before.startswith(fingerprint.PREFIX)
    copy = tmp_path / "elsewhere"
    shutil.copytree(class_folder, copy)
    os.utime(copy / "cat" / "00.png", (1, 1))
    assert print_of(copy) == before
    assert print_of(copy, load_size=8) != before
    (copy / "notes.txt").write_text("not read")
    assert print_of(copy) == before


def _swap(root):
    """Exchange two pictures and keep their names, sizes and times of change."""
    one, two = (root / "cat" / f"{i:02d}.png" for i in (0, 2))
    size = max(one.stat().st_size, two.stat().st_size)
    for path in (one, two):
        path.write_bytes(path.read_bytes().ljust(size, b"\0"))
        os.utime(path, (1e9, 1e9))
    before = print_of(root)
    data = one.read_bytes(), two.read_bytes()
    for path, content in zip((two, one), data, strict=True):
        path.write_bytes(content)
        os.utime(path, (1e9, 1e9))
    return before


def _rename(root):
    """Exchange two pictures of equal size and time by their names alone."""
    before = _swap(root)
    one, two = (root / "cat" / f"{i:02d}.png" for i in (0, 2))
    before = print_of(root)
    one.rename(root / "x")
    two.rename(one)
    (root / "x").rename(two)
    return before


def _change(do):
    def change(root):
        before = print_of(root)
        do(root)
        return before

    return change


CHANGES = {
    "swapped": _swap,
    "renamed": _rename,
    "flipped": _change(lambda root: _flip(root / "dog" / "06.png")),
    "emptied": _change(lambda root: (root / "dog" / "06.png").write_bytes(b"")),
    "removed": _change(lambda root: (root / "dog" / "06.png").unlink()),
    "added": _change(
        lambda root: (root / "cat" / "1.jpe").write_bytes(encode(noise(0)))
    ),
    "moved to another class": _change(
        lambda root: (root / "cat" / "00.png").rename(root / "dog" / "00.png")
    ),
    "renamed class": _change(lambda root: (root / "cat").rename(root / "ant")),
    "linked elsewhere": _change(lambda root: _relink(root)),
}


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(bytes(data))


def _relink(root):
    (root / "dog" / "06.png").unlink()
    (root / "dog" / "06.png").symlink_to(root / "cat" / "00.png")


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_each_change_of_the_data_changes_the_fingerprint(
    class_folder, change, kept, monkeypatch, faults
):
    if kept:
        monkeypatch.setattr(fingerprint, "SETTLE_SECONDS", -60.0)
    assert CHANGES[change](class_folder) != print_of(class_folder)
    faults.record("F22", injected=1, survived=1)


def test_content_is_read_once_and_kept_beside_the_data(class_folder, settled, reads):
    first = print_of(class_folder)
    assert len(reads) == 12
    assert print_of(class_folder) == first
    assert print_of(class_folder, load_size=8) != first
    assert len(reads) == 12
    (path,) = class_folder.glob(".jaxssl*")
    assert load("folder", split="train", data_dir=str(class_folder)).left_out == ()
    os.utime(class_folder / "cat" / "00.png", (5, 5))
    assert print_of(class_folder) == first
    assert len(reads) == 24
    assert len(json.loads(path.read_text())) == 2


def test_files_that_were_just_changed_are_read_again(class_folder, reads):
    print_of(class_folder)
    print_of(class_folder)
    assert len(reads) == 24
    assert not [*class_folder.glob(".jaxssl*")]


def test_only_so_many_hashes_are_kept(class_folder, settled):
    for second in range(fingerprint.KEPT + 3):
        os.utime(class_folder / "cat" / "00.png", (second, second))
        print_of(class_folder)
    kept = json.loads((class_folder / fingerprint.NAME).read_text())
    assert len(kept) == fingerprint.KEPT


def test_a_folder_that_cannot_be_written_has_its_hash_in_the_cache(
    class_folder, settled, reads, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write = fingerprint.atomic_write.write

    def refuse(path, data):
        if path.parent == class_folder:
            raise PermissionError(13, "Permission denied")
        write(path, data)

    monkeypatch.setattr(fingerprint.atomic_write, "write", refuse)
    first = print_of(class_folder)
    assert print_of(class_folder) == first
    assert len(reads) == 12
    assert len([*(tmp_path / "cache" / "jaxssl").iterdir()]) == 1
    assert not [*class_folder.glob(".jaxssl*")]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"a": 1}', b"[" * 100_000, b"\xff", b"null", b"x" * (2 << 20)],
)
def test_a_damaged_file_of_hashes_is_not_read(class_folder, settled, content, faults):
    before = print_of(class_folder)
    (class_folder / fingerprint.NAME).write_bytes(content)
    assert print_of(class_folder) == before
    faults.record("F22", injected=1, survived=1)


def test_a_link_in_place_of_the_file_of_hashes_is_not_followed(
    class_folder, settled, tmp_path
):
    target = tmp_path / "precious"
    target.write_text("{}")
    (class_folder / fingerprint.NAME).symlink_to(target)
    print_of(class_folder)
    assert target.read_text() == "{}"


def test_a_file_that_nobody_reads_counts_by_its_size(class_folder, monkeypatch):
    path = class_folder / "cat" / "00.png"
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # A terabyte that is not there.
    began = time.monotonic()
    before = print_of(class_folder)
    assert time.monotonic() - began < 60
    with path.open("r+b") as file:
        file.truncate(1 << 39)
    assert print_of(class_folder) != before


def test_what_is_made_of_a_data_set_can_be_compared_as_that_can(class_folder):
    source = load("folder", split="train", data_dir=str(class_folder))
    noisy = noisy_labels(source, NoiseConfig(kind="symmetric", rate=0.5))
    made = [Part(source, 5).fingerprint, noisy.fingerprint]
    assert len({source.fingerprint, *made}) == 3
    assert all(fingerprint.comparable(source.fingerprint, other) for other in made)
    arrays = load("fashion_mnist_10k", split="test").fingerprint
    assert not fingerprint.comparable(source.fingerprint, arrays)


def test_an_npz_and_idx_files_are_known_by_their_arrays(tmp_path):
    images = np.zeros((2, 2, 2, 3), np.uint8)
    prints = []
    for number, pixel in enumerate((0, 0, 1)):
        images[0, 0, 0, 0] = pixel
        folder = Path(tmp_path / str(number))
        folder.mkdir()
        np.savez(folder / "train.npz", image=images, label=np.zeros(2, np.int32))
        source = load("npz", split="train", data_dir=str(folder))
        prints.append(source.fingerprint)
    assert prints[0] == prints[1] != prints[2]
