"""Law-suite examples: flips, turns, crops, warps, and what samples them."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import CROP, SIDE, Example, nothing, pixels


def _fractional_corner(key):
    return jax.random.uniform(key, (2,), maxval=3.0)


def _positions(key):
    return jax.random.uniform(key, (5, 6, 2), minval=-2.0, maxval=SIDE + 1.0)


def _all_pixels():
    axes = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    return jnp.array(np.stack(axes, axis=-1), jnp.float32)


class View(NamedTuple):
    """The parameters of the pretext task's view."""

    warp: T.WarpParams
    angle: Any
    top_left: Any
    flip: Any


def _view(image, view):
    maps = [
        T.warp_coords(view.warp),
        T.rotate_coords(view.angle),
        T.crop_coords(view.top_left, CROP),
        T.hflip_coords(view.flip),
    ]
    return T.geometric_chain(image, maps)


def _view_params(key):
    first, second, third, fourth = jax.random.split(key, 4)
    return View(
        T.warp_params(first, grid=(2, 3)),
        T.rotate_params(second).angle,
        _fractional_corner(third),
        T.hflip_params(fourth).flip,
    )


def _shift_map(offset):
    return T.CoordMap(lambda coords, size: coords + offset[None, None])


def _box_params(key):
    return T.resized_crop_params(key, image_size=SIDE)


def _corner_params(key):
    return T.crop_params(key, image_size=SIDE, size=CROP)


# Few control points: the splines are unrolled over them, and compilation is what costs.
NO_SHIFT = T.WarpParams(jnp.zeros((2, 3, 2)))
STILL = T.FreeWarpParams(
    jax.random.uniform(jax.random.key(9), (5, 2)), jnp.zeros((5, 2))
)
WHOLE = T.ResizedCropParams(jnp.zeros(2), jnp.ones(2))
OFF = jnp.array(False)
few_points = functools.partial(T.free_warp_params, num_points=5)
small_grid = functools.partial(T.warp_params, grid=(2, 3))

