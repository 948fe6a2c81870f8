"""Which frames of a video to show: temporal transformations (thesis section 5.2.1).

Each rule draws the int32 indices of ``length`` frames by short integer formulas, so the
number of frames, the speed and the kind may be traced; `take_frames` gathers them once,
in the dtype of the video.

Speed kappa, 0 to 3, shows every 2^kappa-th frame; one too fast for the video becomes
`max_kappa`, the fastest that fits. A Python ``num_frames`` below ``length`` raises a
ValueError; a traced one cannot, so the last frame repeats.

Thesis and released code differ, so rules take a ``variant``:

* ``paper`` (default): the thesis, its words where they differ from its formulas;
* ``literal``: the formulas as printed;
* ``released``: what the code released with the paper draws.
"""

import numbers
from typing import Any

import jax.numpy as jnp

from jaxssl.transforms import checks
from jaxssl.transforms.checks import IntScalar
from jaxssl.transforms.frames import (
    below,
    distinct,
    draw_bits,
    inside,
    placed,
    released_turn,
    turned,
)
from jaxssl.types import Array, Int, Key, Shaped

KINDS = ("speed", "random", "periodic", "warp")
"""The temporal transformations tau = 0, 1, 2, 3 in the order of the thesis."""

VARIANTS = ("paper", "literal", "released")

_MAX_KAPPA = 3
_MAX_GAP = 8  # Up to 7 frames are skipped between two frames of a warped clip.


def max_kappa(
    num_frames: IntScalar, *, length: int = 16, variant: str = "paper"
) -> Int[Array, ""]:
    """Return the fastest speed for which a video has enough frames.

    Args:
      num_frames: of the video; may be traced.
      length: static number of frames of a clip.
      variant: ``paper`` and ``literal`` need (length - 1) 2^kappa + 1 frames, those
        that a clip spans; ``released`` needs length 2^kappa.

    Returns:
      int32, 0 to 3; 0 also for a video that is too short for any clip.

    Raises:
      ValueError, TypeError: see `speed_indices`.

    References:
      "The maximal possible speed type", thesis section 5.2.3.
    """
    return _fastest(frame_count(num_frames, length), length, variant)


def speed_indices(
    key: Key[Array, ""],
    num_frames: IntScalar,
    kappa: IntScalar,
    *,
    length: int = 16,
    variant: str = "paper",
) -> Int[Array, " length"]:
    """Draw every 2^kappa-th frame from a random first one on.

    Args:
      key: a typed key.
      num_frames: of the video; may be traced.
      kappa: speed, 0 to 3, lowered to `max_kappa`; may be traced, and is then moved
        into that range.
      length: static number of frames to draw, 2 or more.
      variant: ``released`` leaves out the last 2^kappa - 1 of the first frames that
        would fit.

    Returns:
      int32 indices, rho + [0, 2^kappa, ..., (length - 1) 2^kappa].

    Raises:
      ValueError: if ``num_frames`` is a Python int below ``length``, ``kappa`` one
        outside [0, 3], or the length or the variant is wrong.
      TypeError: if ``num_frames`` or ``kappa`` is not whole.

    References:
      V_kappa^0, thesis section 5.2.1.

    Example:
      >>> import jax
      >>> speed_indices(jax.random.key(0), 9, 1, length=5)
      Array([0, 2, 4, 6, 8], dtype=int32)
    """
    frames = frame_count(num_frames, length)
    step = _step(frames, kappa, length, variant)
    offsets = step * jnp.arange(length, dtype=jnp.int32)
    window = length * step if variant == "released" else offsets[-1] + 1
    return placed(draw_bits(key, length).place, offsets, window, frames)


