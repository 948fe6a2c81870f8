import io
import struct
import zlib

import numpy as np
import pytest
from pictures import encode, noise
from PIL import Image

from jaxssl.data import images
from jaxssl.errors import BadRecord


def test_png_comes_back_as_it_was():
    pixels = noise(0)
    np.testing.assert_array_equal(images.decode(encode(pixels)), pixels)
    assert images.header(encode(pixels)) == (20, 24, "RGB")


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    buffer = io.BytesIO()
    image = Image.fromarray(noise(1)).convert(mode)
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    pixels = images.decode(buffer.getvalue())
    assert pixels.shape == (20, 24, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize(("h", "w"), [(20, 24), (300, 100), (97, 401)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_load_size_scales_the_shorter_side_and_cuts_the_centre(h, w, kind):
    pixels = noise(2, h, w)
    got = images.decode(encode(pixels, kind), load_size=16).astype(float)
    assert got.shape == (16, 16, 3)
    short = min(h, w)
    y, x = (h - short) // 2, (w - short) // 2
    centre = Image.fromarray(pixels[y : y + short, x : x + short])
    want = np.asarray(centre.resize((16, 16), Image.Resampling.BOX)).astype(float)
    assert np.abs(got - want).mean() < 6


def test_the_orientation_tag_of_cameras_is_obeyed():
    pixels, buffer = noise(3), io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its left side
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(
        images.decode(buffer.getvalue()), np.rot90(pixels, k=-1)
    )


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_is_a_bad_record(kind, faults):
    data = encode(noise(4, 200, 200), kind)
    for length in (1, 10, len(data) // 2):
        with pytest.raises(BadRecord):
            images.decode(data[:length])
    faults.record("F10", injected=1, survived=1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damage_never_escapes_as_another_error(kind):
    data = encode(noise(5, 40, 40), kind)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for position in rng.integers(0, len(data), 8):
            damaged[position] = rng.integers(0, 256)
        try:
            assert images.decode(bytes(damaged), load_size=8).shape == (8, 8, 3)
        except BadRecord:
            refused += 1
    assert refused > 50


def test_other_formats_and_text_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(noise(6)).save(buffer, "GIF")
    for data in (buffer.getvalue(), b"<html>not found</html>", b"\x00" * 100):
        with pytest.raises(BadRecord, match="not a JPEG or PNG"):
            images.decode(data)


def test_sixteen_bits_a_channel_are_refused():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    with pytest.raises(BadRecord, match="allowed: 8 bits"):
        images.decode(buffer.getvalue())


def png_chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side):
    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size) + png_chunk(b"IDAT", b"")
    with pytest.raises(BadRecord, match=r"pixels"):
        images.decode(data)
    with pytest.raises(BadRecord, match=r"pixels"):
        images.header(data)


def test_files_are_bounded_before_they_are_read(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    with pytest.raises(BadRecord, match="file of 0 bytes"):
        images.read_bytes(path)
    path.write_bytes(b"12345")
    monkeypatch.setattr(images, "MAX_BYTES", 4)
    with pytest.raises(BadRecord, match="file of 5 bytes; allowed: 1 to 4"):
        images.read_bytes(path)
    with pytest.raises(BadRecord, match="cannot be read: No such file"):
        images.read_bytes(tmp_path / "b.png")
