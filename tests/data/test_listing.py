"""Every file and folder is a record, or is left out by name and reason."""

import os
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import encode, noise

from jaxssl.data import listing, load
from jaxssl.data.source import label_of, read_record
from jaxssl.errors import UserError

PICTURE = encode(noise(0, 4, 4))
SUFFIXES = ("jpg", "JPEG", "jpe", "jfif", "png", "webp", "WebP")
OTHERS = ("gif", "txt", "heic", "")


def put(path, content=PICTURE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def open_folder(root, **options):
    return load("folder", **{"split": "train", "data_dir": str(root)} | options)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_ordinary_suffixes_of_jpeg_png_and_webp_are_read(tmp_path, suffix):
    kind = {"png": "PNG", "webp": "WEBP"}.get(suffix.lower(), "JPEG")
    put(tmp_path / "cat" / f"a.{suffix}", encode(noise(1), kind))
    source = open_folder(tmp_path)
    assert (source.class_names, source.left_out) == (("cat",), ())
    got = read_record(source, 0)["image"].astype(int)
    assert np.abs(got - noise(1)).mean() < 8


def test_linked_folders_and_files_inside_the_data_are_read(tmp_path):
    """As where splits are folders of links into one pool of pictures."""
    for name in ("cat", "dog"):
        put(tmp_path / "pool" / name / "1.png")
    train = tmp_path / "train"
    train.mkdir()
    (train / "cat").symlink_to("../pool/cat")
    (train / "dog").symlink_to(tmp_path / "pool" / "dog")
    put(train / "emu" / "1.png")
    (train / "emu" / "2.png").symlink_to(tmp_path / "pool" / "cat" / "1.png")
    source = open_folder(tmp_path)
    assert source.class_names == ("cat", "dog", "emu")
    assert source.paths == ("cat/1.png", "dog/1.png", "emu/1.png", "emu/2.png")
    assert [int(label_of(source, i)) for i in range(4)] == [0, 1, 2, 2]
    assert source.left_out == ()


def test_a_split_that_is_a_link_is_followed_wherever_it_leads(tmp_path):
    put(tmp_path / "disk" / "cat" / "1.png")
    (tmp_path / "disk" / "dog").symlink_to("cat")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train").symlink_to(tmp_path / "disk")
    assert open_folder(tmp_path / "data").paths == ("cat/1.png", "dog/1.png")


def test_loops_end(tmp_path):
    put(tmp_path / "cat" / "1.png")
    (tmp_path / "cat" / "up").symlink_to("..")
    (tmp_path / "cat" / "self").symlink_to("self")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "cat").symlink_to("../cat")
    (tmp_path / "dog" / "dog").symlink_to(tmp_path / "dog")
    source = open_folder(tmp_path)
    assert source.paths == ("cat/1.png", "dog/cat/1.png")
    loop, nowhere = "link to a folder that holds it", "link that leads nowhere"
    assert dict(source.left_out) == {
        "cat/self": nowhere,
        "cat/up": loop,
        "dog/cat/self": nowhere,
        "dog/cat/up": loop,
        "dog/dog": loop,
    }


def test_folders_that_link_to_each_other_have_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "MAX_LINKED", 500)
    names = "abcdefgh"
    for name in names:
        put(tmp_path / name / "1.png")
        for other in names:
            (tmp_path / name / other).symlink_to(tmp_path / other)
    with pytest.raises(UserError, match="more than 500 folders by way of links"):
        open_folder(tmp_path)


@pytest.mark.slow
def test_very_deep_folders_are_read(tmp_path, monkeypatch):
    depth = sys.getrecursionlimit() + 100
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    put(Path("1.png"))
    (path,) = open_folder(tmp_path).paths
    assert path == "d/" * depth + "1.png"
    Path("1.png").unlink()
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("d")


