"""Four ways to the same gradient on one device, which differ in time and memory.

All return the weighted gradient of the leaves that count, the `Side` of the step
(losses [k], one state, aux [k, ...]), and the `Info` with its axis of groups.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxssl.optim.bilevel import stacked, weights
from jaxssl.optim.bilevel.groups import (
    Groups,
    Leaves,
    accumulator,
    inner,
    scaled,
    widened,
)
from jaxssl.optim.bilevel.problem import (
    Problem,
    Side,
    minibatch_at,
    next_mean,
    reduce_states,
)
from jaxssl.optim.bilevel.weights import Info, Rule
from jaxssl.types import Array, Float

Found = tuple[Leaves, Side, Info]

Loop = Callable[..., tuple[Any, Any]]
"""Like `jax.lax.scan`: ``loop(body, carry, xs) -> (carry, ys)``."""


class Carry(NamedTuple):
    """What goes from one training mini-batch to the next.

    Attributes:
      weighted: sum of w_i g_i, in float32 or wider; divided by the |w|_1 so far where
        the weights are normalised.
      l1: |w|_1 so far, for each group.
      plain: sum of the g_i that are usable, if ``on_zero="uniform"``; else empty.
      state: the state so far; see `Problem.reduce_state`.
    """

    weighted: Leaves
    l1: Float[Array, " layers"]
    plain: Leaves
    state: Any


# --- One pass: no gradient outlives its turn


def one_pass(problem: Problem, rule: Rule, batch: Any, state: Any, loop: Loop) -> Found:
    """Weigh each gradient as it comes.

    Two gradients and the sum are alive at a time. The sum is divided by the |w|_1 so
    far in each turn, not once at the end: where |g| is 1e-13, w_i g_i is below all
    float32. The exact solver needs all gradients before it knows any weight, so it
    stacks them.
    """
    if rule.solver == "exact":
        return _stack_then_weigh(problem, rule, batch, state, loop)
    k = len(jax.tree.leaves(batch)[0])
    groups = problem.groups
    first, g_v = problem.gradient(minibatch_at(batch, 0), 0, state)

    def body(carry: Carry, index):
        side, g_i = _turn(problem, batch, index, state, carry.state)
        row = inner(groups, g_v, g_i), inner(groups, g_i, g_i)
        raw = weights.raw_weights(rule, *row).astype(carry.l1.dtype)
        l1 = carry.l1 + jnp.abs(raw)
        weighted = _add_weighted(groups, rule, carry, raw, l1, g_i)
        plain = carry.plain
        if rule.on_zero == "uniform":
            usable = weights.usable(rule, *row).astype(raw.dtype)
            plain = _add(plain, scaled(groups, usable, g_i))
        after = _passed_on(problem, carry.state, side.state, index)
        return Carry(weighted, l1, plain, after), (side.loss, side.aux, row)

    zeros = [jnp.zeros_like(widened(g)) for g in g_v]
    plain = zeros if rule.on_zero == "uniform" else []
    val_square = inner(groups, g_v, g_v)
    start = Carry(zeros, jnp.zeros_like(val_square), plain, first.state)
    carry, (losses, auxs, (dots, squares)) = loop(body, start, jnp.arange(1, k))
    rows = [jnp.concatenate([val_square[None], row]) for row in (dots, squares)]
    info = stacked.solve_groups(rule, jnp.stack(rows).transpose(2, 0, 1))
    leaves = _finish(problem, rule, info, carry, g_v)
    return leaves, Side(*_joined(first, losses, auxs, carry.state)), info


def _turn(problem: Problem, batch, index, first_state, carried):
    """Compute one gradient, from the state that it is meant to see."""
    sequential = problem.reduce_state == "sequential"
    seen = carried if sequential else first_state
    return problem.gradient(minibatch_at(batch, index), index, seen)


def _passed_on(problem: Problem, carried, new, index):
    if problem.reduce_state == "mean":
        return next_mean(carried, new, index)
    return new


def _joined(first: Side, losses, auxs, state):
    """Put the validation mini-batch in front of the others."""
    return _join(first.loss, losses), state, jax.tree.map(_join, first.aux, auxs)


def _join(one, rest):
    return jnp.concatenate([jnp.asarray(one)[None], rest])


def _add(total: Leaves, new: Iterable[Array]) -> Leaves:
    return [a + b for a, b in zip(total, new, strict=True)]


def _add_weighted(groups: Groups, rule: Rule, carry: Carry, raw, l1, g_i) -> Leaves:
    """Return the weighted sum with one more gradient in it."""
    if rule.normalize is None:
        return _add(carry.weighted, scaled(groups, raw, g_i))
    divisor = jnp.where(l1 == 0, 1, l1)
    before = scaled(groups, carry.l1 / divisor, carry.weighted)
    return _add(before, scaled(groups, raw / divisor, g_i))


def _finish(problem: Problem, rule: Rule, info: Info, carry: Carry, g_v) -> Leaves:
    """Put in what ``on_zero`` asks for."""
    groups, none, sums = problem.groups, info.skipped, carry.weighted
    if rule.on_zero == "uniform":
        share = jnp.where(none, info.weights.max(axis=-1), 0)
        sums = _add(sums, scaled(groups, share, carry.plain))
    if rule.on_zero == "validation":
        along = stacked.steps_along_validation(rule, info).astype(info.l1.dtype)
        sums = _add(sums, scaled(groups, along, g_v))
    return [x.astype(g.dtype) for x, g in zip(sums, g_v, strict=True)]


def plain_pass(
    problem: Problem, batch: Any, state: Any, loop: Loop
) -> tuple[Leaves, Side]:
    """Take the mean of the k gradients, the validation mini-batch's among them."""
    k = len(jax.tree.leaves(batch)[0])
    first, gradient = problem.gradient(minibatch_at(batch, 0), 0, state)

    def body(carry, index):
        total, carried = carry
        side, g_i = _turn(problem, batch, index, state, carried)
        after = _passed_on(problem, carried, side.state, index)
        return (_add(total, map(widened, g_i)), after), (side.loss, side.aux)

    start = [widened(g) for g in gradient], first.state
    (total, after), (losses, auxs) = loop(body, start, jnp.arange(1, k))
    mean = [(x / k).astype(g.dtype) for x, g in zip(total, gradient, strict=True)]
    return mean, Side(*_joined(first, losses, auxs, after))


