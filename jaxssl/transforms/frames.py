"""From random bits to the numbers of frames: the arithmetic of the temporal rules.

A rule in `jaxssl.transforms.time` draws offsets within a window of frames, then places
the window in the video.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.transforms.checks import IntScalar
from jaxssl.types import Array, Key


class Draw(NamedTuple):
    """The random bits of a clip, uint32: for its place, its turn and each frame."""

    place: Array
    turn: Array
    frames: Array


def draw_bits(key: Key[Array, ""], length: int) -> Draw:
    """Draw all bits at once: generators of their own would take seconds to compile."""
    bits = jax.random.bits(key, (length + 2,), jnp.uint32)
    return Draw(bits[0], bits[1], bits[2:])


def below(bits: Array, bound: Array | int) -> Array:
    """Return int32 in [0, bound), uniform up to one part in 2^32."""
    return (bits % jnp.asarray(bound).astype(jnp.uint32)).astype(jnp.int32)


def turned(draw: Draw, step: Array, length: int) -> Array:
    """Return the thesis' way forth and back; its smallest index is 0."""
    turn = 2 * step + 1 + below(draw.turn, (length - 5) * step - 1)
    whole = turn // step
    rest = turn - whole * step
    i = jnp.arange(length, dtype=jnp.int32)
    offsets = jnp.where(i <= whole, i * step, (2 * whole - i) * step + rest)
    return offsets + jnp.maximum(0, (length - 1 - 2 * whole) * step - rest)


def released_turn(draw: Draw, step: Array, length: int) -> Array:
    """Return ``length`` neighbours of a list that runs forward and back once."""
    entries = length - 2
    low = jnp.minimum(step - 1, 1)
    rest = low + below(draw.frames[0], jnp.maximum(step, 2) - low)
    i = below(draw.turn, length - 3) + jnp.arange(length, dtype=jnp.int32)
    return jnp.where(i < entries, i * step, (2 * entries - 1 - i) * step + rest)


def distinct(draw: Draw, frames: Array, length: int) -> Array:
    """Return different frames in order, every set of them as likely (R. W. Floyd)."""
    last = frames - length + jnp.arange(length, dtype=jnp.int32)
    draws = below(draw.frames, jnp.maximum(last, 0) + 1)

    def insert(i, chosen):
        taken = (chosen == draws[i]).any()
        return chosen.at[i].set(jnp.where(taken, last[i], draws[i]))

    empty = jnp.full(length, -1, jnp.int32)
    return inside(jnp.sort(jax.lax.fori_loop(0, length, insert, empty)), frames)


def placed(bits: Array, offsets: Array, window: IntScalar, frames: Array) -> Array:
    """Move offsets within a window of frames to a random place in the video."""
    return inside(below(bits, jnp.maximum(frames - window + 1, 1)) + offsets, frames)


def inside(indices: Array, frames: Array) -> Array:
    """Move indices into the video: a traced number of frames may be too small."""
    return jnp.clip(indices, 0, frames - 1)
