import itertools

import numpy as np
import pytest
from pictures import encode, noise

from jaxssl.data import Source, load, pipeline
from jaxssl.data.source import label_of, read_record
from jaxssl.errors import BadRecord, UserError


def test_sub_folders_are_classes(class_folder):
    source = load("folder", split="train", data_dir=str(class_folder))
    assert isinstance(source, Source)
    assert source.class_names == ("cat", "dog")
    assert len(source) == 12
    assert source.spec["image"].shape == (20, 24, 3)
    assert [int(label_of(source, i)) for i in range(12)] == [0] * 6 + [1] * 6
    for i in range(0, 12, 2):
        np.testing.assert_array_equal(read_record(source, i)["image"], noise(i))
    assert source.record_name(7) == str(class_folder / "dog" / "07.JPG")


def test_a_flat_folder_has_no_labels(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(encode(noise(i)))
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / ".hidden.png").write_bytes(b"")
    source = load("folder", split="train", data_dir=str(tmp_path))
    assert len(source) == 3
    assert source.class_names == ()
    assert int(read_record(source, 2)["label"]) == -1


def test_splits_are_sub_folders(class_folder, tmp_path):
    root = tmp_path / "both"
    root.mkdir()
    class_folder.rename(root / "train")
    (root / "test" / "cat").mkdir(parents=True)
    (root / "test" / "cat" / "x.png").write_bytes(encode(noise(99)))
    assert len(load("folder", split="train", data_dir=str(root))) == 12
    assert len(load("folder", split="test", data_dir=str(root))) == 1
    assert len(load("folder", split="all", data_dir=str(root))) == 13
    with pytest.raises(UserError, match="no sub-folder 'valid'"):
        load("folder", split="valid", data_dir=str(root))
    with pytest.raises(UserError, match="must be the name of a split"):
        load("folder", split="../both", data_dir=str(root / "test"))


def test_load_size_gives_one_shape_to_images_of_many(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(noise(0, 30, 50)))
    (tmp_path / "b.jpg").write_bytes(encode(noise(1, 90, 40), "JPEG"))
    source = load("folder", split="train", data_dir=str(tmp_path), load_size=16)
    assert [read_record(source, i)["image"].shape for i in range(2)] == [
        (16, 16, 3)
    ] * 2
    stored = load("folder", split="train", data_dir=str(tmp_path))
    assert stored.spec["image"].shape == (30, 50, 3)
    with pytest.raises(BadRecord, match="set load_size"):
        read_record(stored, 1)
    assert source.fingerprint != stored.fingerprint


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "file of 0 bytes"),
        (b"just text", "not a JPEG, PNG or WebP"),
        (encode(noise(0, 200, 200), "JPEG")[:1500], "damaged image"),
        (encode(noise(0, 200, 200))[:1500], "damaged image"),
        (encode(noise(0, 8, 8)), "set load_size"),
    ],
)
def test_a_damaged_file_is_replaced_and_named(class_folder, content, reason, faults):
    path = class_folder / "cat" / "03.JPG"
    path.write_bytes(content)
    source = load("folder", split="train", data_dir=str(class_folder))
    with pytest.raises(BadRecord, match=reason):
        read_record(source, 3)
    with pipeline.batches(source, batch_size=4, seed=0) as iterator:
        ids = [i for b in itertools.islice(iterator, 3) for i in b["id"].tolist()]
        assert sorted(ids) == sorted([*range(3), 4, *range(4, 12)])
        assert reason in iterator.bad_records[3]
    with pytest.raises(UserError, match=rf"{path}.*{reason}"):
        with pipeline.batches(source, batch_size=4, seed=0, max_bad_records=0) as it:
            list(itertools.islice(it, 3))
    faults.record("F10", injected=1, survived=1)


def test_a_png_named_jpg_is_read(class_folder):
    (class_folder / "cat" / "01.JPG").write_bytes(encode(noise(50)))
    source = load("folder", split="train", data_dir=str(class_folder))
    np.testing.assert_array_equal(read_record(source, 1)["image"], noise(50))


def test_links_that_lead_out_of_the_folder_are_left_out(class_folder, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(encode(noise(0)))
    (class_folder / "cat" / "out.png").symlink_to(secret)
    (class_folder / "cat" / "up.png").symlink_to("../../secret.png")
    (class_folder / "cat" / "in.png").symlink_to("00.png")
    (class_folder / "loop").symlink_to(class_folder, target_is_directory=True)
    source = load("folder", split="train", data_dir=str(class_folder))
    names = [path.rpartition("/")[2] for path in source.paths]
    assert "in.png" in names
    assert "out.png" not in names
    assert "up.png" not in names
    assert len(source) == 13
    assert source.left_out == (
        ("cat/out.png", "link that leads out of the data"),
        ("cat/up.png", "link that leads out of the data"),
        ("loop", "link to a folder that holds it"),
    )
    only = tmp_path / "only"
    only.mkdir()
    (only / "out.png").symlink_to(secret)
    with pytest.raises(UserError, match="Left out: 1 x link that leads out"):
        load("folder", split="train", data_dir=str(only))


def test_unusable_folders_are_refused_in_one_line(tmp_path):
    def message(path=tmp_path, **options):
        with pytest.raises(UserError) as caught:
            load("folder", split="train", data_dir=path and str(path), **options)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "folder needs data_dir" in message(None)
    assert "is no folder" in message(tmp_path / "missing")
    assert "holds no image; allowed: .jpg, .jpeg, .jpe, .jfif" in message()
    (tmp_path / "a.png").write_bytes(b"text")
    (tmp_path / "b.jpg").write_bytes(b"")
    assert "None of the 2 images" in message()
    assert "a.png: not a JPEG, PNG or WebP" in message()
    assert "load_size is 0" in message(load_size=0)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "c.png").write_bytes(encode(noise(0)))
    assert "both images (a.png) and class folders (cat)" in message()