def random_indices(
    key: Key[Array, ""],
    num_frames: IntScalar,
    kappa: IntScalar,
    *,
    length: int = 16,
) -> Int[Array, " length"]:
    """Draw frames that follow each other, in random order.

    Args:
      key: a typed key.
      num_frames: of the video; may be traced.
      kappa: checked, but without influence, as the thesis fixes it to 0 here.
      length: static number of frames to draw, 2 or more.

    Returns:
      int32 indices, rho + permutation([0, ..., length - 1]); one in length! draws
      leaves the order as it is.

    Raises:
      ValueError, TypeError: see `speed_indices`.

    References:
      V_0^1, thesis section 5.2.1; thesis and released code agree.
    """
    checks.within(kappa, "kappa", _MAX_KAPPA)
    draw = draw_bits(key, length)
    offsets = jnp.argsort(draw.frames).astype(jnp.int32)
    return placed(draw.place, offsets, length, frame_count(num_frames, length))


def periodic_indices(
    key: Key[Array, ""],
    num_frames: IntScalar,
    kappa: IntScalar,
    *,
    length: int = 16,
    variant: str = "paper",
) -> Int[Array, " length"]:
    """Draw frames that run forward to a random point and back again.

    Args:
      key: a typed key.
      num_frames: of the video; may be traced.
      kappa: speed; see `speed_indices`.
      length: static number of frames to draw, 7 or more.
      variant: ``literal`` always starts or ends at frame 0, which would let a network
        recognise the clip by its place; ``paper`` moves it to a random place;
        ``released`` cuts it from 2 (length - 2) frames, forward and back, so that the
        turning frame may come twice and the way forth has 2 to length - 2 frames.

    Returns:
      int32 indices.

    Raises:
      ValueError, TypeError: see `speed_indices`.

    References:
      V_kappa^2, thesis section 5.2.1.
    """
    if length < 7:
        raise ValueError(
            f"length must be at least 7 for a periodic clip; got {length}. Use 16."
        )
    frames, draw = frame_count(num_frames, length), draw_bits(key, length)
    step = _step(frames, kappa, length, variant)
    if variant == "released":
        offsets, window = released_turn(draw, step, length), (length - 1) * step
    else:
        offsets = turned(draw, step, length)
        window = offsets.max() + 1
    if variant == "literal":
        return inside(offsets, frames)
    return placed(draw.place, offsets, window, frames)


