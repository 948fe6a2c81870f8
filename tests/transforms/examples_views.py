"""Law-suite examples: backgrounds and poses, labels, features, tiles."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import SIDE, Example, nothing, pixels

REAL = (jnp.bfloat16,)
NUMBERS = (jnp.uint8, jnp.bfloat16)
GRID = (2, 5)


def _data(*shape):
    return lambda dtype=jnp.float32, lead=(), seed=0: pixels(shape, dtype, lead, seed)


# --- Views


class Scene(NamedTuple):
    """What a camera sees behind the subject, what else it might, and a threshold."""

    background: Any
    substitute: Any
    threshold: Any


def _scene(key):
    first, second, third = jax.random.split(key, 3)
    background = jax.random.uniform(first, (SIDE, SIDE, 3))
    substitute = jax.random.uniform(second, (SIDE, SIDE, 3))
    return Scene(background, substitute, 0.6 * jax.random.uniform(third))


ALL_SUBJECT = _scene(jax.random.key(0))._replace(threshold=jnp.array(-1.0))


def _removed(image, scene):
    background = scene.background.astype(jnp.asarray(image).dtype)
    return T.remove_background(image, background, threshold=scene.threshold)


def _substituted(image, scene):
    dtype, threshold = jnp.asarray(image).dtype, scene.threshold
    background, other = scene.background.astype(dtype), scene.substitute.astype(dtype)
    return T.substitute_background(image, background, other, threshold=threshold)


def _flipped(pose, params):
    return T.flip_pose(pose, *params, pairs=[(1, 3), (4, 0)])


# --- Labels


def _labels(dtype=jnp.float32, lead=(), seed=0):
    del dtype
    return pixels((60,), jnp.int32, lead, seed) % 4


def _noise(count):
    options = {"num_classes": 4, "count": count}
    return Example(
        {"label_noise", "label_noise_params", "random_label_noise", "LabelNoiseParams"},
        T.label_noise,
        lambda key: T.label_noise_params(key, _labels(), rate=0.5, **options),
        lambda key, labels, rate=0.5: T.random_label_noise(
            key, labels, rate=rate, **options
        ),
        strengths={"rate": 0.5},
        identity=T.LabelNoiseParams(jnp.zeros(60, bool), jnp.zeros(60, jnp.int32)),
        data=_labels,
        dtypes=(),
        shares=False,
    )


EXAMPLES = {
    "median_background": Example(
        {"median_background"},
        lambda frames, _: T.median_background(frames),
        data=_data(5, SIDE, SIDE, 3),
        dtypes=NUMBERS,
    ),
    "foreground_mask": Example(
        {"foreground_mask"},
        lambda image, scene: T.foreground_mask(
            image, scene.background, threshold=scene.threshold
        ),
        _scene,
        dtypes=(),
    ),
    "remove_background": Example(
        {"remove_background"},
        _removed,
        _scene,
        identity=ALL_SUBJECT,
        dtypes=NUMBERS,
    ),
    "substitute_background": Example(
        {"substitute_background"},
        _substituted,
        _scene,
        identity=ALL_SUBJECT,
        dtypes=NUMBERS,
    ),
    "flip_pose": Example(
        {"flip_pose"},
        _flipped,
        T.hflip_params,
        identity=T.FlipParams(jnp.array(False)),
        data=_data(5, 3),
        dtypes=REAL,
        bounds=(-1, 1),
    ),
    "mixup": Example(
        {"mixup", "mixup_params", "random_mixup", "MixupParams"},
        lambda image, params: T.mixup(image, image[..., ::-1], *params),
        T.mixup_params,
        lambda key, image, **options: T.random_mixup(
            key, image, image[..., ::-1], **options
        ),
        strengths={"alpha": 0.7},
        identity=T.MixupParams(jnp.array(1.0)),
        smooth=True,
        dtypes=REAL,
    ),
    "label_noise_exact": _noise("exact"),
    "label_noise_bernoulli": _noise("bernoulli"),
    "smooth_labels": Example(
        {"smooth_labels"},
        lambda labels, share: T.smooth_labels(labels, smoothing=share),
        jax.random.uniform,
        identity=jnp.array(0.0),
        smooth=True,
        data=_data(6),
        dtypes=REAL,
        bounds=(0, 1),
    ),
    "drop_mask": Example(
        {"drop_mask"},
        lambda _, key: T.drop_mask(key, (4, 5), 0.3),
        lambda key: key,
        data=nothing,
        dtypes=(),
        shares=False,
    ),
    "local_average": Example(
        {"local_average"},
        lambda features, _: T.local_average(features, size=5),
        dtypes=REAL,
    ),
    "damage": Example(
        {"damage"},
        T.damage,
        lambda key: T.drop_mask(key, SIDE, 0.3),
        identity=jnp.ones((SIDE, SIDE), bool),
        dtypes=REAL,
    ),
    "upsample_mask": Example(
        {"upsample_mask"},
        lambda mask, _: T.upsample_mask(mask, 3),
        data=_data(4, 5),
    ),
    "tile": Example({"tile"}, lambda image, _: T.tile(image, grid=GRID)),
    "untile": Example(
        {"untile"},
        lambda tiles, _: T.untile(tiles, grid=GRID),
        data=_data(10, 5, 2, 3),
    ),
    "jigsaw": Example(
        {"jigsaw", "jigsaw_params", "random_jigsaw", "JigsawParams"},
        lambda image, params: T.jigsaw(image, *params, grid=GRID),
        lambda key: T.jigsaw_params(key, grid=GRID),
        lambda key, image: T.random_jigsaw(key, image, grid=GRID),
        identity=T.JigsawParams(jnp.arange(10)),
    ),
    "pixel_permutation": Example(
        {
            "pixel_permutation",
            "pixel_permutation_params",
            "random_pixel_permutation",
            "PixelPermutationParams",
        },
        lambda image, params: T.pixel_permutation(image, *params),
        lambda key: T.pixel_permutation_params(key, size=SIDE),
        T.random_pixel_permutation,
        identity=T.PixelPermutationParams(jnp.arange(SIDE * SIDE)),
    ),
}
