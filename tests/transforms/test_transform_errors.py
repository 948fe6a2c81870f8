"""Bad input is told at trace time: what was given, what is allowed, what to do.

The functions are called without the shape checks that pytest adds, as users have none.
"""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import transforms as T  # noqa: N812

KEY = jax.random.key(0)
IMAGE = jnp.zeros((6, 8, 3))
SQUARE = jnp.zeros((6, 6, 3))
FLAT = jnp.zeros((6, 8))
BYTES = IMAGE.astype(jnp.uint8)
WARP = T.WarpParams(jnp.zeros((4, 4, 2)))
LABELS = jnp.arange(8) % 4
FREE = T.FreeWarpParams(jnp.zeros((4, 2)), jnp.zeros((4, 2)))


def _bare(name: str):
    return inspect.unwrap(getattr(T, name))


def _noise(**changed):
    options = {"num_classes": 4, "rate": 0.5, **changed}
    return T.label_noise_params(KEY, LABELS, **options)


def _chain(*maps):
    return lambda: T.geometric_chain(IMAGE, list(maps))


CASES = {
    "sample rank": (lambda: _bare("bilinear_sample")(FLAT, IMAGE[..., :2]), "(6, 8)"),
    "sample coords": (lambda: _bare("bilinear_sample")(IMAGE, IMAGE), "(6, 8, 3)"),
    "sample border": (
        lambda: T.bilinear_sample(IMAGE, IMAGE[..., :2], border="wrap"),
        "'edge', 'constant', 'reflect'; got 'wrap'",
    ),
    "empty image": (lambda: T.hflip(jnp.zeros((0, 4, 3))), "at least one pixel"),
    "hflip rank": (lambda: _bare("hflip")(FLAT), "image[..., None]"),
    "vflip rank": (lambda: _bare("vflip")(FLAT), "image[..., None]"),
    "rot90 rank": (lambda: _bare("rot90")(FLAT), "image[..., None]"),
    "crop rank": (lambda: _bare("crop")(FLAT, (0, 0), 3), "image[..., None]"),
    "warp rank": (lambda: _bare("warp")(FLAT, WARP), "image[..., None]"),
    "free rank": (lambda: _bare("free_warp")(FLAT, FREE), "image[..., None]"),
    "chain rank": (lambda: _bare("geometric_chain")(FLAT, []), "image[..., None]"),
    "rot90 traced": (lambda: T.rot90(IMAGE, jnp.array(1)), "square image"),
    "rot90 random": (lambda: T.random_rot90(KEY, IMAGE), "got 6x8"),
    "rot90 chain": (_chain(T.rot90_coords(jnp.array(1))), "got 6x8"),
    "all_rotations": (lambda: T.all_rotations(IMAGE), "got 6x8"),
    "crop size": (lambda: T.crop(IMAGE, jnp.zeros(2, int), 7), "image of 6x8; got 7x7"),
    "crop sizes": (lambda: _bare("crop")(IMAGE, (0, 0), (2, 3, 4)), "(2, 3, 4)"),
    "crop of nothing": (lambda: T.crop(IMAGE, (0, 0), 0), "at least 1; got 0"),
    "crop outside": (lambda: T.crop(IMAGE, (4, 0), (3, 3)), "(0, 0) and (3, 5)"),
    "crop negative": (lambda: T.crop(IMAGE, (-1, 0), (3, 3)), "got (-1, 0)"),
    "crop chain": (_chain(T.crop_coords((0, 0), (6, 9))), "image of 6x8; got 6x9"),
    "crop half known": (
        lambda: jax.eval_shape(lambda x: T.crop(IMAGE, (x, 7), 3), 0),
        "(0, 0) and (3, 5)",
    ),
    "crop numpy": (lambda: _bare("crop")(IMAGE, tuple(np.array([4, 0])), 3), "(3, 5)"),
    "crop of one": (lambda: _bare("crop")(IMAGE, (0,), 3), "two numbers (y, x)"),
    "crop of three": (lambda: _bare("crop")(IMAGE, (0, 0, 0), 3), "got shape (3,)"),
    "crop random": (lambda: T.random_crop(KEY, IMAGE, size=9), "got 9x9"),
    "crop params": (lambda: T.crop_params(KEY, image_size=4, size=5), "4x4; got 5x5"),
    "prob": (lambda: T.hflip_params(KEY, prob=50), "in [0, 1]; got 50"),
    "prob numpy": (lambda: _bare("hflip_params")(KEY, prob=np.int64(2)), "got 2"),
    "prob 0-d": (lambda: _bare("hflip_params")(KEY, prob=np.array(1.5)), "got 1.5"),
    "prob bfloat16": (
        lambda: _bare("hflip_params")(KEY, prob=np.array(1.5, jnp.bfloat16)),
        "got 1.5",
    ),
    "prob nan": (lambda: T.vflip_params(KEY, prob=float("nan")), "got nan"),
    "max_angle": (lambda: T.random_rotate(KEY, IMAGE, max_angle=-0.1), "got -0.1"),
    "grid": (lambda: T.warp_params(KEY, grid=(1, 4)), "at least 2 control points"),
    "grid of three": (lambda: _bare("warp_params")(KEY, grid=(4, 4, 4)), "(4, 4, 4)"),
    "grid offsets": (lambda: T.warp(IMAGE, T.WarpParams(jnp.zeros((1, 4, 2)))), "(1"),
    "offsets": (lambda: T.warp(IMAGE, T.WarpParams(jnp.zeros((16, 2)))), "jax.vmap"),
    "magnitude": (lambda: T.random_warp(KEY, IMAGE, magnitude=-0.1), "got -0.1"),
    "order": (lambda: T.warp(IMAGE, WARP, order=4), "1, 2, 3; got 4"),
    "warp border": (lambda: T.warp(IMAGE, WARP, border="zeros"), "got 'zeros'"),
    "warp of a row": (lambda: T.warp(IMAGE[:1], WARP), "at least 2x2"),
    "points": (lambda: _bare("warp_points")(jnp.zeros((3, 3)), WARP, size=8), "(3, 3)"),
    "free points": (lambda: T.free_warp_params(KEY, num_points=2), "at least 3"),
    "free magnitude": (lambda: T.free_warp_params(KEY, magnitude=-1), "got -1"),
    "ridge": (lambda: T.free_warp_flow(FREE, 8, regularization=-1), "got -1"),
    "stride": (lambda: T.free_warp(IMAGE, FREE, stride=0), "got 0"),
    "patch size": (lambda: T.extract_patch(SQUARE, (0, 0), 7), "6x6; got 7x7"),
    "paste size": (lambda: T.paste_patch(SQUARE, IMAGE, (0, 0)), "6x6; got 6x8"),
    "paste outside": (lambda: T.paste_patch(IMAGE, SQUARE, (0, 3)), "got (0, 3)"),
    "border of height": (lambda: T.border_mask((8, 6), 3), "2 * border < 6"),
    "border": (lambda: T.border_mask(6, 3), "2 * border < 6"),
    "features rank": (lambda: _bare("local_average")(FLAT), "image[..., None]"),
    "window": (lambda: T.local_average(IMAGE, size=4), "odd Python int"),
    "no window": (lambda: T.damage(IMAGE, FLAT > 0, size=0), "got 0"),
    "mask shape": (lambda: _bare("damage")(IMAGE, SQUARE[..., 0] > 0), "map's shape"),
    "keep_prob": (lambda: T.drop_mask(KEY, 4, 30), "in [0, 1]; got 30"),
    "map shape": (lambda: _bare("drop_mask")(KEY, (4, 4, 4), 0.3), "(4, 4, 4)"),
    "upsampling": (lambda: T.upsample_mask(FLAT > 0, 0), "at least 1; got 0"),
    "mask rank": (lambda: _bare("upsample_mask")(FLAT[0]), "(..., M, N)"),
    "grid of tiles": (lambda: T.tile(IMAGE, grid=(3, 3)), "Crop to 6x6 first"),
    "jigsaw grid": (lambda: T.random_jigsaw(KEY, IMAGE), "got 3x3"),
    "jigsaw order": (
        lambda: T.jigsaw(IMAGE, jnp.arange(4), grid=(3, 2)),
        "6 entries, one for each place; got shape (4,)",
    ),
    "tiles": (lambda: T.untile(IMAGE[None], grid=2), "(..., 4, h, w, C)"),
    "pixel order": (lambda: T.pixel_permutation(IMAGE, jnp.arange(9)), "48 entries"),
    "pixel size": (lambda: T.pixel_permutation_params(KEY, size=0), "got 0"),
    "frames rank": (lambda: _bare("median_background")(IMAGE), "(6, 8, 3)"),
    "threshold": (
        lambda: T.remove_background(IMAGE, IMAGE, threshold=-1),
        "threshold must be at least 0; got -1",
    ),
    "fill": (
        lambda: T.remove_background(BYTES, BYTES, threshold=1, fill=256),
        "from 0 to 255 for uint8 images; got 256",
    ),
    "fill between": (
        lambda: T.remove_background(BYTES, BYTES, threshold=1, fill=0.5),
        "fill must be a whole number",
    ),
    "background": (
        lambda: _bare("remove_background")(IMAGE, SQUARE, threshold=0.1),
        "(6, 8, 3); got (6, 6, 3)",
    ),
    "substitute": (
        lambda: _bare("substitute_background")(IMAGE, IMAGE, SQUARE, threshold=0.1),
        "substitute must have the image's size",
    ),
    "pose rank": (lambda: _bare("flip_pose")(FLAT[0], pairs=()), "(8,)"),
    "joints twice": (lambda: T.flip_pose(FLAT, pairs=[(0, 1), (1, 2)]), "once at most"),
    "no joint": (lambda: T.flip_pose(FLAT, pairs=[(0, 6)]), "6 joints, 0 to 5"),
    "mixup alpha": (lambda: T.mixup_params(KEY, alpha=0), "above 0; got 0"),
    "mixup trees": (lambda: T.mixup((FLAT, FLAT), FLAT, 0.5), "same structure"),
    "mixup shapes": (lambda: T.mixup(IMAGE, SQUARE, 0.5), "(6, 8, 3) and (6, 6, 3)"),
    "rate": (lambda: _noise(rate=40), "in [0, 1]; got 40"),
    "classes": (lambda: _noise(num_classes=1), "2 or more; got 1"),
    "classes of a byte": (
        lambda: _bare("label_noise_params")(
            KEY, LABELS.astype(jnp.uint8), num_classes=300, rate=0.5
        ),
        "at most 256, as labels are uint8; got 300",
    ),
    "count": (lambda: _noise(count="some"), "'exact', 'bernoulli'; got 'some'"),
    "replacement": (lambda: _noise(replacement="all"), "'other', 'any'; got 'all'"),
    "exact batch": (
        lambda: T.label_noise_params(KEY, LABELS[None], num_classes=4, rate=0.5),
        "Use count='bernoulli'",
    ),
    "noise shape": (
        lambda: _bare("label_noise")(LABELS[:3], _noise()),
        "for these labels, of shape (3,)",
    ),
    "smoothing": (lambda: T.smooth_labels(FLAT, smoothing=1.1), "got 1.1"),
    "no classes": (lambda: _bare("smooth_labels")(FLAT[0, 0]), "got a scalar"),
    "pretext size": (
        lambda: T.transformation_batch(KEY, SQUARE[None], size=7, classes=["none"]),
        "6x6; got 7x7",
    ),
    "inpainted size": (
        lambda: _bare("transformation_views")(
            SQUARE, IMAGE, None, size=4, classes=["lci"]
        ),
        "images it goes with, (6, 6, 3); got (6, 8, 3)",
    ),
    "warped size": (
        lambda: _bare("stack_transformations")(SQUARE, IMAGE, classes=["none", "warp"]),
        "warped must have the shape",
    ),
    "short padded videos": (
        lambda: T.temporal_batch(KEY, jnp.zeros((2, 15, 3, 3, 1)), jnp.array([15, 9])),
        "num_frames must be at least the clip's 16; got 15",
    ),
    "no inpainted": (
        lambda: T.transformation_batch(KEY, SQUARE[None], size=4),
        "classes has 'lci', but no such views are given",
    ),
    "no warped": (lambda: T.stack_transformations(SQUARE), "classes has 'warp'"),
    "class": (
        lambda: T.stack_transformations(SQUARE, classes=["rot45"]),
        "'lci'; got 'rot45'",
    ),
    "temporal class": (
        lambda: T.temporal_params(KEY, 99, classes=["reverse"]),
        "'warp'; got 'reverse'",
    ),
    "short videos": (
        lambda: T.temporal_batch(KEY, jnp.zeros((2, 9, 4, 4, 3))),
        "num_frames must be at least the clip's 16; got 9",
    ),
    "cameras": (
        lambda: T.view_pair_params(KEY, num_cameras=1, num_frames=9),
        "num_cameras must be at least 2; got 1",
    ),
    "recording": (
        lambda: T.view_pair_params(KEY, num_cameras=2, num_frames=5),
        "above the smallest gap 5; got 5",
    ),
    "gap": (
        lambda: T.view_pair_params(KEY, num_cameras=2, num_frames=9, gap=(4, 3)),
        "got (4, 3)",
    ),
    "scene": (
        lambda: _bare("view_pairs")(
            IMAGE, T.view_pair_params(KEY, num_cameras=2, num_frames=9)
        ),
        "Use view_pair_batch for several scenes",
    ),
    "few frames, numpy": (
        lambda: _bare("speed_indices")(KEY, np.int32(15), 0),
        "got 15",
    ),
    "few frames": (lambda: T.speed_indices(KEY, 15, 0), "at least the clip's 16"),
    "no frames": (lambda: T.warp_indices(KEY, 0, 0), "got 0"),
    "kappa": (lambda: T.periodic_indices(KEY, 99, 4), "between 0 and 3; got 4"),
    "kappa unused": (lambda: T.random_indices(KEY, 99, -1), "kappa must lie between"),
    "kind": (lambda: T.temporal_indices(KEY, 4, 99, 0), "kind must lie between 0"),
    "length": (lambda: T.speed_indices(KEY, 99, 0, length=1), "2 or more; got 1"),
    "periodic length": (lambda: T.periodic_indices(KEY, 99, 0, length=6), "at least 7"),
    "variant": (lambda: T.warp_indices(KEY, 99, 0, variant="code"), "got 'code'"),
    "clip rank": (lambda: _bare("take_frames")(IMAGE, jnp.arange(3)), "(6, 8, 3)"),
    "clip indices": (
        lambda: _bare("take_frames")(IMAGE[None], jnp.zeros((2, 2), int)),
        "jax.vmap",
    ),
    "no border": (lambda: T.border_mask(6, 0), "at least 1; got 0"),
    "erase border": (lambda: T.erase_center(SQUARE, SQUARE, 3), "6x6; got border=3"),
    "resized rank": (lambda: _bare("resized_crop")(FLAT, None, 3), "image[..., None]"),
    "resized size": (lambda: T.random_resized_crop(KEY, IMAGE, size=0), "got 0"),
    "scale": (
        lambda: T.resized_crop_params(KEY, image_size=8, scale=(0.5, 0.1)),
        "scale must be (low, high)",
    ),
    "scale of 0": (
        lambda: T.resized_crop_params(KEY, image_size=8, scale=(0.0, 1.0)),
        "scale must be above 0",
    ),
    "scale in percent": (
        lambda: T.random_resized_crop(KEY, IMAGE, size=4, scale=(8.0, 100.0)),
        "scale must be at most 1; got 100.0",
    ),
    "ratio": (
        lambda: T.resized_crop_params(KEY, image_size=8, ratio=(-1.0, 1.0)),
        "ratio must be above 0; got -1.0",
    ),
    "maybe prob": (lambda: T.maybe(KEY, WARP, WARP, prob=2), "in [0, 1]; got 2"),
    "maybe identity": (lambda: T.maybe(KEY, WARP, 0.0), "structure of params"),
    "blur rank": (lambda: _bare("gaussian_blur")(FLAT, 1.0), "image[..., None]"),
    "sigma": (lambda: T.gaussian_blur(IMAGE, -1.0, radius=2), "sigma must be at least"),
    "sigmas": (lambda: T.gaussian_blur_params(KEY, sigma=(2.0, 0.1)), "low <= high"),
    "sigmas below 0": (
        lambda: T.random_gaussian_blur(KEY, IMAGE, sigma=(-1.0, 0.1)),
        "at least 0; got -1.0",
    ),
    "radius": (lambda: T.gaussian_blur(IMAGE, 1.0, radius=6), "image of 6x8; got 6"),
    "color rank": (lambda: _bare("brightness")(FLAT, 1.0), "image[..., None]"),
    "factor": (lambda: T.contrast(IMAGE, -0.5), "factor must be at least 0; got -0.5"),
    "strength": (lambda: T.random_saturation(KEY, IMAGE, strength=-1), "got -1"),
    "hue strength": (lambda: T.hue_params(KEY, strength=0.6), "at most 0.5; got 0.6"),
    "jitter hue": (lambda: T.color_jitter_params(KEY, hue=36.0), "hue must be at most"),
    "jitter": (lambda: T.color_jitter_params(KEY, contrast=-0.1), "contrast must be"),
    "reversed range": (
        lambda: T.brightness(IMAGE, 1.0, value_range=(1.0, 0.0)),
        "value_range must be (low, high) with low < high; got (1.0, 0.0)",
    ),
    "empty range": (
        lambda: _bare("color_jitter")(IMAGE, None, value_range=(1.0, 1.0)),
        "low < high",
    ),
    "range of one": (
        lambda: _bare("hue")(IMAGE, 0.1, value_range=255.0),
        "pair (low, high); got 255.0",
    ),
    "contrast channels": (
        lambda: T.contrast(IMAGE[..., :2], 1.0),
        "1 or 3 channels on the last axis; got shape (6, 8, 2)",
    ),
    "hue channels": (lambda: _bare("hue")(IMAGE[..., :1], 0.1), "3 channels"),
    "gray channels": (lambda: _bare("grayscale")(IMAGE[..., :1]), "3 channels"),
    "saturated grey": (lambda: _bare("saturation")(IMAGE[..., :1], 2), "3 channels"),
    "alpha": (
        lambda: _bare("color_jitter")(jnp.zeros((6, 8, 4)), None),
        "got shape (6, 8, 4)",
    ),
    "gray prob": (lambda: T.grayscale_params(KEY, prob=-1), "in [0, 1]; got -1"),
    "mean": (
        lambda: _bare("normalize")(IMAGE, (0.5,), (1.0, 1.0, 1.0)),
        "mean must be one number, or have one value for each of the 3 channels; got "
        "shape (1,)",
    ),
    "std": (
        lambda: T.normalize(IMAGE, (0.5, 0.5, 0.5), (0.5, 0.0, 0.5)),
        "std must be above 0; got 0.0",
    ),
    "noise": (lambda: T.erase_center(SQUARE, SQUARE, 2), "(..., 2, 2, 3)"),
}


