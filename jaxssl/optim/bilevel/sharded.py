"""One mini-batch a device, at the traffic of a data-parallel all-reduce.

A ring all-reduce is a reduce-scatter and an all-gather. Here the reduction has to wait
for the weights, so its first half becomes an all-to-all: each device then holds one
k-th of all k gradients, adds up its part of their inner products and, once those are
summed over the devices (k^2 numbers at most), its part of the weighted sum. The exact
solver costs no more traffic than the diagonal one.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxssl.optim.bilevel import stacked
from jaxssl.optim.bilevel.groups import Groups, Leaves
from jaxssl.optim.bilevel.problem import Problem, Side
from jaxssl.optim.bilevel.strategies import Found
from jaxssl.optim.bilevel.weights import Rule
from jaxssl.types import Array, Num


def exchange(
    problem: Problem, rule: Rule, batch: Any, state: Any, k: int, axis_name: str
) -> Found:
    """Weigh one gradient from each device of an axis; see `value_and_grad`.

    Raises:
      ValueError: the axis has not k devices.
    """
    size = lax.axis_size(axis_name)
    if size != k:
        raise ValueError(
            f"strategy='shard' runs one mini-batch a device; got k={k} and {size} "
            f"devices on the axis {axis_name!r}. Take k={size}, or strategy='scan' and "
            "shard the examples of each mini-batch instead."
        )
    side, gradient = _own_gradient(problem, batch, state, axis_name)
    blocks = [
        _scatter(block, k, axis_name) for block in _pack(problem.groups, gradient)
    ]
    # From here on each group is one block, of which this device has a k-th.
    number = len(problem.groups.names)
    whole = Groups(tuple(range(number)), problem.groups.names, True)
    parts = stacked.inner_products(whole, rule, blocks, 0)
    info = stacked.solve_groups(rule, lax.psum(parts, axis_name))
    sums = stacked.weigh(whole, rule, info, blocks, 0)
    full = [lax.all_gather(x, axis_name, tiled=True, to="invarying") for x in sums]
    return _unpack(problem.groups, full, gradient), side, info


def _own_gradient(
    problem: Problem, batch: Any, state: Any, axis_name: str
) -> tuple[Side, Leaves]:
    """Compute this device's gradient, and what the devices say together of the rest."""
    index = lax.axis_index(axis_name)
    # Parameters that are the same everywhere would get a gradient that is already
    # summed over the devices.
    own = problem._replace(params=_varying(problem.params, axis_name))
    minibatch = jax.tree.map(lambda x: x[0], batch)
    side, gradient = own.gradient(minibatch, index, _varying(state, axis_name))
    last = lax.axis_size(axis_name) - 1

    def one_state(x):
        real = jnp.issubdtype(x.dtype, jnp.inexact)
        if problem.reduce_state == "mean" and real:
            return lax.pmean(x, axis_name)
        return lax.psum(jnp.where(index == last, x, jnp.zeros_like(x)), axis_name)

    return Side(
        lax.pmean(side.loss, axis_name),
        jax.tree.map(one_state, side.state),
        jax.tree.map(lambda x: jnp.asarray(x)[None], side.aux),
    ), gradient


def _varying(tree: Any, axis_name: str) -> Any:
    def cast(x):
        x = jnp.asarray(x)
        same = axis_name not in jax.typeof(x).manual_axis_type.varying
        return lax.pcast(x, axis_name, to="varying") if same else x

    return jax.tree.map(cast, tree)


def _pack(groups: Groups, leaves: Leaves) -> list[Num[Array, " size"]]:
    """Make one vector of each group."""
    parts: list[list[Array]] = [[] for _ in groups.names]
    for member, leaf in zip(groups.used, leaves, strict=True):
        parts[member].append(leaf.reshape(-1))
    return [jnp.concatenate(part) for part in parts]


def _unpack(groups: Groups, blocks: list[Array], like: Leaves) -> Leaves:
    """Cut the vectors into leaves again."""
    starts = [0 for _ in groups.names]
    leaves = []
    for member, leaf in zip(groups.used, like, strict=True):
        start = starts[member]
        starts[member] += leaf.size
        part = blocks[member][start : start + leaf.size]
        leaves.append(part.reshape(leaf.shape).astype(leaf.dtype))
    return leaves


def _scatter(block: Array, k: int, axis_name: str) -> Num[Array, "k part"]:
    """Return this device's k-th of all devices' vectors."""
    rows = jnp.pad(block, (0, -block.size % k)).reshape(k, -1)
    return lax.all_to_all(rows, axis_name, split_axis=0, concat_axis=0)
