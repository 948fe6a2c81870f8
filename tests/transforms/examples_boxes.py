"""Law-suite examples: affine and perspective maps, padding, resizing, boxes."""

import functools

import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import CROP, SIDE, Example, pixels

STILL = T.AffineParams(jnp.zeros(()), jnp.zeros(2), jnp.ones(()), jnp.zeros(2))
FLAT = T.PerspectiveParams(jnp.zeros((2, 2, 2)))
NO_BOX = T.EraseParams(jnp.zeros(2), jnp.zeros(2))


def _cut_twice(image, _):
    maps = [
        T.perspective_coords(FLAT),
        T.affine_coords(STILL),
        T.center_crop_coords(CROP),
        T.resize_coords(CROP, keep_ratio=True),
    ]
    return T.geometric_chain(T.center_crop(image, (SIDE - 1, SIDE)), maps)


EXAMPLES = {
    "affine": Example(
        {"affine", "affine_params", "random_affine", "AffineParams"},
        T.affine,
        T.affine_params,
        T.random_affine,
        strengths={
            "max_angle": 0.2,
            "max_translate": (0.1, 0.2),
            "scale": (1.0, 1.2),
            "max_shear": (0.1, 0.2),
        },
        identity=STILL,
        smooth=True,
    ),
    "perspective": Example(
        {
            "perspective",
            "perspective_params",
            "random_perspective",
            "PerspectiveParams",
        },
        T.perspective,
        T.perspective_params,
        T.random_perspective,
        strengths={"magnitude": 0.2},
        identity=FLAT,
        smooth=True,
    ),
    "pad_and_crop": Example(
        {"pad_and_crop", "pad_and_crop_params", "random_pad_and_crop"},
        lambda image, params: T.pad_and_crop(
            image, *params, padding=(2, 3), border="constant"
        ),
        lambda key: T.pad_and_crop_params(key, image_size=SIDE, padding=(2, 3)),
        functools.partial(
            T.random_pad_and_crop, padding=(2, 3), border="constant", fill=0
        ),
        strengths={"fill": 0.5},
        identity=T.CropParams(jnp.array([2, 3])),
    ),
    "center_crop": Example(
        {
            "center_crop",
            "affine_coords",
            "perspective_coords",
            "center_crop_coords",
            "resize_coords",
        },
        _cut_twice,
    ),
    "resize": Example({"resize"}, lambda image, params: T.resize(image, (7, 13))),
    "erase": Example(
        {"erase", "erase_params", "random_erase", "EraseParams"},
        T.erase,
        lambda key: T.erase_params(key, image_size=SIDE),
        T.random_erase,
        strengths={"scale": (0.1, 0.5), "ratio": (0.5, 2.0), "fill": 0.5},
        identity=NO_BOX,
    ),
    "cutout": Example(
        {"cutout_params", "random_cutout"},
        T.erase,
        lambda key: T.cutout_params(key, image_size=(47, 61), size=(9, 12)),
        functools.partial(T.random_cutout, size=(9, 12)),
        data=functools.partial(pixels, (47, 61, 1)),
        dtypes=(),
        shares=False,
    ),
    "cutmix": Example(
        {"cutmix", "cutmix_params", "random_cutmix", "CutmixParams"},
        lambda image, params: T.cutmix(image, image[..., ::-1], params),
        lambda key: T.cutmix_params(key, image_size=SIDE),
        lambda key, image: T.random_cutmix(key, image, image[..., ::-1]),
        identity=T.CutmixParams(*NO_BOX, jnp.ones(())),
    ),
}
