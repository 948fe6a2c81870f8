"""Law-suite examples: which frames of a video are shown."""

import jax
import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import SIDE, Example, pixels


def _video(dtype=jnp.float32, lead=(), seed=0):
    """Return the number of frames and the speed."""
    del dtype, lead
    return jnp.array(40 + 33 * seed), jnp.array(seed % 4)


def _kind_and_video(dtype=jnp.float32, lead=(), seed=0):
    return jnp.array(3 - seed % 4), *_video(seed=seed)


def _clip(dtype=jnp.float32, lead=(), seed=0):
    return pixels((6, SIDE, SIDE, 3), dtype, lead, seed)


def _rule(name, rule):
    return Example(
        {name},
        lambda video, key: rule(key, *video),
        lambda key: key,
        data=_video,
        dtypes=(),
        shares=False,
    )


EXAMPLES = {
    "speed_indices": _rule("speed_indices", T.speed_indices),
    "random_indices": _rule("random_indices", T.random_indices),
    "periodic_indices": _rule("periodic_indices", T.periodic_indices),
    "warp_indices": _rule("warp_indices", T.warp_indices),
    "temporal_indices": _rule("temporal_indices", T.temporal_indices)._replace(
        data=_kind_and_video
    ),
    "max_kappa": Example(
        {"max_kappa", "KINDS"},
        lambda video, _: T.max_kappa(video[0], length=len(T.KINDS)),
        data=_video,
        dtypes=(),
        shares=False,
    ),
    "take_frames": Example(
        {"take_frames"},
        T.take_frames,
        lambda key: jax.random.randint(key, (4,), 0, 6),
        data=_clip,
        identity=jnp.arange(6),
    ),
}
