import io
import os
import struct
import warnings
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
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_a_bad_record(kind, faults):
    data = encode(noise(4, 200, 200), kind)
    for length in (1, 10, len(data) // 2):
        with pytest.raises(BadRecord):
            images.decode(data[:length])
    faults.record("F10", injected=1, survived=1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
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
        with pytest.raises(BadRecord, match="not a JPEG, PNG or WebP"):
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


def with_exif(data: bytes) -> bytes:
    """Put EXIF data that are cut short into a JPEG."""
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x05\x00\x12\x01\x03\x00\x01"
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def test_damaged_metadata_end_nothing_where_warnings_are_errors():
    data = with_exif(encode(noise(7), "JPEG"))
    assert images.remarks(data)[0].startswith("Corrupt EXIF data")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = images.decode(data)
        palette = Image.fromarray(noise(1)).convert("P")
        buffer = io.BytesIO()
        palette.save(buffer, "PNG", transparency=b"\x00\x80" * 8)
        assert images.decode(buffer.getvalue()).shape == (20, 24, 3)
    np.testing.assert_array_equal(decoded, images.decode(encode(noise(7), "JPEG")))


def test_a_wrong_checksum_in_a_text_chunk_is_told_as_such():
    data = encode(noise(8))
    chunk = png_chunk(b"tEXt", b"Author\x00me")
    wrong = data[:33] + chunk[:-1] + bytes([chunk[-1] ^ 1]) + data[33:]
    with pytest.raises(BadRecord, match=r"damaged image: .*checksum.*tEXt"):
        images.decode(wrong)


def test_sixteen_bits_are_told_and_not_called_damage():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(buffer, "PNG")
    with pytest.raises(BadRecord, match=r"^pixels of mode I;16, more than 8 bits"):
        images.decode(buffer.getvalue())
    size = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    colour = zlib.compress(b"\x00" + bytes(range(1, 7)))
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", size)
    data += png_chunk(b"IDAT", colour) + png_chunk(b"IEND", b"")
    assert images.decode(data).tolist() == [[[1, 3, 5]]]
    assert images.remarks(data) == ["only 8 of 16 bits a channel are read"]


def test_alpha_is_dropped_aloud(caplog):
    pixels = np.dstack([noise(9), np.arange(480).reshape(20, 24) % 256])
    images._tell_alpha.cache_clear()
    for _ in range(2):
        decoded = images.decode(encode(pixels.astype(np.uint8)))
    np.testing.assert_array_equal(decoded, noise(9))
    assert caplog.text.count("alpha channel: it is dropped") == 1
    assert images.remarks(encode(pixels.astype(np.uint8))) == ["alpha is dropped"]
    assert images.remarks(encode(noise(9))) == []


def test_of_several_frames_the_first_is_read():
    frames, buffer = [Image.fromarray(noise(i)) for i in range(2)], io.BytesIO()
    options = {"save_all": True, "append_images": frames[1:], "lossless": True}
    frames[0].save(buffer, "WEBP", **options)
    np.testing.assert_array_equal(images.decode(buffer.getvalue()), noise(0))
    assert images.remarks(buffer.getvalue()) == [
        "only the first of several frames is read"
    ]


def test_a_webp_that_announces_a_huge_picture_is_refused():
    side = (60_000 - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x00" * 4 + side + side
    data = b"RIFF" + struct.pack("<I", len(body)) + body
    with pytest.raises(BadRecord):
        images.decode(data)


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadRecord, match="not a regular file"):
        images.read_bytes(tmp_path / "a.png")
