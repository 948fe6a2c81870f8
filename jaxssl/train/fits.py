"""What does not fit into memory, as far as shapes tell before anything is compiled.

Compilers know how much a program needs when they are done; on the way there a network
that is a million times too wide takes all memory. Here is only what cannot be avoided:
the state, a batch, and the largest result of a matrix product or a convolution.
"""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend import core
from jax.sharding import Mesh

from jaxssl import memory
from jaxssl.errors import UserError
from jaxssl.ops.primitive import convolution_p
from jaxssl.types import Batch, TrainState

WORKER_BYTES = 100 << 20
"""Memory of a process that reads, at least: half of what its imports take, 190 MiB."""

PRODUCTS = ("dot_general", "conv_general_dilated", convolution_p.name)
"""Primitives whose results are written to memory whatever the compiler does."""


def check_step(
    program: core.ClosedJaxpr, state: TrainState, spec: Batch, mesh: Mesh
) -> None:
    """Raise if a training step cannot fit into the memory of its devices.

    Args:
      program: the traced step.
      state: its shapes and shardings.
      spec: shapes of a global batch.
      mesh: the devices.

    Raises:
      UserError: names what is too large, the memory at hand and what to change.
    """
    limit, sharers = _memory(mesh)
    rows = next(iter(spec.values())).shape[0]
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): _shard_bytes(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    largest = max(leaves, key=lambda path: leaves[path])
    smaller = "take a smaller train.batch_size or smaller images"
    check(
        f"the state, most of it {largest},",
        sum(leaves.values()) * sharers,
        "make the network smaller",
        limit,
    )
    parts = math.prod(mesh.devices.shape)
    batch = sum(_bytes(one) for one in spec.values()) * sharers // parts
    check(f"a batch of {rows} rows", batch, smaller, limit)
    product = max(map(_bytes, products(program.jaxpr)), default=0) * sharers // parts
    check(
        f"a layer's result for {rows} rows",
        product,
        f"{smaller}, or make the network smaller",
        limit,
    )


def check_workers(num_workers: int) -> None:
    """Raise if the processes that read data cannot fit into memory.

    Args:
      num_workers: how many there are.

    Raises:
      UserError: names their number, their size and the memory at hand.
    """
    check(
        f"reading in {num_workers} processes",
        num_workers * WORKER_BYTES,
        "take a smaller train.num_workers",
    )


def check(what: str, size: int, advice: str, limit: int | None = None) -> None:
    """Raise unless something fits into memory.

    Args:
      what: needs the memory.
      size: bytes that it needs at least.
      advice: what to do.
      limit: bytes of memory; by default what this machine has at hand.

    Raises:
      UserError: names what, its size, the memory and the advice.
    """
    limit = memory.available() if limit is None else limit
    if size > limit:
        raise UserError(
            f"{what} takes {_gib(size)} GiB at least, and there are {_gib(limit)} GiB "
            f"of memory; {advice}."
        )


def products(program: core.Jaxpr) -> Iterator[Any]:
    """Yield shape and dtype of each matrix product and convolution of a program."""
    for equation in program.eqns:
        if equation.primitive.name in PRODUCTS:
            yield equation.outvars[0].aval
        for called in core.jaxprs_in_params(equation.params):
            yield from products(called)


def _memory(mesh: Mesh) -> tuple[int, int]:
    """Return the bytes of a memory, and how many of the devices share it."""
    own = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    stats = own[0].memory_stats() if own[0].platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"], 1
    return memory.available(), len(own)


def _bytes(one: Any) -> int:
    return math.prod(one.shape) * one.dtype.itemsize


def _shard_bytes(leaf: Any) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f}"
