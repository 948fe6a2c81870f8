"""Which gradients share a weight: all of them, or layer by layer; frozen ones none."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.types import Array, Float, Num, Params

Leaves = list[Num[Array, "..."]]
"""The gradients of the leaves that count, in the order of the tree."""

Mask = Any | Callable[[Params], Any]
"""Booleans for the parameters, or for whole branches, or a function that makes them."""

Labels = Any | Callable[[Params], Any]
"""Strings for the parameters, or for whole branches, or a function that makes them."""


class Groups(NamedTuple):
    """Who shares a weight with whom.

    Attributes:
      members: for each leaf of the parameters the number of its group, or None where
        it is frozen or no floating-point number.
      names: the groups' labels, sorted; ("",) where all share one weight.
      per_layer: whether labels were given.
    """

    members: tuple[int | None, ...]
    names: tuple[str, ...]
    per_layer: bool

    @property
    def used(self) -> list[int]:
        """The groups of the leaves that count, in their order."""
        return [member for member in self.members if member is not None]


def by_layer(params: Params) -> Any:
    """Label each parameter with its innermost container, for ``per_layer``.

    A kernel and its bias share a weight then. Alone, a bias would rule its own.

    Args:
      params: any pytree.

    Returns:
      The same tree of labels, as in ``encoder/conv1``.

    References:
      Weights per layer, ablation b of thesis table 8.1.
    """

    def label(path, _):
        return jax.tree_util.keystr(path[:-1], simple=True, separator="/")

    return jax.tree.map_with_path(label, params)


def make_groups(params: Params, per_layer: Labels = None, mask: Mask = None) -> Groups:
    """Sort the parameters into groups.

    Args:
      params: any pytree; leaves that are no floating-point or complex numbers count as
        frozen.
      per_layer: labels of the leaves; None to let all share one weight.
      mask: false where a parameter is frozen; None to freeze nothing.

    Returns:
      The groups.

    Raises:
      TypeError: a leaf is no array.
      ValueError: the labels or the mask do not fit the parameters, or all are frozen.
    """
    leaves, structure = jax.tree.flatten(params)
    counts = [
        jnp.issubdtype(_dtype(path, leaf), jnp.inexact)
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
    if mask is not None:
        marks = _spread(mask, params, structure, "mask")
        if not all(isinstance(mark, bool | np.bool_) for mark in marks):
            raise ValueError(
                f"mask must hold Python booleans; got {marks}. With "
                "optax.inject_hyperparams name a mask that is a function in "
                "static_args: it takes functions for schedules."
            )
        counts = [bool(mark) and here for mark, here in zip(marks, counts, strict=True)]
    if not any(counts):
        raise ValueError(
            f"Of {len(leaves)} parameters none is trained; got mask={mask}. Give a "
            "mask that is true somewhere, and parameters of floating point."
        )
    if per_layer is None:
        labels = ["" for _ in leaves]
    else:
        labels = [str(x) for x in _spread(per_layer, params, structure, "per_layer")]
    pairs = list(zip(labels, counts, strict=True))
    names = sorted({label for label, here in pairs if here})
    members = tuple(names.index(label) if here else None for label, here in pairs)
    return Groups(members, tuple(names), per_layer is not None)


def _dtype(path: Any, leaf: Any) -> Any:
    if hasattr(leaf, "dtype") or isinstance(leaf, numbers.Number):
        return jnp.result_type(leaf)
    raise TypeError(
        f"params must hold arrays alone; got a {type(leaf).__name__} at "
        f"{jax.tree_util.keystr(path) or 'the root'}. Take the arrays out of a module "
        "first, with eqx.partition(module, eqx.is_inexact_array) or nnx.split(module, "
        "nnx.Param, ...), and put it together again in loss_fn."
    )


def _spread(prefix: Any, params: Params, structure, name: str) -> list:
    """Give each leaf what its branch of ``prefix`` says."""
    if callable(prefix):
        prefix = prefix(params)
    try:
        return structure.flatten_up_to(jax.tree.broadcast(prefix, params))
    except ValueError as error:
        raise ValueError(
            f"{name} must have the parameters' structure or that of their upper "
            f"branches, or be a function that makes it: {error}"
        ) from error


def pick(groups: Groups, tree: Params) -> list[Any]:
    """Return the leaves that count: arrays, or their shapes."""
    pairs = zip(groups.members, jax.tree.leaves(tree), strict=True)
    return [leaf for member, leaf in pairs if member is not None]


def put(groups: Groups, leaves: Leaves, params: Params) -> Params:
    """Return ``params`` with ``leaves`` in place of those that count."""
    old, structure = jax.tree.flatten(params)
    new = iter(leaves)
    pairs = zip(groups.members, old, strict=True)
    return structure.unflatten([o if m is None else next(new) for m, o in pairs])


def put_gradient(groups: Groups, leaves: Leaves, params: Params) -> Params:
    """Return a gradient of the parameters: ``leaves``, and zeros where frozen."""
    return put(groups, leaves, jax.tree.map(jnp.zeros_like, params))


def accumulator(*leaves: Num[Array, "..."] | jax.ShapeDtypeStruct) -> Any:
    """Return the real dtype that sums of these arrays are kept in, float32 or wider."""
    dtype = jnp.result_type(*leaves, jnp.float32)
    return jnp.finfo(dtype).dtype


def widened(leaf: Num[Array, "..."]) -> Num[Array, "..."]:
    """Return the array in float32 or wider, complex where it is."""
    return leaf.astype(jnp.result_type(leaf, jnp.float32))


def inner(groups: Groups, a: Leaves, b: Leaves) -> Float[Array, " layers"]:
    """Return the inner product of two gradients in each group.

    Products are taken and added up in float32 or wider: half precision would round the
    weights by 1e-3, and |g|^2 overflow.
    """
    dtype = accumulator(*a)
    sums = [jnp.zeros((), dtype) for _ in groups.names]
    for member, x, y in zip(groups.used, a, b, strict=True):
        sums[member] += _dot(x, y).astype(dtype)
    return jnp.stack(sums)


def _dot(a: Num[Array, "..."], b: Num[Array, "..."]) -> Float[Array, ""]:
    a, b = widened(a), widened(b)
    product = (a.conj() * b).real if jnp.iscomplexobj(a) else a * b
    # In two steps, as a sum over whole rows is one vector instruction per row on CPU.
    # A reshape would serve as well but gathers parameters that are sharded.
    return product.sum(axis=tuple(range(product.ndim - 1))).sum()


def scaled(
    groups: Groups, weights: Float[Array, " layers"], leaves: Sequence[Array]
) -> Leaves:
    """Return each leaf times the weight of its group, in float32 or wider.

    A weight of 0 gives 0 where the leaf is not finite, too; weights that are not finite
    themselves stay visible.
    """
    found = []
    for member, leaf in zip(groups.used, leaves, strict=True):
        weight = weights[member]
        found.append(jnp.where(weight == 0, 0, weight * widened(leaf)))
    return found
