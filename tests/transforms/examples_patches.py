"""Law-suite examples: patches and their borders."""

import jax
import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import CROP, SIDE, Example


def _corner_params(key):
    return T.crop_params(key, image_size=SIDE, size=CROP)


def _border_of(image, _):
    mask = T.border_mask(SIDE, 2)[..., None]
    mask = jax.lax.expand_dims(mask, range(image.ndim - 3))
    return jnp.where(mask, image, jnp.zeros_like(image))


EXAMPLES = {
    "extract_patch": Example(
        {"extract_patch"},
        lambda image, params: T.extract_patch(image, *params, CROP),
        _corner_params,
    ),
    "paste_patch": Example(
        {"paste_patch"},
        lambda image, params: T.paste_patch(image, image[..., 1:7, 2:9, :], *params),
        _corner_params,
        identity=T.CropParams(jnp.array([1, 2])),
    ),
    "erase_center": Example(
        {"erase_center"},
        lambda image, params: T.erase_center(image, image[..., 2:8, 4:, :], 2),
    ),
    "border_mask": Example({"border_mask"}, _border_of),
}
