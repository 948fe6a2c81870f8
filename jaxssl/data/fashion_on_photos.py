"""Fashion-on-Photos: embedded garments on embedded photos, a synthetic colour set.

A garment of Fashion-MNIST is tinted, made transparent where it is black and pasted on a
random crop of a photo; its class is the label. Train garments lie on seven photos, test
garments on three others. Everything follows from ``seed``: image i of a split is the
same whatever the number of images, and the three backgrounds share garments and crops.
"""

import functools
import importlib.resources
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from jaxssl.config import fields
from jaxssl.config.checks import choice
from jaxssl.data.fashion_mnist import CLASS_NAMES
from jaxssl.data.source import ArraySource, digest, image_source
from jaxssl.errors import UserError
from jaxssl.types import Float, Int, UInt8

RECIPE = "fashion_on_photos 1"
TRAIN_PHOTOS = (
    "Picture_0B_by_freespace",
    "Picture_1A_by_freespace",
    "aitzgorri_by_Aitzol_Berasategi",
    "life_by_Aitzol_Berasategi",
    "picosdeeuropa_by_Aitzol_Berasategi",
    "sunset_by_Aitzol_Berasategi",
    "umang_by_Abhishek_Mudgal",
)
TEST_PHOTOS = (
    "Wine_by_Jakkub_Mede",
    "friends_by_Aitzol_Berasategi",
    "seeding_by_Clements_Engelhardt",
)
PHOTOS = {"train": TRAIN_PHOTOS, "test": TEST_PHOTOS}
AVAILABLE = {"train": 10_000, "test": 2_000}
PRESETS = {"demo": (10_000, 2_000), "tiny": (4_000, 2_000)}
BACKGROUNDS = ("photo", "grey", "only")
SIZES = (16, 144)  # 2.5 * 144 is the short side of the narrowest photo.

CROP = (1.0, 2.5)  # Side of the photo crop, in image sides.
SPRITE = (0.55, 0.8)  # Side of the garment, in image sides.
JITTER = 0.1  # Largest shift of the garment's centre, in image sides.
TINT = (0.25, 1.0)
ALPHA_GAIN = 3.0  # Without it dark garments are transparent.
MIN_STD = 20.0  # Crops flatter than this are drawn again,
DRAWS = 5  # at most 5 times.
GREY = 128


class Layout(NamedTuple):
    """Where the pieces of one image go and what they look like; all in [0, 1).

    Attributes:
      crops: photo, side, top and left of each crop that may be tried.
      flip: the background is mirrored below one half.
      side: of the garment.
      shift: of the garment's centre, (y, x).
      tint: of the garment, (r, g, b).
    """

    crops: Float[np.ndarray, "draws 4"]
    flip: float
    side: float
    shift: Float[np.ndarray, "2"]
    tint: Float[np.ndarray, "3"]


def load(
    *,
    split: str,
    size: fields.Pixels = 40,
    num_train: fields.Count | None = None,
    num_test: fields.Count | None = None,
    seed: fields.Seed = 0,
    background: str = "photo",
    preset: str = "demo",
) -> ArraySource:
    """Generate one split; 12,000 images of 40 pixels take a few seconds.

    Args:
      split: ``train`` or ``test``.
      size: side of the images in pixels.
      num_train: number of train images, at most 10,000; by default the preset's.
      num_test: number of test images, at most 2,000; by default the preset's.
      seed: of crops, positions and tints.
      background: ``photo``; ``grey`` puts the same garments on uniform grey and
        ``only`` leaves the garments out: together they show whether a network answers
        from the garments or from the photos.
      preset: ``demo`` (10,000 + 2,000 images) or ``tiny`` (4,000 + 2,000).

    Returns:
      The split, in memory; every ten images hold every class once.

    Raises:
      UserError: a value other than these.
    """
    choice("split", split, PHOTOS)
    choice("background", background, BACKGROUNDS)
    choice("preset", preset, PRESETS)
    if not SIZES[0] <= size <= SIZES[1]:
        raise UserError(f"size is {size}; allowed: {SIZES[0]} to {SIZES[1]} pixels.")
    given = {"train": num_train, "test": num_test}[split]
    count = PRESETS[preset][split == "test"] if given is None else given
    if not 1 <= count <= AVAILABLE[split]:
        raise UserError(
            f"num_{split} is {count}; allowed: 1 to {AVAILABLE[split]} embedded images."
        )
    images, labels = _build(split, size, count, seed, background)
    options = f"{split} {size} {count} {seed} {background}"
    return image_source(
        images,
        labels,
        name=f"fashion_on_photos/{split}",
        class_names=CLASS_NAMES,
        fingerprint=digest(RECIPE, options, asset("SHA256SUMS")),
    )


def asset(name: str) -> bytes:
    """Return the contents of an embedded file."""
    folder = importlib.resources.files("jaxssl.data") / "assets"
    return (folder / name).read_bytes()