@pytest.mark.parametrize("case", CASES)
def test_value_errors(case: str) -> None:
    call, told = CASES[case]
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    message = str(caught.value)
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: _bare("crop")(IMAGE, jnp.zeros(2), 3),
            "geometric_chain(image, [crop_coords(top_left, size)])",
        ),
        (lambda: _bare("crop")(IMAGE, (0.5, 1.0), 3), "whole pixels"),
        (lambda: _bare("rot90")(SQUARE, 1.9), "k must be whole; got float32"),
        (lambda: _bare("rot90_coords")(jnp.array(1.0)), "k must be whole"),
        (
            lambda: _bare("geometric_chain")(IMAGE, T.hflip_coords()),
            "maps must be a list of CoordMap, also for a single one",
        ),
        (lambda: _bare("geometric_chain")(IMAGE, [WARP]), "hflip_coords(flip)"),
        (lambda: _bare("crop")(IMAGE, (0, 0), 2.5), "Python integers"),
        (lambda: T.paste_patch(IMAGE, SQUARE.astype(jnp.uint8), (0, 0)), "uint8"),
        (lambda: T.erase_center(IMAGE, IMAGE.astype(jnp.uint8), 1), "astype"),
        (lambda: _bare("resized_crop")(IMAGE, None, 2.5), "size must be Python int"),
        (lambda: _bare("border_mask")(6, 1.5), "border must be a Python integer"),
        (lambda: _bare("local_average")(LABELS.reshape(2, 2, 2)), "int32. Convert"),
        (lambda: _bare("damage")(IMAGE, FLAT), "true where a cell is kept"),
        (lambda: _bare("upsample_mask")(FLAT, 1.5), "factor must be a Python integer"),
        (lambda: _bare("jigsaw")(IMAGE, jnp.zeros(4), grid=2), "permutation must be"),
        (
            lambda: T.foreground_mask(IMAGE, IMAGE.astype(jnp.uint8), threshold=1),
            "background must have the image's dtype float32; got uint8",
        ),
        (lambda: T.mixup(LABELS, LABELS, 0.5), "jax.nn.one_hot"),
        (lambda: T.mixup(FLAT, FLAT.astype(jnp.bfloat16), 0.5), "second must have"),
        (lambda: _bare("smooth_labels")(LABELS), "jax.nn.one_hot"),
        (lambda: _bare("label_noise")(FLAT, _noise()), "labels must be whole"),
        (
            lambda: _bare("label_noise_params")(KEY, FLAT, num_classes=4, rate=0.5),
            "labels must be whole; got float32",
        ),
        (lambda: _bare("speed_indices")(KEY, 99.0, 0), "num_frames must be whole"),
        (lambda: _bare("warp_indices")(KEY, 99, 0.5), "kappa must be whole"),
        (lambda: _bare("take_frames")(IMAGE[None], jnp.zeros(2)), "indices must be"),
        (lambda: _bare("brightness")(BYTES, 1.0), "brightness needs floating-point"),
        (
            lambda: T.stack_transformations(BYTES, IMAGE, classes=["none", "warp"]),
            "warped must have the image's dtype uint8; got float32",
        ),
        (lambda: _bare("hue")(BYTES, 0.1), "image.astype(jnp.float32) / 255"),
        (lambda: _bare("color_jitter")(BYTES, None), "got uint8"),
        (lambda: _bare("grayscale")(BYTES), "grayscale needs"),
        (lambda: _bare("normalize")(BYTES, (0, 0, 0), (1, 1, 1)), "normalize needs"),
        (lambda: _bare("gaussian_blur")(BYTES, 1.0), "gaussian_blur needs"),
        (
            lambda: _bare("gaussian_blur")(IMAGE, 1.0, radius=2.5),
            "radius must be a Python integer",
        ),
    ],
)
def test_type_errors(call, told: str) -> None:
    with pytest.raises(TypeError, match=r".") as caught:
        call()
    assert told in str(caught.value)