def test_names_that_are_not_utf_8_or_forge_a_line(tmp_path):
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(raw)
    for name in (b"/1.png", b"/\x1b[2J\n\xff.png", b"/3.\xfe", b"/\xe2\x80\xae.txt"):
        with open(raw + name, "wb") as file:
            file.write(PICTURE if name.endswith(b"png") else b"")
    source = open_folder(tmp_path)
    assert source.class_names == ("caf\\udce9",)
    assert len(source.fingerprint) > 16
    shown = [source.record_name(i) for i in range(2)]
    shown += [source.name, listing.describe(source.left_out)]
    for text in shown:
        assert text.isprintable()
        text.encode()
    read_record(source, 0)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    put(tmp_path / "cat" / "1.png")
    put(tmp_path / "dog" / "1.png")
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("dog"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    left_out = open_folder(tmp_path).left_out
    assert ("dog", "folder that cannot be read (Permission denied)") in left_out


def _grow(rng, root, outside):
    """Fill a folder at random; return what must become of each path."""
    want, pictures = {}, set()
    for number in range(rng.integers(3, 30)):
        folder = f"class{rng.integers(4)}/" + "sub/" * rng.integers(2)
        kind = rng.integers(9)
        name = f"{folder}{number}"
        if kind == 0:
            name += f".{rng.choice(SUFFIXES)}"
            put(root / name)
            want[name] = ""
        elif kind == 1:
            suffix = str(rng.choice(OTHERS))
            name += f".{suffix}" if suffix else ""
            put(root / name)
            want[name] = f"suffix .{suffix}" if suffix else "file without a suffix"
        elif kind == 2:
            name = f"{folder}.{number}.png"
            put(root / name)
            want[name] = "hidden"
        else:
            (root / folder).mkdir(parents=True, exist_ok=True)
            if kind == 3:
                name += ".png"
                (root / name).symlink_to(put(root / "class0" / f"of{number}.png"))
                want |= {name: "", f"class0/of{number}.png": ""}
            elif kind == 4:
                name += ".png"
                (root / name).symlink_to(outside)
                want[name] = "link that leads out of the data"
            elif kind == 5:
                (root / name).symlink_to(f"gone{number}")
                want[name] = "link that leads nowhere"
            elif kind == 6:
                name += ".png"
                os.mkfifo(root / name)
                want[name] = "not a regular file"
            elif kind == 7:
                (root / name).symlink_to(root)
                want[name] = "link to a folder that holds it"
            else:
                (root / name).mkdir()
    put(root / "class0" / "at_least.jpe")
    want["class0/at_least.jpe"] = ""
    pictures = [path for path, reason in want.items() if not reason]
    for path in root.rglob("*"):
        inside = path.relative_to(root).as_posix()
        if path.is_dir() and not path.is_symlink():
            if not any(picture.startswith(f"{inside}/") for picture in pictures):
                top = "" if "/" in inside else "class "
                want[inside] = f"{top}folder without an image"
    return want


def test_nothing_of_a_random_folder_disappears(tmp_path, faults):
    """The wanted fate of each path is noted where the path is made."""
    outside = put(tmp_path / "outside.png")
    rng, injected, held = np.random.default_rng(0), 0, 0
    for case in range(60):
        root = tmp_path / f"case{case}"
        root.mkdir()
        want = _grow(rng, root, outside)
        source = open_folder(root)
        got = dict.fromkeys(source.paths, "") | dict(source.left_out)
        assert len(got) == len(source.paths) + len(source.left_out)
        injected += sum(bool(reason) for reason in want.values())
        held += sum(got.get(path) == reason for path, reason in want.items() if reason)
        assert got == want
        text = listing.describe(source.left_out)
        counts = re.findall(r"(\d+) x ", text)
        assert sum(map(int, counts)) == len(source.left_out)
        assert all(reason.removeprefix("suffix ") in text for reason in got.values())
    faults.record("F22", injected=injected, survived=held)


def test_sockets_are_left_out(tmp_path, monkeypatch):
    put(tmp_path / "1.png")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("2.png")
        assert open_folder(tmp_path).left_out == (("2.png", "not a regular file"),)


@pytest.mark.parametrize(
    "split",
    ["", ".", "..", "../other", "a/b", "/etc", "a\\b", "a\nb", "\x1b[2J", "a\0"],
)
@pytest.mark.parametrize("name", ["folder", "npz", "fashion_on_photos", "tfds:mnist"])
def test_a_split_is_a_name(tmp_path, name, split, faults):
    put(tmp_path / "data" / "1.png")
    put(tmp_path / "other" / "1.png")
    np.savez(tmp_path / "other.npz", image=np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(UserError) as caught:
        load(name, split=split, data_dir=str(tmp_path / "data"))
    assert str(caught.value).isprintable()
    faults.record("F22", injected=1, survived=1)


def test_a_relative_folder_says_relative_to_what(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "npz", "tfds:mnist", "fashion_mnist"):
        with pytest.raises(UserError, match=rf"photos \(relative to {tmp_path}\)"):
            load(name, split="train", data_dir="photos")


def test_a_source_is_named_with_its_split_once(tmp_path):
    put(tmp_path / "train" / "cat" / "1.png")
    assert open_folder(tmp_path).name == f"folder {tmp_path}/train"
    assert open_folder(tmp_path, split="all").name == f"folder {tmp_path}"
