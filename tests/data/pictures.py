"""Small pictures from a seed, and how they are encoded."""

import io

import numpy as np
from PIL import Image


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=95)
    return buffer.getvalue()


def noise(seed: int, h: int = 20, w: int = 24) -> np.ndarray:
    """Smooth random pixels, so that JPEG keeps them nearly."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC))
