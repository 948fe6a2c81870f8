"""Law-suite examples: batches for pretext tasks, and what they are made of."""

import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import SIDE, Example, nothing, pixels

SIZE = 6
VIEWS = {"image_size": SIDE, "size": SIZE, "grid": (2, 3)}


def _data(*shape):
    return lambda dtype=jnp.float32, lead=(), seed=0: pixels(shape, dtype, lead, seed)


def _batch(builder, shape, **options):
    """Return a builder with the key as its parameters; labels are looked at apart."""

    def apply(samples, key):
        views, _, _ = builder(key, samples, **options)
        return views

    return Example(
        {builder.__name__},
        apply,
        lambda key: key,
        lambda key, samples: (builder(key, samples, **options)[0], key),
        data=_data(*shape),
        shares=False,
    )


def _image_and_painted(dtype=jnp.float32, lead=(), seed=0):
    image = pixels((SIDE, SIDE, 3), dtype, lead, seed)
    return image, image[..., ::-1, :]


def _num_frames(dtype=jnp.float32, lead=(), seed=0):
    del dtype, lead
    return jnp.array(40 + 33 * seed)


def _temporal_params(num_frames, key) -> T.TemporalParams:
    return T.temporal_params(key, num_frames)


def _pair_params(key, *, cameras=3, frames=7) -> T.ViewPairParams:
    return T.view_pair_params(key, num_cameras=cameras, num_frames=frames)


WHOLE = T.ViewParams(jnp.array([0, 0]), jnp.array(False))
STILL = T.TransformationParams(WHOLE, WHOLE, WHOLE, T.WarpParams(jnp.zeros((2, 3, 2))))
CHAPTER_4 = T.TRANSFORMATIONS[:-1]

EXAMPLES = {
    "rotation_batch": Example(
        {"rotation_batch"},
        lambda images, _: T.rotation_batch(images)[0],
        data=_data(2, SIDE, SIDE, 3),
        shares=False,
    ),
    "stack_transformations": Example(
        {"stack_transformations", "TRANSFORMATIONS"},
        lambda image, _: T.stack_transformations(
            image, jnp.add(image, image), classes=T.TRANSFORMATIONS[:-1]
        ),
        dtypes=(jnp.bfloat16,),
        bounds=(0, 2),
    ),
    "transformation_views": Example(
        {
            "transformation_views",
            "transformation_params",
            "TransformationParams",
            "ViewParams",
        },
        lambda data, params: T.transformation_views(*data, params, size=SIZE),
        lambda key: T.transformation_params(key, **VIEWS),
        data=_image_and_painted,
        shares=False,
    ),
    "transformation_views_whole": Example(
        set(),
        lambda image, params: T.transformation_views(
            image, None, params, size=SIDE, classes=["none", "warp"]
        )[1],
        identity=STILL,
        shares=False,
    ),
    "transformation_batch": _batch(
        T.transformation_batch,
        (2, SIDE, SIDE, 3),
        size=SIZE,
        grid=(2, 3),
        classes=CHAPTER_4,
    ),
    "temporal_params": Example(
        {"temporal_params", "TemporalParams"},
        _temporal_params,
        lambda key: key,
        data=_num_frames,
        dtypes=(),
        shares=False,
    ),
    "temporal_batch": _batch(T.temporal_batch, (2, 20, 3, 3, 1)),
    "view_pair_params": Example(
        {"view_pair_params", "ViewPairParams"},
        lambda _, key: _pair_params(key, cameras=4, frames=200),
        lambda key: key,
        data=nothing,
        dtypes=(),
        shares=False,
    ),
    "view_pairs": Example(
        {"view_pairs", "PAIRS"},
        lambda scene, params: T.view_pairs(scene, params)[: len(T.PAIRS)],
        _pair_params,
        data=_data(3, 7, SIDE, SIDE, 3),
        shares=False,
    ),
    "view_pair_batch": _batch(T.view_pair_batch, (2, 3, 7, 4, 4, 3)),
}
