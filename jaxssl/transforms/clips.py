"""Batches of clips for pretext tasks: every video once in each class of time.

As in `jaxssl.transforms.pretext`, classes are static and lie on axis 1; labels are in
thesis order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms.checks import IntScalar
from jaxssl.transforms.compose import batched, class_labels
from jaxssl.transforms.time import (
    KINDS,
    frame_count,
    max_kappa,
    named_indices,
    take_frames,
)
from jaxssl.types import Array, Int, Key, Shaped


class TemporalParams(NamedTuple):
    """The clips of one video.

    Attributes:
      kappa: int32 scalar, the speed of the clips that have one; the label of the speed.
      indices: int32 (classes, length), the frames of each clip.
    """

    kappa: Int[Array, ""]
    indices: Int[Array, "k length"]


def temporal_params(
    key: Key[Array, ""],
    num_frames: IntScalar,
    *,
    length: int = 16,
    classes: Sequence[str] = KINDS,
    variant: str = "paper",
) -> TemporalParams:
    """Draw a speed for a video, uniform over those that fit, and its clips' frames.

    Args:
      key: a typed key.
      num_frames: of the video; may be traced.
      length: static number of frames of a clip.
      classes: static; any of `KINDS`.
      variant: see `jaxssl.transforms.temporal_indices`.

    Returns:
      The speed, which the clips share, and the indices.

    Raises:
      ValueError, TypeError: see `speed_indices`.

    References:
      Thesis sections 5.2.1 and 5.2.2.
    """
    fastest = max_kappa(num_frames, length=length, variant=variant)
    kappa_key, *clip_keys = jax.random.split(key, 1 + len(classes))
    kappa = jax.random.randint(kappa_key, (), 0, fastest + 1, jnp.int32)
    indices = []
    for name, clip_key in zip(classes, clip_keys, strict=True):
        drawn = named_indices(
            name, clip_key, num_frames, kappa, length=length, variant=variant
        )
        indices.append(drawn)
    return TemporalParams(kappa, jnp.stack(indices))


def temporal_batch(
    key: Key[Array, ""],
    videos: Shaped[Array, "b t h w c"],
    num_frames: Int[Array, " b"] | None = None,
    ids: Int[Array, " b"] | None = None,
    *,
    length: int = 16,
    classes: Sequence[str] = KINDS,
    variant: str = "paper",
) -> tuple[Shaped[Array, "b k length h w c"], Int[Array, "b k"], TemporalParams]:
    """Cut one clip for each temporal transformation out of each video.

    =====  ========  ========================
    label  class     label in released code
    =====  ========  ========================
    0      speed     0
    1      random    2
    2      periodic  1
    3      warp      3
    =====  ========  ========================

    Args:
      key: a typed key.
      videos: any dtype and value range; frames are gathered in their dtype.
      num_frames: how many frames of each video count, where shorter ones are padded at
        their end; more than there are count as all. None: all.
      ids: see `jaxssl.transforms.batched`.
      length: static number of frames of a clip.
      classes: static; any of `KINDS`. Label j is ``classes[j]``.
      variant: see `jaxssl.transforms.temporal_indices`.

    Returns:
      The clips, their labels, and what was drawn for each video: ``kappa`` is the label
      of the speed.

    Raises:
      ValueError: if the videos are padded to less than a clip; see `temporal_params`.

    References:
      Thesis section 5.2, figure 5.2.
    """

    def one(key, example):
        video, frames = example
        available = video.shape[0]
        frame_count(available, length)
        params = temporal_params(
            key,
            available if frames is None else jnp.minimum(frames, available),
            length=length,
            classes=classes,
            variant=variant,
        )
        clips = take_frames(video, params.indices.reshape(-1))
        return clips.reshape(*params.indices.shape, *clips.shape[1:]), params

    clips, params = batched(one)(key, (videos, num_frames), ids)
    return clips, class_labels(len(videos), len(classes)), params
