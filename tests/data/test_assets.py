import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxssl.data
from jaxssl.data import fashion_on_photos
from jaxssl.errors import UserError
from tools import build_assets

ASSETS = Path(jaxssl.data.__file__).parent / "assets"
COPYRIGHT = """Format: x
Source: y

Files: 16.04/{name}.jpg
Copyright: A. Author, 2018
License: {licence}

License: Expat
 First line
 .
   indented

License: CC-BY-4.0
 By

License: CC0-1.0
 Zero
"""


def test_every_file_is_the_one_of_the_manifest():
    lines = (ASSETS / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    found = {path.name for path in ASSETS.iterdir() if path.is_file()}
    assert found == {*sums, "SHA256SUMS"}
    for name, digest in sums.items():
        assert hashlib.sha256((ASSETS / name).read_bytes()).hexdigest() == digest, name


def test_the_embedded_data_stay_small():
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) <= 7_000_000


def test_every_photo_is_credited_and_under_a_free_licence_without_share_alike():
    credit = (ASSETS / "ATTRIBUTION.md").read_text()
    photos = sorted(path.name for path in ASSETS.glob("*.jpg"))
    assert len(photos) == 10
    for name in photos:
        (row,) = [line for line in credit.splitlines() if f"`{name}`" in line]
        assert "[CC-BY-4.0]" in row or "[CC0-1.0]" in row
        with Image.open(ASSETS / name) as photo:
            assert max(photo.size) == 640
    licences = (ASSETS / "LICENSES.txt").read_text()
    assert "ShareAlike" not in licences
    for words in ("Permission is hereby granted", "Attribution 4.0 Inter", "CC0"):
        assert words in licences


@pytest.mark.parametrize(("split", "each"), [("train", 1000), ("test", 200)])
def test_embedded_garments_are_balanced(split, each):
    images, labels = fashion_on_photos.garments(split)
    assert images.shape == (10 * each, 28, 28)
    assert np.bincount(labels).tolist() == [each] * 10
    assert (np.sort(labels.reshape(-1, 10), axis=1) == np.arange(10)).all()
    # Evenly spaced images are of all classes.
    assert np.bincount(labels[::10]).min() > 0.06 * len(labels[::10])
    # Trousers are narrow and bags are wide: the labels belong to the images.
    width = (images > 32).any(1).sum(1)
    assert width[labels == 1].mean() + 5 < width[labels == 8].mean()
    assert len({image.tobytes() for image in images}) == len(images)


def test_no_test_garment_is_a_train_garment():
    train, test = (fashion_on_photos.garments(split)[0] for split in ("train", "test"))
    assert not {i.tobytes() for i in train} & {i.tobytes() for i in test}


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """What unpacking both Debian packages gives, in small."""
    share = tmp_path / "usr" / "share"
    fashion, backgrounds = share / "datasets" / "fashion-mnist", share / "backgrounds"
    fashion.mkdir(parents=True)
    backgrounds.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, each in (("train", 1010), ("t10k", 210)):
        labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), each))
        pixels = np.broadcast_to(labels[:, None, None], (10 * each, 4, 4))
        write_idx(fashion / f"{prefix}-images-idx3-ubyte.gz", pixels)
        write_idx(fashion / f"{prefix}-labels-idx1-ubyte.gz", labels)
    for name in build_assets.PHOTOS:
        colours = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(colours).save(backgrounds / f"{name}.jpg")
    for package in build_assets.PACKAGES:
        (share / "doc" / package).mkdir(parents=True)
        stanzas = [
            COPYRIGHT.format(name=name, licence="CC-BY-4.0")
            for name in build_assets.PHOTOS
        ]
        text = "\n".join(stanzas)
        (share / "doc" / package / "copyright").write_text(text)
    return tmp_path


def test_the_build_script_is_deterministic_and_balanced(packages):
    files = build_assets.build(packages)
    assert files == build_assets.build(packages)
    with Image.open(packages / "usr/share/backgrounds/Wine_by_Jakkub_Mede.jpg") as big:
        assert big.size == (64, 48)
    (packages / "sheet.png").write_bytes(files["fashion_mnist_train.png"])
    with Image.open(packages / "sheet.png") as sheet:
        grid = np.asarray(sheet).reshape(100, 4, 100, 4)[:, 0, :, 0]
    # Each fake image holds its own label, so the position must give it back.
    np.testing.assert_array_equal(grid.reshape(-1), np.arange(10_000) % 10)
    assert b"First line\n\n  indented" in files["LICENSES.txt"]
    assert files["ATTRIBUTION.md"].count(b"A. Author, 2018") == 10


def test_the_build_script_refuses_share_alike_photos(packages):
    path = packages / "usr/share/doc/lomiri-wallpapers-16.04/copyright"
    path.write_text(
        path.read_text().replace("License: CC-BY-4.0\n\n", "License: SA\n\n")
    )
    with pytest.raises(UserError, match="is under SA; not embedded"):
        build_assets.build(packages)


def test_the_build_script_says_what_to_fetch(tmp_path, caplog):
    assert build_assets.main([str(tmp_path)]) == 2
    assert "apt-get download dataset-fashion-mnist lomiri" in caplog.text
    assert "dpkg-deb -x" in caplog.text