def garments(split: str) -> tuple[UInt8[np.ndarray, "n 28 28"], Int[np.ndarray, " n"]]:
    """Return the embedded Fashion-MNIST images and labels of a split.

    Args:
      split: ``train`` (10,000) or ``test`` (2,000).

    Returns:
      Images in 0 to 255, black background, and labels 0 to 9. Every ten images hold
      every class once, in an order of their own: prefixes are balanced, and choosing
      every tenth image does not choose a class.
    """
    with Image.open(io.BytesIO(asset(f"fashion_mnist_{split}.png"))) as sheet:
        pixels = np.asarray(sheet)
    rows, columns = pixels.shape[0] // 28, pixels.shape[1] // 28
    images = pixels.reshape(rows, 28, columns, 28).transpose(0, 2, 1, 3)
    # The sheet has the classes in turn.
    classes = len(CLASS_NAMES)
    stream = np.random.PCG64(tuple(PHOTOS).index(split))
    turns = stream.random_raw((rows * columns // classes, classes)).argsort(axis=1)
    order = (np.arange(len(turns))[:, None] * classes + turns).reshape(-1)
    labels = (order % classes).astype(np.int32)
    return images.reshape(-1, 28, 28)[order], labels


def draw_layouts(count: int, *, split: str, seed: int) -> list[Layout]:
    """Draw the layout of each image.

    The raw stream of PCG64 is used because NumPy promises that it never changes.

    Args:
      count: number of images; those of a smaller count are a prefix.
      split: ``train`` or ``test``, which have separate streams.
      seed: of the stream.

    Returns:
      One layout an image.
    """
    entropy = np.random.SeedSequence([seed, tuple(PHOTOS).index(split)])
    raw = np.random.PCG64(entropy).random_raw((count, 4 * DRAWS + 7))
    rows = (raw >> np.uint64(11)) * 2.0**-53
    return [
        Layout(
            crops=row[: 4 * DRAWS].reshape(DRAWS, 4),
            flip=float(row[-7]),
            side=float(row[-6]),
            shift=row[-5:-3],
            tint=row[-3:],
        )
        for row in rows
    ]


def draw_background(
    photos: list[Image.Image], layout: Layout, *, size: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Cut the first crop that is not flat, scale it to ``size`` and perhaps mirror it.

    Args:
      photos: RGB photos to choose from.
      layout: the draws of this image.
      size: side of the result in pixels.

    Returns:
      The background, 0 to 255.
    """
    pixels = np.zeros((size, size, 3), np.uint8)
    for which, side, top, left in layout.crops:
        photo = photos[int(which * len(photos))]
        side = _between(side, CROP) * size
        x, y = left * (photo.width - side), top * (photo.height - side)
        box = (x, y, x + side, y + side)
        crop = photo.resize((size, size), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(crop)
        if pixels.std() > MIN_STD:
            break
    return pixels[:, ::-1] if layout.flip < 0.5 else pixels


def opacity(garment: UInt8[np.ndarray, "*n h w"]) -> Float[np.ndarray, "*n h w"]:
    """Return alpha in [0, 1]: three times the brightness, capped, then a 3x3 mean."""
    alpha = np.minimum(garment.astype(np.float32) * (ALPHA_GAIN / 255), 1)
    margin = [(0, 0)] * (alpha.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(alpha, margin, mode="edge")
    h, w = alpha.shape[-2:]
    shifted = [padded[..., y : y + h, x : x + w] for y in range(3) for x in range(3)]
    return np.asarray(np.sum(shifted, axis=0, dtype=np.float32) / np.float32(9))


def paste_garment(
    background: UInt8[np.ndarray, "s s 3"],
    garment: UInt8[np.ndarray, "28 28"],
    layout: Layout,
) -> UInt8[np.ndarray, "s s 3"]:
    """Blend one tinted garment over a background.

    Args:
      background: 0 to 255.
      garment: 0 to 255, black background.
      layout: the draws of this image.

    Returns:
      The composite, 0 to 255.
    """
    size = len(background)
    side = round(_between(layout.side, SPRITE) * size)
    centre = size / 2 + (2 * layout.shift - 1) * JITTER * size
    top, left = np.clip(np.round(centre - side / 2), 0, size - side).astype(int)
    alpha = _resize(opacity(garment), side)[..., None]
    brightness = _resize(garment.astype(np.float32), side)[..., None]
    tint = _between(layout.tint, TINT).astype(np.float32)
    out = background.astype(np.float32)
    area = out[top : top + side, left : left + side]
    area += alpha * (brightness * tint - area)
    return np.round(out).astype(np.uint8)


@functools.lru_cache(maxsize=6)
def _build(
    split: str, size: int, count: int, seed: int, background: str
) -> tuple[UInt8[np.ndarray, "n s s 3"], Int[np.ndarray, " n"]]:
    sprites, labels = garments(split)
    photos = [
        Image.open(io.BytesIO(asset(f"{name}.jpg"))).convert("RGB")
        for name in PHOTOS[split]
    ]
    images = np.full((count, size, size, 3), GREY, np.uint8)
    for i, layout in enumerate(draw_layouts(count, split=split, seed=seed)):
        if background != "grey":
            images[i] = draw_background(photos, layout, size=size)
        if background != "only":
            images[i] = paste_garment(images[i], sprites[i], layout)
    images.flags.writeable = False
    return images, labels[:count]


def _between(unit, limits: tuple[float, float]):
    low, high = limits
    return low + unit * (high - low)


def _resize(image: Float[np.ndarray, "h w"], side: int) -> Float[np.ndarray, "s s"]:
    small = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(small)
