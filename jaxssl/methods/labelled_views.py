"""Views of labelled images: what a classifier is trained on (sections 4.4 and 8.4).

Crop and flip are composed and sampled once. A sample's view follows from the step's key
and the sample's id, so it is the same on any number of devices.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import keys
from jaxssl import transforms as T  # noqa: N812
from jaxssl.config import checks
from jaxssl.errors import UserError
from jaxssl.models.network import from_pixels
from jaxssl.types import Array, Batch, Float, Int, Key, Shaped

PIXELS = ("symmetric", "standardized", "normalized")
"""What becomes of 0..255: [-1, 1]; mean 0 and variance 1 of each image; or of all."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What the classifier sees, and what is asked of it.

    Attributes:
      crop_size: side of the views, in pixels.
      flip: mirror half of them.
      padding: zeros around the image before the crop, in pixels (released code: 4).
      area: cut parts of that share of the area and resize them, as (0.3, 1.0) on VOC;
        empty for crops of ``crop_size`` pixels.
      brightness: strength of the change, 0 for none; released code: 63/255.
      contrast: strength of the change, 0 for none; released code: 0.8. Both as in
        `perturb_colors`.
      pixels: ``symmetric`` for [-1, 1]; ``standardized`` for mean 0 and variance 1 of
        each image (released code); ``normalized`` for those of the data set.
      mean: of the data set's channels in [0, 1], for ``normalized``.
      std: its standard deviations.
      labels: ``classes``, one an image; or ``attributes``, several 0/1 labels (VOC).
      smoothing: share of the label that goes to all classes evenly; Table 8.3: 0.1.
      mixup: alpha of mixup, 0 for none. The paper of mixup: 1.
    """

    crop_size: int = 64  # Sec. 4.4.1, as in pre-training on STL-10.
    flip: bool = True  # Sec. 4.4
    padding: int = 0
    area: tuple[float, ...] = ()
    brightness: float = 0.0
    contrast: float = 0.0
    pixels: str = "symmetric"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: str = "classes"
    smoothing: float = 0.0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        """Raise UserError where no training is possible."""
        checks.positive(self, "crop_size")
        checks.choice("pixels", self.pixels, PIXELS)
        checks.choice("labels", self.labels, ("classes", "attributes"))
        checks.fraction(smoothing=self.smoothing)
        for field in ("padding", "brightness", "contrast", "mixup"):
            if not getattr(self, field) >= 0:
                raise UserError(f"{field} is {getattr(self, field)}; it must be >= 0.")
        rising = len(self.area) == 2 and 0 < self.area[0] <= self.area[1] <= 1
        if self.area and not rising:
            raise UserError(
                f"area is {self.area}; it must be empty, or two shares that rise in "
                "(0, 1], as (0.3, 1.0)."
            )
        wanted = 3 if self.pixels == "normalized" else 0
        if len(self.mean) != wanted or len(self.std) != wanted:
            raise UserError(
                f"mean is {self.mean} and std {self.std}; with pixels={self.pixels!r} "
                f"each needs {wanted} values."
            )
        if self.area and self.padding:
            raise UserError(
                f"padding is {self.padding}, but parts of the image are cut by area; "
                "leave one of the two out."
            )
        if self.smoothing and self.labels == "attributes":
            raise UserError(f"smoothing is {self.smoothing}; it is for labels=classes.")


# --- Views


def make_views(
    key: Key[Array, ""], batch: Batch, config: Config
) -> Shaped[Array, "b s s c"]:
    """Return a random view of each image."""
    crop_key, color_key = jax.random.split(key)
    images, ids = batch["image"], batch["id"]
    how: dict[str, Any] = {"size": config.crop_size, "flip": config.flip}
    if config.area:
        area = (config.area[0], config.area[1])
        views = random_resized_views(crop_key, images, ids, **how, area=area)
    else:
        views = random_views(crop_key, images, ids, **how, padding=config.padding)
    if config.brightness or config.contrast:
        views = perturb_colors(
            color_key,
            views,
            ids,
            brightness=config.brightness,
            contrast=config.contrast,
        )
    return views


def random_views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    size: int,
    flip: bool,
    padding: int = 0,
) -> Shaped[Array, "b s s c"]:
    """Cut one random square from each image and mirror half of them.

    Pixels are exact and keep their type.

    Args:
      key: the step's key; each sample's randomness comes from its id.
      images: any dtype and range; both are kept.
      ids: index of each sample in its data set.
      size: side of the squares, in pixels.
      flip: whether to mirror.
      padding: zeros around the image before the cut, in pixels.

    Returns:
      The views.

    Raises:
      UserError: the padded images are smaller than the squares.
    """
    if padding:
        rim = (padding, padding)
        images = jnp.pad(images, ((0, 0), rim, rim, (0, 0)))
    height, width = images.shape[1:3]
    if size > min(height, width):
        raise UserError(
            f"crop_size is {size} but the images are {height}x{width}; "
            f"it must be at most {min(height, width)}."
        )

    def cut(cut_key):
        corner = T.crop_params(cut_key, image_size=(height, width), size=size).top_left
        return T.crop_coords(corner, size)

    return _views(key, images, ids, cut, flip=flip)


def random_resized_views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    size: int,
    flip: bool,
    area: tuple[float, float],
) -> Shaped[Array, "b s s c"]:
    """Cut a random part from each image, resize it, and mirror half of them.

    The part may be smaller than ``size``. Where it is larger, it is not averaged: load
    the images at about the size that the views have.

    Args:
      key: see `random_views`, also for the following.
      images: see there.
      ids: see there.
      size: see there.
      flip: see there.
      area: smallest and largest share of the image's area. VOC: 30 to 100 %.

    Returns:
      The views.
    """
    image_size = images.shape[1], images.shape[2]

    def cut(cut_key):
        box = T.resized_crop_params(cut_key, image_size=image_size, scale=area)
        return T.resized_crop_coords(box, size)

    return _views(key, images, ids, cut, flip=flip)


def _views(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    cut: Callable[[Key[Array, ""]], T.CoordMap],
    *,
    flip: bool,
) -> Shaped[Array, "b s s c"]:
    """Sample each image once, by what ``cut`` draws for it and perhaps mirrored."""

    def view(sample_key, image):
        cut_key, flip_key = jax.random.split(sample_key)
        maps = [cut(cut_key)]
        if flip:
            maps.append(T.hflip_coords(*T.hflip_params(flip_key)))
        return T.geometric_chain(image, maps)

    return jax.vmap(view)(keys.per_example(key, ids), images)


def perturb_colors(
    key: Key[Array, ""],
    images: Shaped[Array, "b h w c"],
    ids: Int[Array, " b"],
    *,
    brightness: float,
    contrast: float,
) -> Float[Array, "b h w c"]:
    """Change brightness and contrast of each image at random (section 8.4.1).

    As TensorFlow does it, and so the released code: nothing is clipped. Standardisation
    takes the brightness out again.

    Args:
      key: see `random_views`.
      images: uint8, or floating point in [-1, 1].
      ids: see there.
      brightness: share of the range of pixels; what is added is uniform in -+ that.
      contrast: the distance from each channel's mean is multiplied by a factor, uniform
        in 1 -+ ``contrast``.

    Returns:
      The images in the units of [-1, 1], beyond which they may lie.
    """

    def perturb(sample_key, image):
        bright_key, contrast_key = jax.random.split(sample_key)
        added = jax.random.uniform(bright_key, (), minval=-1) * 2 * brightness
        factor = 1 + jax.random.uniform(contrast_key, (), minval=-1) * contrast
        mean = image.mean(axis=(0, 1), keepdims=True)
        return (image - mean) * factor + mean + added

    return jax.vmap(perturb)(keys.per_example(key, ids), from_pixels(images))


# --- What the network takes and should give


def to_input(
    images: Shaped[Array, "b h w c"] | Shaped[np.ndarray, "b h w c"], config: Config
) -> Float[Array, "b h w c"]:
    """Bring images to what the network takes.

    Args:
      images: uint8, or floating point in [-1, 1].
      config: its ``pixels`` says how. A standard deviation of an image counts as at
        least one grey level over the root of the number of values (as TensorFlow's
        per-image standardization, for images of one colour).

    Returns:
      float32.
    """
    x = from_pixels(images)
    if config.pixels == "symmetric":
        return x
    if config.pixels == "normalized":
        return T.normalize((x + 1) / 2, config.mean, config.std)
    values = (1, 2, 3)
    least = 1 / 127.5 / (x[0].size ** 0.5)
    deviation = jnp.maximum(x.std(axis=values, keepdims=True), least)
    return (x - x.mean(axis=values, keepdims=True)) / deviation


def make_targets(
    labels: Int[Array, "b ..."], num_classes: int, config: Config
) -> Float[Array, "b n"]:
    """Return the probabilities that the logits should give."""
    if config.labels == "attributes":
        return labels.astype(jnp.float32)
    return T.smooth_labels(
        jax.nn.one_hot(labels, num_classes), smoothing=config.smoothing
    )


def mix(
    key: Key[Array, ""], x: Float[Array, "b ..."], alpha: float
) -> Float[Array, "b ..."]:
    """Mix each row with another one; the same key mixes alike.

    Returns:
      ``x``, mixed, if ``alpha`` is above 0.
    """
    if not alpha:
        return x
    order_key, weight_key = jax.random.split(key)
    other = jax.random.permutation(order_key, len(x))
    return T.mixup(x, x[other], T.mixup_params(weight_key, alpha=alpha).weight)
