"""What docs/transforms.md says of each transform, and one way to call it.

`GROUPS` holds the entries in the order of the page. An entry stands for a transform and
for the functions named after it: ``x``, ``x_params``, ``random_x`` and ``x_coords``.
Signatures, what may be traced, what may be differentiated and what it costs are not
written here: `make_reference` finds them out from the calls.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812

SIDE = 64
FRAMES = 32
CLASSES = 10


class Entry(NamedTuple):
    """One transform of the page.

    Attributes:
      name: public name.
      formula: what it does, in a line.
      source: thesis section or paper.
      draw: ``draw(key)`` returns its traced arguments by name, for one example; None
        for functions of functions, which are not called.
      static: its static arguments without a default.
      also: other public names to list with it.
    """

    name: str
    formula: str
    source: str
    draw: Callable[[jax.Array], dict[str, Any]] | None = None
    static: Mapping[str, Any] = MappingProxyType({})
    also: tuple[str, ...] = ()


def image(key, side: int = SIDE, channels: int = 3) -> jax.Array:
    """Return noise in [0, 1], float32 (side, side, channels)."""
    return jax.random.uniform(key, (side, side, channels))


def on_image(*names: str, params=None, **options) -> Callable[..., dict[str, Any]]:
    """Return a ``draw`` for a transform of an image.

    Args:
      *names: of the arguments that the drawn parameters are.
      params: ``params(key, **options)``; a single name takes the NamedTuple as it is,
        if that is called "params", else its fields.
      **options: of ``params``.
    """

    def draw(key):
        pixels, values = jax.random.split(key)
        if params is None:
            return {"image": image(pixels)}
        drawn = params(values, **options)
        fields = (drawn,) if names == ("params",) else drawn
        return {"image": image(pixels), **dict(zip(names, fields, strict=True))}

    return draw


def _sample(key):
    pixels, places = jax.random.split(key)
    coords = jax.random.uniform(places, (SIDE, SIDE, 2), maxval=SIDE - 1.0)
    return {"image": image(pixels), "coords": coords}


def view_maps(params) -> list[T.CoordMap]:
    """Return a warp, a rotation, a resized crop and a flip to be composed."""
    warp, angle, box, flip = params
    return [
        T.warp_coords(warp),
        T.rotate_coords(*angle),
        T.resized_crop_coords(box, SIDE),
        T.hflip_coords(*flip),
    ]


def _view(key):
    pixels, *keys = jax.random.split(key, 5)
    params = (
        T.warp_params(keys[0]),
        T.rotate_params(keys[1]),
        T.resized_crop_params(keys[2], image_size=SIDE),
        T.hflip_params(keys[3]),
    )
    return {"image": image(pixels), "maps": params}


def _points(key):
    places, offsets = jax.random.split(key)
    points = jax.random.uniform(places, (17, 2), maxval=SIDE - 1.0)
    return {"points": points, "params": T.warp_params(offsets)}


def _patch(key):
    pixels, values, corner = jax.random.split(key, 3)
    drawn = T.crop_params(corner, image_size=SIDE, size=48)
    patch = image(values, 48)
    return {"image": image(pixels), "patch": patch, "top_left": drawn.top_left}


def _erased(key):
    pixels, values = jax.random.split(key)
    return {"patch": image(pixels, 48), "noise": image(values, 42)}


def _tiles(key):
    return {"tiles": T.tile(image(key), grid=4)}


def _normalized(key):
    pixels, values = jax.random.split(key)
    mean, std = jax.random.uniform(values, (2, 3), minval=0.2)
    return {"image": image(pixels), "mean": mean, "std": std}


def _scene(key):
    pixels, wall, other = jax.random.split(key, 3)
    return {
        "image": image(pixels),
        "background": image(wall),
        "substitute": image(other),
        "threshold": jnp.array(0.25),
    }


def _scene_without_other(key):
    scene = _scene(key)
    del scene["substitute"]
    return scene


def _removed(key):
    return {**_scene_without_other(key), "fill": jnp.array(0.5)}


def _clip(key):
    shape = (FRAMES, SIDE, SIDE, 3)
    pixels, places = jax.random.split(key)
    clip = jax.random.randint(pixels, shape, 0, 256).astype(jnp.uint8)
    return {"clip": clip, "indices": jax.random.randint(places, (16,), 0, FRAMES)}


def _video(key):
    return {"key": key, "num_frames": jnp.array(200), "kappa": jnp.array(2)}


def _video_and_kind(key):
    return {**_video(key), "kind": jax.random.randint(key, (), 0, 4)}


def _features(key):
    features, mask = jax.random.split(key)
    return {
        "features": jax.random.normal(features, (8, 8, 64)),
        "mask": T.drop_mask(mask, 8, 0.5),
    }


def _pair(key):
    first, second, share = jax.random.split(key, 3)
    drawn = T.mixup_params(share)
    return {"first": image(first), "second": image(second), "weight": drawn.weight}


def _boxed(key):
    pair, box = jax.random.split(key)
    images = {name: _pair(pair)[name] for name in ("first", "second")}
    return {**images, "params": T.cutmix_params(box, image_size=SIDE)}


def _labels(key):
    labels = jax.random.randint(key, (64,), 0, CLASSES)
    options = {"num_classes": CLASSES, "rate": 0.4}
    params = T.label_noise_params(key, labels, **options)
    return {"labels": labels, "params": params, "rate": jnp.array(0.4)}


def _probabilities(key):
    return {"probabilities": jax.nn.softmax(jax.random.normal(key, (CLASSES,)))}


def _one_image(key):
    return {"images": image(key)[None]}


def _views(key):
    pixels, values = jax.random.split(key)
    params = T.transformation_params(values, image_size=SIDE, size=48)
    return {"image": image(pixels), "inpainted": image(values), "params": params}


def _view_batch(key):
    pixels, values = jax.random.split(key)
    images, inpainted = image(pixels)[None], image(values)[None]
    return {"key": key, "images": images, "inpainted": inpainted}


def _videos(key):
    return {"key": key, "videos": _clip(key)["clip"][None]}


def _recording(key):
    shape = (2, 8, SIDE, SIDE, 3)
    scene = jax.random.randint(key, shape, 0, 256).astype(jnp.uint8)
    params = T.view_pair_params(key, num_cameras=2, num_frames=8)
    return {"scene": scene, "params": params}


def _recordings(key):
    return {"key": key, "scenes": _recording(key)["scene"][None]}


GEOMETRIC = (
    Entry(
        "hflip",
        "`out[y, x] = image[y, W-1-x]` if `flip`; exact",
        "augmentation of Secs. 4.4 and 6.2.3",
        on_image("flip", params=T.hflip_params),
    ),
    Entry(
        "vflip",
        "`out[y, x] = image[H-1-y, x]` if `flip`; exact",
        "",
        on_image("flip", params=T.vflip_params),
    ),
    Entry(
        "rot90",
        "`numpy.rot90`: `k` quarter turns counter-clockwise, exactly; `k` may vary",
        "T_1 ... T_3, Sec. 4.2.3",
        on_image("k", params=T.rot90_params),
    ),
    Entry(
        "all_rotations",
        "the four quarter turns on a new axis",
        "Sec. 4.2.3; RotNet, Gidaris et al. 2018",
        on_image(),
    ),
    Entry(
        "rotate",
        "about the centre by `angle` radians, bilinear",
        "released code of chapter 4",
        on_image("angle", params=T.rotate_params),
    ),
    Entry(
        "affine",
        "about the centre: scaled, sheared by x then y, turned; then moved; bilinear",
        "parameters as torchvision's affine",
        on_image("params", params=T.affine_params),
    ),
    Entry(
        "perspective",
        "corners move by offsets, straight lines stay straight; bilinear",
        "Heckbert 1989; drawn as torchvision's RandomPerspective",
        on_image("params", params=T.perspective_params),
    ),
    Entry(
        "crop",
        "`out = image[y:y+h, x:x+w]` at a traced `top_left`; exact",
        "augmentation of Sec. 4.4",
        on_image("top_left", params=T.crop_params, image_size=SIDE, size=48),
        {"size": 48, "image_size": SIDE},
    ),
    Entry(
        "center_crop",
        "the window in the centre; exact",
        "",
        on_image(),
        {"size": 48},
    ),
    Entry(
        "pad_and_crop",
        "`crop` of the image with a border of `padding` pixels; exact",
        "He et al. 2016",
        on_image("top_left", params=T.pad_and_crop_params, image_size=SIDE),
        {"image_size": SIDE},
    ),
    Entry(
        "resize",
        "the whole image at another size, bilinear, antialiased where it shrinks; "
        "measured: to 48 pixels",
        "",
        on_image(),
        {"size": 48},
    ),
    Entry(
        "resized_crop",
        "a box of the image at another size, bilinear, antialiased where it shrinks",
        "Szegedy et al. 2015; drawn as torchvision's RandomResizedCrop",
        on_image("params", params=T.resized_crop_params, image_size=SIDE),
        {"size": SIDE, "image_size": SIDE},
    ),
    Entry(
        "bilinear_sample",
        "`out[p] = image[coords[p]]`, bilinear between pixel centres",
        "",
        _sample,
    ),
    Entry(
        "geometric_chain",
        "composes backward maps (`..._coords` or your own `CoordMap`), then samples "
        "once; measured: warp, rotation, resized crop and flip",
        "",
        _view,
        also=("CoordMap",),
    ),
)

WARPS = (
    Entry(
        "warp",
        "`out[p] = image[p + flow(p)]`, flow: polyharmonic spline of order 1, 2 or 3 "
        "through offsets U[-d, d] of a uniform grid",
        "T_4, Sec. 4.2.2",
        on_image("params", params=T.warp_params),
    ),
    Entry(
        "warp_flow",
        "`flow = P @ offsets`, P one constant made in float64; `abs(flow) <= L1(P) d`",
        "Sec. 4.2.2",
        lambda key: {"params": T.warp_params(key)},
        {"size": SIDE},
    ),
    Entry(
        "warp_points",
        "where points of the image lie in the warped one: `x <- p - flow(x)`, "
        "10 times; measured: 17 points",
        "",
        _points,
        {"size": SIDE},
    ),
    Entry(
        "free_warp",
        "the same with control points anywhere, thin plate centred on the moved points",
        "released code of chapter 4",
        on_image("params", params=T.free_warp_params),
    ),
    Entry(
        "free_warp_flow",
        "its flow; `stride=4` evaluates every fourth pixel and interpolates",
        "released code of chapter 4",
        lambda key: {"params": T.free_warp_params(key)},
        {"size": SIDE},
    ),
)

PATCHES = (
    Entry(
        "extract_patch",
        "`patch = image[y:y+h, x:x+w]`; exact",
        "e_i of Eq. (4.2)",
        on_image("top_left", params=T.crop_params, image_size=SIDE, size=48),
        {"size": 48},
    ),
    Entry(
        "erase_center",
        "`patch (1 - m) + noise m`, m being 1 in the centre",
        "Eq. (4.3)",
        _erased,
        {"border": 3},
    ),
    Entry(
        "paste_patch",
        "`image[y:y+h, x:x+w] = patch`; undoes `extract_patch`",
        "T_5, Eq. (4.4)",
        _patch,
    ),
    Entry(
        "erase",
        "`fill` inside of a box; `cutout_params` draws squares about any pixel",
        "Zhong et al. 2020; DeVries and Taylor 2017",
        on_image("params", params=T.erase_params, image_size=SIDE),
        {"image_size": SIDE},
        also=("cutout_params", "random_cutout"),
    ),
    Entry(
        "border_mask",
        "`1 - m`: true on the border that stays",
        "Eqs. (4.3), (4.4)",
        lambda key: {},
        {"size": 48, "border": 3},
    ),
    Entry(
        "tile",
        "cuts an image into a grid of tiles, row by row; measured on 4x4",
        "",
        on_image(),
        {"grid": 4},
    ),
    Entry("untile", "puts tiles together; undoes `tile`", "", _tiles, {"grid": 4}),
    Entry(
        "jigsaw",
        "place i shows tile `permutation[i]`; measured on 4x4",
        "Noroozi and Favaro 2016; Fig. 4.1",
        on_image("permutation", params=T.jigsaw_params, grid=4),
        {"grid": 4},
    ),
    Entry(
        "pixel_permutation",
        "place i shows pixel `permutation[i]`; the draw sorts",
        "Sec. 8.4.2; Zhang et al. 2017",
        on_image("permutation", params=T.pixel_permutation_params, size=SIDE),
        {"size": SIDE},
    ),
)

COLOR = (
    Entry(
        "brightness",
        "`f image + (1 - f) black`, clipped",
        "SimCLR, Chen et al. 2020",
        on_image("factor", params=T.brightness_params),
    ),
    Entry(
        "contrast",
        "`f image + (1 - f) mean(luma)`, clipped",
        "SimCLR",
        on_image("factor", params=T.contrast_params),
    ),
    Entry(
        "saturation",
        "`f image + (1 - f) luma`, clipped",
        "SimCLR",
        on_image("factor", params=T.saturation_params),
    ),
    Entry(
        "hue",
        "turns the IQ plane of YIQ by `shift` circles; `exact=True`: the hue of HSV",
        "SimCLR; `exact=True`: torchvision",
        on_image("shift", params=T.hue_params),
    ),
    Entry(
        "color_jitter",
        "the four in random order as one affine map `A rgb + b`, clipped once; with "
        "`exact=True` one by one",
        "SimCLR; `exact=True`: torchvision",
        on_image("params", params=T.color_jitter_params),
    ),
    Entry(
        "grayscale",
        "`luma = 0.299 r + 0.587 g + 0.114 b` on three channels if `gray`",
        "SimCLR",
        on_image("gray", params=T.grayscale_params),
    ),
    Entry("normalize", "`(image - mean) / std`", "", _normalized),
    Entry(
        "gaussian_blur",
        "`G_y image G_x^T`, banded matrices, mirrored at the border; cost does not "
        "depend on `sigma`",
        "SimCLR",
        on_image("sigma", params=T.gaussian_blur_params),
    ),
)

TONE = (
    Entry(
        "sharpness",
        "`f image + (1 - f) smooth`, 3x3 mean with weight 5 of 13 for the pixel, "
        "clipped; the border stays",
        "AutoAugment, Cubuk et al. 2019; Pillow's ImageEnhance",
        on_image("factor", params=T.sharpness_params),
    ),
    Entry(
        "gamma",
        "`share ** exponent`, share being the way from black to white",
        "",
        on_image("exponent", params=T.gamma_params),
    ),
    Entry(
        "solarize",
        "inverts what is at or above `threshold`, 0 for black to 1 for white",
        "AutoAugment; BYOL, Grill et al. 2020; Pillow's ImageOps",
        on_image("threshold", params=T.solarize_params),
    ),
    Entry(
        "posterize",
        "keeps the highest `bits` of each of 256 levels",
        "AutoAugment; Pillow's ImageOps",
        on_image("bits", params=T.posterize_params),
    ),
    Entry(
        "autocontrast",
        "stretches each channel from black to white",
        "AutoAugment; Pillow's ImageOps, not rounded",
        on_image("stretched", params=T.autocontrast_params),
    ),
    Entry(
        "equalize",
        "spreads the 256 levels of each channel by its histogram",
        "AutoAugment; Pillow's ImageOps",
        on_image("equalized", params=T.equalize_params),
    ),
)

POLICIES = (
    Entry(
        "rand_augment",
        "`num_ops` of `OPERATIONS` at one `magnitude`, in [0, 1]; measured: 2",
        "RandAugment, Cubuk et al. 2020",
        on_image("params", params=T.rand_augment_params),
        also=("OPERATIONS",),
    ),
    Entry(
        "trivial_augment",
        "one of `OPERATIONS`, its magnitude uniform over `num_bins`, wide ranges",
        "TrivialAugment, Müller and Hutter 2021",
        on_image("params", params=T.trivial_augment_params),
    ),
    Entry(
        "augmix",
        "`(1 - m) image + m sum_i w_i chain_i(image)`, `width` chains of "
        "`AUGMIX_OPERATIONS`; measured: 3 chains of 3 places",
        "AugMix, Hendrycks et al. 2020",
        on_image("params", params=T.augmix_params),
        also=("AUGMIX_OPERATIONS",),
    ),
)

TIME = (
    Entry(
        "speed_indices",
        "`rho + [0, 1, ..., 15] 2^kappa`",
        "V_kappa^0, Sec. 5.2.1",
        _video,
    ),
    Entry(
        "random_indices",
        "`rho + permutation([0, ..., 15])`",
        "V_0^1, Sec. 5.2.1",
        _video,
    ),
    Entry(
        "periodic_indices",
        "forward by 2^kappa to a random turn s, then back from `s - 1`",
        "V_kappa^2, Sec. 5.2.1",
        _video,
    ),
    Entry(
        "warp_indices",
        "`rho + cumsum([0, s_1, ..., s_15])`, skipping 0 to 7 frames each time",
        "V_0^3, Sec. 5.2.1",
        _video,
    ),
    Entry(
        "temporal_indices",
        "one of the four, bit by bit; `kind` may be traced, in the order of `KINDS`",
        "Sec. 5.2.1",
        _video_and_kind,
        also=("KINDS",),
    ),
    Entry(
        "max_kappa",
        "the largest kappa with `15 2^kappa + 1 <= num_frames`",
        "Sec. 5.2.3",
        lambda key: {"num_frames": jax.random.randint(key, (), 16, 300)},
    ),
    Entry(
        "take_frames",
        f"`out[t] = clip[indices[t]]`, in the clip's dtype; measured: 16 of {FRAMES} "
        "frames, uint8",
        "Sec. 5.2.1",
        _clip,
    ),
)

VIEWS = (
    Entry(
        "median_background",
        "median over time of each pixel and channel; measured on 15 frames",
        "Sec. 6.2.2",
        lambda key: {"frames": jax.random.uniform(key, (15, SIDE, SIDE, 3))},
    ),
    Entry(
        "foreground_mask",
        "`max_c abs(image - background) > threshold`",
        "Sec. 6.2.2",
        _scene_without_other,
    ),
    Entry(
        "remove_background",
        "the image on the foreground, else `fill`",
        "Sec. 6.2.2",
        _removed,
    ),
    Entry(
        "substitute_background",
        "the image on the foreground, else another background",
        "Sec. 6.2.2",
        _scene,
    ),
    Entry(
        "flip_pose",
        "`x -> -x`, left and right joints change places; measured on 17 joints",
        "Sec. 6.2.4",
        lambda key: {
            "pose": jax.random.normal(key, (17, 3)),
            "flip": jax.random.bernoulli(key),
        },
        {"pairs": [(1, 4), (2, 5), (3, 6), (11, 14), (12, 15), (13, 16)]},
    ),
)

FEATURES = (
    Entry(
        "drop_mask",
        "`Omega_ij ~ Bernoulli(keep_prob)`, one for all channels",
        "Omega, Sec. 3.3.1",
        lambda key: {"key": key, "keep_prob": jnp.array(0.5)},
        {"shape": (8, 8)},
    ),
    Entry(
        "local_average",
        "`u * phi`: mean of the cells of a window that lie on the map; measured on "
        "8x8x64",
        "u * phi, Sec. 3.3.1",
        lambda key: {"features": _features(key)["features"]},
    ),
    Entry(
        "damage",
        "`Omega phi + (1 - Omega) (u * phi)`; measured on 8x8x64",
        "phi-hat in Eq. (3.1)",
        _features,
    ),
    Entry(
        "upsample_mask",
        "repeats each cell `factor` times down and across",
        "U of Eq. (3.2)",
        lambda key: {"mask": T.drop_mask(key, 8, 0.5)},
    ),
)

LABELS = (
    Entry(
        "mixup",
        "`w first + (1 - w) second`, w ~ Beta(alpha, alpha)",
        "Zhang et al. 2018; Table 8.3",
        _pair,
    ),
    Entry(
        "cutmix",
        "a box of the second image in the first; `weight`: the share of the first",
        "Yun et al. 2019; drawn as torchvision's CutMix",
        _boxed,
        {"image_size": SIDE},
    ),
    Entry(
        "label_noise",
        "replaces exactly `floor(rate n_c)` labels of each class, or each with "
        "probability `rate`, by another or by any class; measured on rows of 64 labels",
        "Sec. 8.4.3; `any`: Zhang et al. 2017",
        _labels,
        {"num_classes": CLASSES},
    ),
    Entry(
        "smooth_labels",
        "`(1 - s) p + s / k`",
        "Szegedy et al. 2016; Table 8.3",
        _probabilities,
    ),
)

PRETEXT = (
    Entry(
        "rotation_batch",
        "each image turned four ways; label j: j quarter turns",
        "Sec. 4.2.3; RotNet, Gidaris et al. 2018",
        _one_image,
    ),
    Entry(
        "transformation_batch",
        "T_0 ... T_5 of each image, random crops and flips included; measured: six "
        "views of 48 pixels",
        "Sec. 4.2",
        _view_batch,
        {"size": 48},
        also=("transformation_params", "TRANSFORMATIONS", "ViewParams"),
    ),
    Entry(
        "transformation_views",
        "the same for one image and given parameters",
        "Sec. 4.2",
        _views,
        {"size": 48},
        also=("stack_transformations",),
    ),
    Entry(
        "temporal_batch",
        "one clip for each of `KINDS` of each video, and its speed",
        "Sec. 5.2",
        _videos,
        also=("temporal_params",),
    ),
    Entry(
        "view_pairs",
        "(x_1, x_2) at one time, at two times, and with one of them mirrored",
        "x_p, x_n, x_f, Sec. 6.2.1",
        _recording,
        also=("view_pair_params", "PAIRS"),
    ),
    Entry(
        "view_pair_batch",
        "the same, drawn for each scene",
        "Eq. (6.1)",
        _recordings,
    ),
)

FUNCTIONS = (
    Entry(
        "batched",
        "`fn(key, example)` becomes `apply(key, batch, ids=None)`; the keys are "
        "`fold_in(key, id)`, or a split without ids",
        "",
    ),
    Entry("chain", "one random transform after the other; keys `fold_in(key, i)`", ""),
    Entry("maybe", "keeps parameters with probability `prob`, else identity ones", ""),
    Entry(
        "grain_map",
        "`fn(key, element)` becomes `apply(element, rng)` for a Grain pipeline",
        "",
    ),
)

GROUPS = {
    "geometric": GEOMETRIC,
    "warps": WARPS,
    "patches": PATCHES,
    "color": COLOR,
    "tone": TONE,
    "policies": POLICIES,
    "time": TIME,
    "views": VIEWS,
    "features": FEATURES,
    "labels": LABELS,
    "pretext": PRETEXT,
    "functions": FUNCTIONS,
}
"""Marker on the page to its entries."""