def warp_indices(
    key: Key[Array, ""],
    num_frames: IntScalar,
    kappa: IntScalar,
    *,
    length: int = 16,
    variant: str = "paper",
) -> Int[Array, " length"]:
    """Draw ordered frames with a random number of skipped frames in between.

    At most 7 frames are skipped, or as many as fit for every draw in a shorter video.
    Where that is none (below 2 length - 1 frames) the result is ``length`` different
    frames of the whole video, in order, all sets of them equally likely, as in the
    released code: else a warped clip would look like a slow one.

    Args:
      key: a typed key.
      num_frames: of the video; may be traced.
      kappa: has no influence; see `random_indices`.
      length: static number of frames to draw, 2 or more.
      variant: ``paper`` skips 0 to 7 frames, as the thesis says in words; ``literal``
        moves on by 0 to 7 frames, as its formula has it, and so repeats frames;
        ``released`` moves on by 1 to 2^m frames, m being the video's `max_kappa`, and
        takes different frames of the whole video where m is below 2.

    Returns:
      int32 indices in ascending order.

    Raises:
      ValueError, TypeError: see `speed_indices`.

    References:
      V_0^3, thesis section 5.2.1.
    """
    checks.choice(variant, VARIANTS, "variant")
    checks.within(kappa, "kappa", _MAX_KAPPA)
    frames, draw = frame_count(num_frames, length), draw_bits(key, length)
    if variant == "released":
        gap = 2 ** _fastest(frames, length, variant)
        gaps = 1 + below(draw.frames, gap)
        window = length * gap
        offsets = jnp.minimum(jnp.cumsum(gaps), window - 1)
        steady = gap > 2
    else:
        low = int(variant == "paper")
        gap = jnp.clip((frames - 1) // (length - 1), 1, _MAX_GAP - 1 + low)
        gaps = low + below(draw.frames[1:], gap + 1 - low)
        offsets = jnp.pad(jnp.cumsum(gaps), (1, 0))
        window = offsets[-1] + 1
        steady = gap > low
    regular = placed(draw.place, offsets, window, frames)
    return jnp.where(steady, regular, distinct(draw, frames, length))


def temporal_indices(
    key: Key[Array, ""],
    kind: IntScalar,
    num_frames: IntScalar,
    kappa: IntScalar,
    *,
    length: int = 16,
    variant: str = "paper",
) -> Int[Array, " length"]:
    """Draw frames by one of the four rules; which one may be traced.

    The result is bit by bit that of the rule of this kind with the same key.

    ====  ========  ========================
    kind  rule      number in released code
    ====  ========  ========================
    0     speed     0
    1     random    2
    2     periodic  1
    3     warp      3
    ====  ========  ========================

    Args:
      key: a typed key.
      kind: tau, 0 to 3 as above; may be traced, and is then moved into that range.
      num_frames: of the video; may be traced.
      kappa: speed; see `speed_indices`.
      length: static number of frames to draw, 7 or more.
      variant: see the rules.

    Returns:
      int32 indices.

    Raises:
      ValueError, TypeError: as `speed_indices`, for ``kind`` as for ``kappa``.

    References:
      Thesis section 5.2.1.
    """
    kind = checks.within(kind, "kind", len(KINDS) - 1)
    # All rules share the key, and so the bits: only one of the results is ever seen.
    indices = [
        named_indices(name, key, num_frames, kappa, length=length, variant=variant)
        for name in KINDS
    ]
    return jnp.stack(indices)[kind]


def named_indices(
    name: str,
    key: Key[Array, ""],
    num_frames: IntScalar,
    kappa: IntScalar,
    *,
    length: int,
    variant: str,
) -> Int[Array, " length"]:
    """Draw frames by the rule of a name out of `KINDS`, which is static."""
    checks.choice(name, KINDS, "classes")
    if name == "random":
        return random_indices(key, num_frames, kappa, length=length)
    rules = {"speed": speed_indices, "periodic": periodic_indices, "warp": warp_indices}
    return rules[name](key, num_frames, kappa, length=length, variant=variant)


def take_frames(
    clip: Shaped[Array, "*lead t h w c"], indices: Int[Array, " length"]
) -> Shaped[Array, "*lead length h w c"]:
    """Gather frames of a video.

    Args:
      clip: any dtype and value range; uint8 is gathered as such.
      indices: which frames, in the order wanted; one outside of the video takes the
        nearest frame.

    Returns:
      The frames.

    Raises:
      ValueError: if the rank of the clip or of the indices is wrong.
      TypeError: if the indices are not whole.
    """
    checks.image_size(clip)
    if clip.ndim < 4 or clip.shape[-4] < 1:
        raise ValueError(
            f"clip must have the axes (..., T, H, W, C) and a frame; got {clip.shape}."
        )
    if indices.ndim != 1:
        raise ValueError(
            f"indices must be one row of frame numbers; got {indices.shape}. Use "
            "jax.vmap for indices that differ per clip."
        )
    return jnp.take(clip, checks.whole(indices, "indices"), axis=-4, mode="clip")


# --- Shared


def _fastest(frames: Array, length: int, variant: str) -> Array:
    checks.choice(variant, VARIANTS, "variant")
    steps = 2 ** jnp.arange(1, _MAX_KAPPA + 1, dtype=jnp.int32)
    needed = length * steps if variant == "released" else (length - 1) * steps + 1
    return (needed <= frames).sum(dtype=jnp.int32)


def _step(frames: Array, kappa: Any, length: int, variant: str) -> Array:
    """Return 2^kappa, kappa being at most what the video allows."""
    kappa = checks.within(kappa, "kappa", _MAX_KAPPA)
    return 2 ** jnp.minimum(kappa, _fastest(frames, length, variant))


def frame_count(num_frames: Any, length: int) -> Array:
    """Return the number of frames, 1 at least, as int32; see `speed_indices`."""
    if not isinstance(length, numbers.Integral) or length < 2:
        raise ValueError(f"length must be a Python int of 2 or more; got {length}.")
    known = checks.known(num_frames, "num_frames")
    if known is not None and known < length:
        raise ValueError(
            f"num_frames must be at least the clip's {length}; got {num_frames}. Leave "
            "short videos out, or repeat their frames."
        )
    return jnp.maximum(checks.whole(num_frames, "num_frames"), 1)
