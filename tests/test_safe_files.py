"""Files that are damaged or hostile are one error, and are not waited for."""

import io
import os
import zipfile

import numpy as np
import pytest

from jaxssl import safe_files
from jaxssl.safe_files import UnreadableFile


@pytest.fixture(params=["fifo", "folder", "device", "loop"])
def irregular(request, tmp_path):
    path = tmp_path / "file"
    make = {
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "loop": lambda: path.symlink_to(path),
    }
    make[request.param]()
    return path


@pytest.mark.parametrize(
    "read",
    [
        safe_files.read_json,
        safe_files.read_npz,
        lambda path: safe_files.read_bytes(path, 9),
        lambda path: safe_files.open_regular(path, write=True),
    ],
)
def test_only_regular_files_are_opened(irregular, read):
    with pytest.raises(UnreadableFile):
        read(irregular)


def test_a_link_is_read_and_not_written(tmp_path):
    (tmp_path / "target").write_text("{}")
    (tmp_path / "link").symlink_to("target")
    assert safe_files.read_json(tmp_path / "link") == {}
    with pytest.raises(UnreadableFile, match="is a link"):
        safe_files.open_regular(tmp_path / "link", write=True)
    assert (tmp_path / "target").read_text() == "{}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is no JSON"),
        (b"\xff{}", "is no JSON"),
        (b"null", "holds no JSON object"),
        (b"[{}]", "holds no JSON object"),
        (b'{"a": ' * 200_000, "is nested deeper than 100 levels"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "is nested deeper than 100"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is no JSON"),
        (b'{"a": "' + b" " * (1 << 26) + b'"}', "is larger than 67,108,864 bytes"),
    ],
)
def test_what_is_no_json_object_has_its_reason(tmp_path, data, reason):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UnreadableFile, match=reason):
        safe_files.read_json(tmp_path / "file")


def test_as_many_levels_as_a_config_can_have_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b'{"a": ' + b"[" * 98 + b"]" * 98 + b"}")
    assert list(safe_files.read_json(tmp_path / "file")) == ["a"]


@pytest.mark.parametrize(
    ("text", "number", "count"),
    [
        ("3", True, True), ("0", True, True), ("-1", True, False), ("2.5", True, False),
        ("9" * 400, False, False), ("1e999", False, False), ("NaN", False, False),
        ("-Infinity", False, False), ("true", False, False), ("null", False, False),
        ('"3"', False, False), ("[3]", False, False), (str(2**63), True, False),
        (str(2**63 - 1), True, True),
    ],
)  # fmt: skip
def test_numbers_are_finite_and_counts_are_whole(text, number, count):
    value = safe_files.parse_json(text.encode())
    assert safe_files.is_number(value) == number
    assert safe_files.is_count(value) == count


ARRAYS = {
    "image": np.arange(24, dtype=np.uint8).reshape(2, 3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "note": np.array("the query itself"),
    "none": np.zeros((0, 3), np.float32),
    "hit": np.array([True, False]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_loads_them(tmp_path, save):
    save(tmp_path / "file.npz", **ARRAYS)
    arrays = safe_files.read_npz(tmp_path / "file.npz")
    assert list(arrays) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def test_every_flipped_bit_of_an_archive_is_seen_or_changes_no_array(tmp_path, faults):
    """Bits that nothing reads, such as the dates of an archive, may flip."""
    np.savez_compressed(tmp_path / "file.npz", **ARRAYS)
    whole = (tmp_path / "file.npz").read_bytes()
    tried = 8 * len(whole)
    for bit in range(tried):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        (tmp_path / "file.npz").write_bytes(data)
        try:
            arrays = safe_files.read_npz(tmp_path / "file.npz")
        except UnreadableFile:
            continue
        for name, array in arrays.items():
            if name in ARRAYS:
                np.testing.assert_array_equal(array, ARRAYS[name])
    faults.record("F24", injected=tried, survived=tried)


def _npy(array, **changes):
    """Return the file of an array, with some words of its header replaced."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    data = file.getvalue()
    for old, new in changes.values():
        data = data.replace(old, new.ljust(len(old)))
    return data


@pytest.mark.parametrize(
    "member",
    [
        _npy(np.zeros((2, 3)), shape=(b"(2, 3)", b"(2, 4)")),
        _npy(np.zeros((2, 3)), shape=(b"(2, 3)", b"(-2,-3)"[:6])),
        _npy(np.zeros((9, 9)), shape=(b"(9, 9), ", b"(9**9,),")),
        _npy(np.zeros(3), dtype=(b"<f8", b"|O8")),
        _npy(np.zeros(3), dtype=(b"<f8", b"<q9")),
        _npy(np.array([{}], object)),
        _npy(np.zeros(3))[:40],
        b"",
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY\x01\x00\x40\x00" + b"(" * 64,
    ],
)
def test_an_array_that_does_not_fit_its_header_is_refused(tmp_path, member):
    with zipfile.ZipFile(tmp_path / "file.npz", "w") as archive:
        archive.writestr("x.npy", member)
    with pytest.raises(UnreadableFile):
        safe_files.read_npz(tmp_path / "file.npz")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "file.npz", x=np.zeros(1 << 20, np.uint8))
    assert safe_files.read_npz(tmp_path / "file.npz")["x"].size == 1 << 20
    monkeypatch.setattr(safe_files.memory, "available", lambda: 1 << 20)
    with pytest.raises(UnreadableFile, match="unpacks to more than 262,144 bytes"):
        safe_files.read_npz(tmp_path / "file.npz")


def test_what_is_set_aside_never_replaces_anything(tmp_path):
    for number, name in enumerate(["x.corrupt", "x.corrupt-2", "x.corrupt-3"]):
        (tmp_path / "x").write_text(str(number))
        assert safe_files.set_aside(tmp_path / "x") == tmp_path / name
    assert [(tmp_path / name).read_text() for name in sorted(os.listdir(tmp_path))] == [
        "0", "1", "2",
    ]  # fmt: skip


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        safe_files.read_json(tmp_path / "file")