EXAMPLES = {
    "hflip": Example(
        {"hflip", "hflip_params", "random_hflip", "FlipParams"},
        lambda image, params: T.hflip(image, *params),
        T.hflip_params,
        T.random_hflip,
        strengths={"prob": 0.3},
        identity=T.FlipParams(OFF),
    ),
    "vflip": Example(
        {"vflip", "vflip_params", "random_vflip"},
        lambda image, params: T.vflip(image, *params),
        T.vflip_params,
        T.random_vflip,
        strengths={"prob": 0.3},
        identity=T.FlipParams(OFF),
    ),
    "hflip_coords": Example(
        {"hflip_coords"},
        lambda image, params: T.geometric_chain(image, [T.hflip_coords(*params)]),
        T.hflip_params,
        identity=T.FlipParams(OFF),
    ),
    "vflip_coords": Example(
        {"vflip_coords"},
        lambda image, params: T.geometric_chain(image, [T.vflip_coords(*params)]),
        T.vflip_params,
        identity=T.FlipParams(OFF),
    ),
    "rot90": Example(
        {"rot90", "rot90_params", "random_rot90", "Rot90Params"},
        lambda image, params: T.rot90(image, *params),
        T.rot90_params,
        T.random_rot90,
        identity=T.Rot90Params(jnp.array(-4)),
    ),
    "rot90_coords": Example(
        {"rot90_coords"},
        lambda image, params: T.geometric_chain(image, [T.rot90_coords(*params)]),
        T.rot90_params,
        identity=T.Rot90Params(jnp.array(8)),
    ),
    "all_rotations": Example(
        {"all_rotations"}, lambda image, params: T.all_rotations(image)
    ),
    "rotate": Example(
        {"rotate", "rotate_params", "random_rotate", "RotateParams"},
        lambda image, params: T.rotate(image, *params),
        T.rotate_params,
        T.random_rotate,
        strengths={"max_angle": 0.3},
        identity=T.RotateParams(jnp.array(0.0)),
        smooth=True,
    ),
    "rotate_coords": Example(
        {"rotate_coords"},
        lambda image, params: T.geometric_chain(image, [T.rotate_coords(*params)]),
        T.rotate_params,
        identity=T.RotateParams(jnp.array(0.0)),
        smooth=True,
    ),
    "crop": Example(
        {"crop", "crop_params", "random_crop", "CropParams"},
        lambda image, params: T.crop(image, *params, CROP),
        _corner_params,
        lambda key, image: T.random_crop(key, image, size=CROP),
    ),
    "crop_full": Example(
        set(),
        lambda image, params: T.crop(image, *params, SIDE),
        identity=T.CropParams(jnp.array([0, 0])),
    ),
    "crop_coords": Example(
        {"crop_coords"},
        lambda image, corner: T.geometric_chain(image, [T.crop_coords(corner, CROP)]),
        _fractional_corner,
        smooth=True,
    ),
    "resized_crop": Example(
        {
            "resized_crop",
            "resized_crop_params",
            "random_resized_crop",
            "ResizedCropParams",
        },
        lambda image, params: T.resized_crop(image, params, (4, 12)),
        _box_params,
        lambda key, image, **options: T.random_resized_crop(
            key, image, size=(4, 12), **options
        ),
        strengths={"scale": (0.2, 1.0), "ratio": (0.8, 1.2)},
        smooth=True,
    ),
    "resized_crop_same_size": Example(
        set(),
        lambda image, params: T.resized_crop(image, params, SIDE),
        _box_params,
        identity=WHOLE,
        smooth=True,
    ),
    "resized_crop_coords": Example(
        {"resized_crop_coords"},
        lambda image, params: T.geometric_chain(
            image, [T.resized_crop_coords(params, SIDE)]
        ),
        _box_params,
        identity=WHOLE,
        smooth=True,
    ),
    "warp": Example(
        {"warp", "warp_params", "random_warp", "WarpParams"},
        T.warp,
        small_grid,
        functools.partial(T.random_warp, grid=(2, 3)),
        strengths={"magnitude": 0.1},
        identity=NO_SHIFT,
        smooth=True,
    ),
    "warp_coords": Example(
        {"warp_coords"},
        lambda image, params: T.geometric_chain(
            image, [T.warp_coords(params, order=3)], border="reflect"
        ),
        small_grid,
        identity=NO_SHIFT,
        smooth=True,
    ),
    "warp_flow": Example(
        {"warp_flow"},
        lambda _, params: T.warp_flow(params, (SIDE, 7), order=1),
        small_grid,
        smooth=True,
        data=nothing,
        dtypes=(),
        shares=False,
    ),
    "warp_points": Example(
        {"warp_points"},
        lambda points, params: T.warp_points(points, params, size=SIDE),
        small_grid,
        identity=NO_SHIFT,
        smooth=True,
        data=functools.partial(pixels, (2,)),
        dtypes=(),
    ),
    "free_warp": Example(
        {"free_warp", "free_warp_params", "random_free_warp", "FreeWarpParams"},
        T.free_warp,
        few_points,
        functools.partial(T.random_free_warp, num_points=5),
        strengths={"magnitude": 0.1, "regularization": 0.01},
        identity=STILL,
        smooth=True,
    ),
    "free_warp_coarse": Example(
        set(),
        lambda image, params: T.free_warp(
            image, params, stride=3, regularization=0.1, border="constant"
        ),
        few_points,
        identity=STILL,
    ),
    "free_warp_coords": Example(
        {"free_warp_coords"},
        lambda image, params: T.geometric_chain(
            image, [T.free_warp_coords(params, regularization=0.01)]
        ),
        few_points,
        identity=STILL,
        smooth=True,
    ),
    "free_warp_flow": Example(
        {"free_warp_flow"},
        lambda _, params: T.free_warp_flow(params, (6, 5), regularization=0.01),
        few_points,
        smooth=True,
        data=nothing,
        dtypes=(),
        shares=False,
    ),
    "geometric_chain": Example({"geometric_chain"}, _view, _view_params, smooth=True),
    "own_map": Example(
        {"CoordMap"},
        lambda image, offset: T.geometric_chain(image, [_shift_map(offset)]),
        _fractional_corner,
        identity=jnp.zeros(2),
        smooth=True,
    ),
    "bilinear_sample": Example(
        {"bilinear_sample"},
        T.bilinear_sample,
        _positions,
        identity=_all_pixels(),
        smooth=True,
    ),
    "bilinear_sample_reflect": Example(
        set(),
        lambda image, coords: T.bilinear_sample(image, coords, border="reflect"),
        _positions,
        identity=_all_pixels(),
        smooth=True,
    ),
    "bilinear_sample_constant": Example(
        set(),
        lambda image, coords: T.bilinear_sample(image, coords, border="constant"),
        _positions,
        identity=_all_pixels(),
        smooth=True,
    ),
}
