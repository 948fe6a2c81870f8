"""Crops of images, as the inputs of a network."""

import dataclasses

import jax.numpy as jnp

from jaxssl.config import checks, fields
from jaxssl.errors import UserError
from jaxssl.types import Array, Batch, Shaped

VIEWS = {"center": 1, "five": 5, "ten": 10}
"""Crops of an image: the centre; with the four corners; with the mirrors of the five.

The value is the number of crops.
"""


@dataclasses.dataclass(frozen=True)
class CenterCrops:
    """The function ``prepare`` of evaluations on single images.

    Attributes:
      size: side of the square crops, in pixels.
      views: ``center``, ``five`` or ``ten``; see `VIEWS`.
    """

    size: int = fields.pixels()
    views: str = fields.choice("center", VIEWS)

    __post_init__ = fields.validate

    def __call__(self, batch: Batch) -> Array:
        """Cut the crops of ``batch["image"]``, any dtype (b, h, w, c).

        Returns:
          The crops (b, v, size, size, c).

        Raises:
          UserError: there is no such array, or its images are no single images, or they
            are smaller than the crops.
        """
        if "image" not in batch:
            raise UserError(
                "crops are cut from the array 'image', but the records hold "
                f"{', '.join(sorted(batch))}. Give the evaluation its own `prepare`."
            )
        images = batch["image"]
        if images.ndim != 4:
            raise UserError(
                f"the array 'image' has records of shape {images.shape[1:]}, but crops "
                "need single images (height, width, channels). Give the evaluation its "
                "own `prepare`, such as one that cuts clips."
            )
        return crop_views(images, size=self.size, views=self.views)


def crop_views(
    images: Shaped[Array, "b h w c"], *, size: int, views: str = "center"
) -> Shaped[Array, "b v s s c"]:
    """Cut the centre crop, or also the corners, or also the mirrors of the five.

    The order is centre, top left, top right, bottom left, bottom right, then the five
    mirrors. An odd margin leaves its extra pixel at the bottom and at the right.

    Args:
      images: any dtype and range; both are kept.
      size: side of the crops, in pixels.
      views: ``center``, ``five`` or ``ten``; see `VIEWS`.

    Returns:
      The crops along a new second axis.

    Raises:
      UserError: the crop is larger than the images, or the views are unknown.
    """
    checks.choice("views", views, VIEWS)
    height, width = images.shape[1:3]
    if size > min(height, width):
        raise UserError(
            f"crop_size is {size} but the images are {height}x{width}; "
            f"it must be at most {min(height, width)}."
        )
    bottom, right = height - size, width - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    offsets = [(bottom // 2, right // 2)] + (corners if views != "center" else [])
    crops = [images[:, y : y + size, x : x + size] for y, x in offsets]
    if views == "ten":
        crops += [crop[:, :, ::-1] for crop in crops]
    return jnp.stack(crops, axis=1)
