"""Pairs of views of one scene: synchronized, unsynchronized, flipped (section 6.2.1).

`jaxssl.transforms.multiview` takes the static background out first.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.compose import batched, class_labels
from jaxssl.transforms.geometric import hflip
from jaxssl.types import Array, Bool, Int, Key, Shaped

PAIRS = ("synchronized", "unsynchronized", "flipped")
"""The kinds of pairs in thesis order; a kind's place is its label."""


class ViewPairParams(NamedTuple):
    """Which views of a scene make its pairs.

    Attributes:
      cameras: int32 (2,), two different cameras, in the order of the pair.
      frames: int32 (2,), the time t of synchronized pairs, and the second image's time
        in the unsynchronized one.
      mirror: bool scalar, whether all images are mirrored at first.
      flipped: int32 scalar, 0 or 1, the image of the flipped pair that is mirrored.
    """

    cameras: Int[Array, "2"]
    frames: Int[Array, "2"]
    mirror: Bool[Array, ""]
    flipped: Int[Array, ""]


def view_pair_params(
    key: Key[Array, ""],
    *,
    num_cameras: int,
    num_frames: int,
    gap: tuple[int, int] = (5, 127),
) -> ViewPairParams:
    """Draw two cameras, two times, and what is mirrored.

    The distance of the two times is uniform over those of ``gap`` that the recording
    allows, then the earlier time is uniform over its places; either may come first.

    Args:
      key: a typed key.
      num_cameras: static, 2 or more.
      num_frames: static number of frames of the recording.
      gap: static smallest and largest distance of unsynchronized frames. The thesis has
        4 < |t_2 - t_1| < 128.

    Returns:
      The parameters. A loader that reads single frames needs nothing else.

    Raises:
      ValueError: if there are too few cameras or frames, or ``gap`` is no interval of
        distances above 0.

    References:
      Thesis sections 6.2.1 and 6.2.3.
    """
    if num_cameras < 2:
        raise ValueError(f"num_cameras must be at least 2; got {num_cameras}.")
    low, high = gap
    if not 1 <= low <= high:
        raise ValueError(
            f"gap must be (smallest, largest) distance, 1 <= smallest <= largest; got "
            f"{gap}."
        )
    if num_frames <= low:
        raise ValueError(
            f"num_frames must be above the smallest gap {low}; got {num_frames}. Take "
            "longer recordings or a smaller gap."
        )
    camera_key, time_key, flip_key = jax.random.split(key, 3)
    first, shift = jax.random.randint(
        camera_key,
        (2,),
        jnp.array([0, 1]),
        jnp.array([num_cameras, num_cameras]),
        jnp.int32,
    )
    gap_key, start_key, order_key = jax.random.split(time_key, 3)
    distance = jax.random.randint(
        gap_key, (), low, min(high, num_frames - 1) + 1, jnp.int32
    )
    start = jax.random.randint(start_key, (), 0, num_frames - distance, jnp.int32)
    times = jnp.stack([start, start + distance])
    times = jnp.where(jax.random.bernoulli(order_key), times, times[::-1])
    mirror, flipped = jax.random.bernoulli(flip_key, 0.5, (2,))
    return ViewPairParams(
        jnp.stack([first, (first + shift) % num_cameras]),
        times,
        mirror,
        flipped.astype(jnp.int32),
    )


def view_pairs(
    scene: Shaped[Array, "v t h w c"], params: ViewPairParams
) -> Shaped[Array, "3 2 h w c"]:
    """Make one pair of each kind out of a scene that several cameras recorded.

    Args:
      scene: synchronous frames of the cameras; any dtype and value range.
      params: see `view_pair_params`; cameras and times outside of the scene become the
        nearest ones.

    Returns:
      The pairs, in the order of `PAIRS`. The flipped pair is the synchronized one with
      one of its images mirrored.

    Raises:
      ValueError: if the rank is wrong, or the parameters are those of several scenes.

    References:
      x_p, x_n and x_f of thesis section 6.2.1.
    """
    checks.image_size(scene)
    if scene.ndim != 5:
        raise ValueError(
            f"scene must have the axes (cameras, T, H, W, C); got shape {scene.shape}. "
            "Use view_pair_batch for several scenes."
        )
    checks.pair(params.cameras, "cameras")
    checks.pair(params.frames, "frames")
    checks.scalar(params.mirror, "mirror")
    checks.scalar(params.flipped, "flipped")
    cameras = jnp.clip(params.cameras, 0, scene.shape[0] - 1)
    frames = jnp.clip(params.frames, 0, scene.shape[1] - 1)
    # The pair at time t, and the second camera's image at another time.
    images = (
        jnp.asarray(scene)
        .at[cameras[jnp.array([0, 1, 1])], frames[jnp.array([0, 0, 1])]]
        .get(mode="promise_in_bounds", wrap_negative_indices=False)
    )
    first, second, later = hflip(images, params.mirror)
    flipped = [hflip(first, params.flipped == 0), hflip(second, params.flipped == 1)]
    pairs = [[first, second], [first, later], flipped]
    return jnp.stack([jnp.stack(pair) for pair in pairs])


def view_pair_batch(
    key: Key[Array, ""],
    scenes: Shaped[Array, "b v t h w c"],
    ids: Int[Array, " b"] | None = None,
    *,
    gap: tuple[int, int] = (5, 127),
) -> tuple[Shaped[Array, "b 3 2 h w c"], Int[Array, "b 3"], ViewPairParams]:
    """Make one pair of each kind out of each scene.

    There is no released code to compare labels with.

    =====  ==============  ================  ===================
    label  kind            F_1 synchronized  F_2 not flipped
    =====  ==============  ================  ===================
    0      synchronized    1                 1
    1      unsynchronized  0                 not in the loss
    2      flipped         not in the loss   0
    =====  ==============  ================  ===================

    Args:
      key: a typed key.
      scenes: see `view_pairs`.
      ids: see `jaxssl.transforms.batched`.
      gap: see `view_pair_params`.

    Returns:
      The pairs, their labels, and what was drawn for each scene.

    Raises:
      ValueError: see `view_pair_params` and `view_pairs`.

    References:
      Equation 6.1.
    """

    def one(key, scene):
        params = view_pair_params(
            key, num_cameras=scene.shape[0], num_frames=scene.shape[1], gap=gap
        )
        return view_pairs(scene, params), params

    pairs, params = batched(one)(key, scenes, ids)
    return pairs, class_labels(len(scenes), len(PAIRS)), params
