"""Small data sets on disk, made from a seed."""

from pathlib import Path

import pytest
from pictures import encode, noise


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """Twelve images of 20 x 24 in the classes cat and dog, PNG and JPEG in turn."""
    root = tmp_path / "animals"
    for i in range(12):
        folder = root / ("cat" if i < 6 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        kind, suffix = (("PNG", "png"), ("JPEG", "JPG"))[i % 2]
        (folder / f"{i:02d}.{suffix}").write_bytes(encode(noise(i), kind))
    return root