def test_shapes_are_checked_under_jit() -> None:
    with pytest.raises(ValueError, match="must fit into the image"):
        jax.eval_shape(lambda image: T.crop(image, (0, 0), 9), IMAGE)


def test_import_needs_only_jax_and_numpy() -> None:
    """Nothing else that the package or its extras bring is imported, and that soon."""
    script = (
        "import sys, time, numpy, jax\n"
        "before = set(sys.modules)\n"
        "for name in ('optax', 'flax', 'scipy.interpolate', 'jaxtyping', 'PIL'):\n"
        "    sys.modules[name] = None\n"
        "start = time.process_time()\n"
        "from jaxssl import transforms as T\n"
        "assert time.process_time() - start < 1\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "ours = {'jaxssl', 'optax', 'flax', 'scipy', 'jaxtyping', 'PIL'}\n"
        "extra = new - ours - set(sys.stdlib_module_names) - {'jax', 'numpy'}\n"
        "assert not extra, extra\n"
        "image = jax.numpy.zeros((4, 4, 3))\n"
        "assert T.warp(image, T.warp_params(jax.random.key(0))).shape == (4, 4, 3)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_negative_factors_of_a_jitter_are_refused() -> None:
    params = T.ColorJitterParams(-1.0, 1.0, 1.0, 0.0, jnp.arange(4))
    with pytest.raises(ValueError, match=r"brightness must be at least 0; got -1\.0"):
        T.color_jitter(jnp.zeros((4, 4, 3)), params)