def _stack_then_weigh(
    problem: Problem, rule: Rule, batch: Any, state: Any, loop: Loop
) -> Found:
    k = len(jax.tree.leaves(batch)[0])
    first, g_v = problem.gradient(minibatch_at(batch, 0), 0, state)

    def body(carried, index):
        side, g_i = _turn(problem, batch, index, state, carried)
        after = _passed_on(problem, carried, side.state, index)
        return after, (side.loss, side.aux, g_i)

    after, (losses, auxs, rest) = loop(body, first.state, jnp.arange(1, k))
    stack = [_join(g, others) for g, others in zip(g_v, rest, strict=True)]
    leaves, info = stacked.combine(problem.groups, rule, stack, 0)
    return leaves, Side(*_joined(first, losses, auxs, after)), info


def unrolled(body: Callable, carry: Any, indices: Any) -> tuple[Any, Any]:
    """Run a scan's body in a Python loop, for which XLA compiles every turn."""
    found = []
    for index in range(1, len(indices) + 1):
        carry, y = body(carry, index)
        found.append(y)
    return carry, jax.tree.map(lambda *ys: jnp.stack(ys), *found)


# --- All at once


def vectorised(problem: Problem, rule: Rule, batch: Any, state: Any) -> Found:
    """Stack all k gradients with `jax.vmap`: k times the parameters in memory."""
    k = len(jax.tree.leaves(batch)[0])
    each = jax.vmap(problem.gradient, in_axes=(0, 0, None))
    sides, stack = each(batch, jnp.arange(k), state)
    leaves, info = stacked.combine(problem.groups, rule, stack, 0)
    state = reduce_states(sides.state, problem.reduce_state)
    return leaves, sides._replace(state=state), info


def forward(problem: Problem, rule: Rule, batch: Any, state: Any) -> Found:
    """Get <g_v, g_i> as derivatives of the losses along g_v; lambda must be infinite.

    The losses of all training mini-batches are linearised once; forwards that gives the
    inner products, backwards with the weights the update. No gradient of a single
    mini-batch appears, and so no norm of it.
    """
    k = len(jax.tree.leaves(batch)[0])
    first, g_v = problem.gradient(minibatch_at(batch, 0), 0, state)
    rest = jax.tree.map(lambda x: x[1:], batch)

    def losses(leaves):
        each = jax.vmap(problem.loss, in_axes=(None, 0, 0, None))
        return each(leaves, rest, jnp.arange(1, k), state)

    params = problem.leaves()
    found, push, sides = jax.linearize(losses, params, has_aux=True)
    dots = push(g_v).astype(accumulator(*params))
    val_square = inner(problem.groups, g_v, g_v)[0]
    info = weights.solve(rule, dots, None, None, val_square)
    pull = jax.linear_transpose(push, params)
    (sums,) = pull(info.weights.astype(found.dtype))
    if rule.on_zero == "validation":
        stands_in = stacked.steps_along_validation(rule, info)
        sums = [jnp.where(stands_in, v, x) for v, x in zip(g_v, sums, strict=True)]
    states = jax.tree.map(_join, first.state, sides.state)
    after = reduce_states(states, problem.reduce_state)
    info = jax.tree.map(lambda x: x[None], info)  # The axis of groups, one here.
    return sums, Side(*_joined(first, sides.loss, sides.aux, after)), info
