"""Weigh gradients that are all there at once, stacked on a leading axis of k."""

import functools

import jax
import jax.numpy as jnp

from jaxssl.optim.bilevel import weights
from jaxssl.optim.bilevel.groups import Groups, Leaves, inner, scaled
from jaxssl.optim.bilevel.weights import Info, Rule
from jaxssl.types import Array, Bool, Float


def combine(
    groups: Groups, rule: Rule, stack: Leaves, val_index: int
) -> tuple[Leaves, Info]:
    """Return the weighted sum of stacked gradients (eq. 8.11) and how it came about.

    Args:
      groups: which leaves share a weight.
      rule: the settings.
      stack: gradients, [k, ...] each.
      val_index: which of the k is the validation gradient.

    Returns:
      The update in the gradients' dtype, and what is known of each group (with the axis
      of groups in front).
    """
    info = solve_groups(rule, inner_products(groups, rule, stack, val_index))
    return weigh(groups, rule, info, stack, val_index), info


def weigh(
    groups: Groups, rule: Rule, info: Info, stack: Leaves, val_index: int
) -> Leaves:
    """Return the weighted sum of stacked gradients, in their dtype."""
    factors = jax.vmap(lambda one: factors_of(rule, one, val_index))(info)
    spread = jax.vmap(functools.partial(scaled, groups), in_axes=(1, 0))(factors, stack)
    return [x.sum(axis=0).astype(g.dtype) for x, g in zip(spread, stack, strict=True)]


def inner_products(
    groups: Groups, rule: Rule, stack: Leaves, val_index: int
) -> Float[Array, "layers rows k"]:
    """Return those inner products of k gradients that the solver needs.

    Args:
      groups: which leaves share a weight.
      rule: the settings.
      stack: gradients, [k, ...] each.
      val_index: which of the k is the validation gradient.

    Returns:
      For the exact solver the Gram matrix; else two rows, the products with the
      validation gradient and the squared norms. Validation comes first in each.
    """
    k = len(stack[0])
    order = [val_index, *(i for i in range(k) if i != val_index)]
    product = functools.partial(inner, groups)
    against = jax.vmap(product, in_axes=(0, None))
    if rule.solver == "exact":
        # Row by row: as one k x k matrix product it is up to 300 times slower on CPU,
        # and in bfloat16 on TPU.
        rows = [against(stack, [g[i] for g in stack]) for i in order]
    else:
        validation = [g[val_index] for g in stack]
        rows = [against(stack, validation), jax.vmap(product)(stack, stack)]
    return jnp.stack(rows)[:, jnp.array(order)].transpose(2, 0, 1)


def solve_groups(rule: Rule, products: Float[Array, "layers rows k"]) -> Info:
    """Return what `weights.solve` says about each group of `inner_products`."""

    def solve(rows):
        if rule.solver == "exact":
            return weights.solve(rule, rows[0, 1:], jnp.diag(rows)[1:], rows, None)
        return weights.solve(rule, rows[0, 1:], rows[1, 1:], None, rows[0, 0])

    return jax.vmap(solve)(products)


def factors_of(rule: Rule, info: Info, val_index: int) -> Float[Array, " k"]:
    """Return the factor of each of the k gradients in the update."""
    of_validation = jnp.where(steps_along_validation(rule, info), 1, 0)
    left, right = info.weights[:val_index], info.weights[val_index:]
    return jnp.concatenate([left, of_validation.astype(left.dtype)[None], right])


def steps_along_validation(rule: Rule, info: Info) -> Bool[Array, "*layers"]:
    """Say whether the validation gradient stands in for the sum."""
    if rule.on_zero != "validation":
        return jnp.zeros(info.skipped.shape, bool)
    if rule.finite_only and info.val_norm is not None:
        return info.skipped & jnp.isfinite(info.val_norm)
    return info.skipped


def shown(groups: Groups, info: Info) -> Info:
    """Drop the axis of groups where all leaves share one weight."""
    return info if groups.per_layer else jax.tree.map(lambda x: x[0], info)
