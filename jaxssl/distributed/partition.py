"""How the state lies on the mesh: rules from paths to axes, and two presets.

A leaf's place is found once, from shapes alone, so what does not divide is refused by
name before anything is compiled.
"""

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxssl import trees
from jaxssl.config.checks import nearest
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed.mesh import DATA, MODEL
from jaxssl.errors import UserError
from jaxssl.types import TrainState

MIN_SIZE = 2**14
"""Under ``fsdp``, smaller parameters stay whole: fetching them costs, they do not."""

Places = dict[str, PartitionSpec]
"""Path of a leaf to how it is split."""


def place(state: TrainState, mesh: Mesh, config: meshes.MeshConfig) -> TrainState:
    """Give every leaf of an abstract state its sharding.

    Rules come first. Under ``fsdp`` the largest axis that ``mesh.data`` divides of each
    other parameter of at least ``MIN_SIZE`` numbers is split; parameters without such
    an axis, statistics and all else stay whole. An optimizer's leaf goes where the
    parameter goes whose path ends its own and whose shape it has.

    Args:
      state: shapes and dtypes.
      mesh: where it will live.
      config: preset and rules.

    Returns:
      Abstract arrays with shardings.

    Raises:
      UserError: a rule does not fit a leaf that it names, or names none.
    """
    leaves = {path: tuple(shape) for path, (_, shape) in trees.describe(state).items()}
    places: Places = {}
    used = set()
    for path, shape in leaves.items():
        if path.startswith("opt_state/"):
            places[path] = _follow(path, shape, leaves, places)
            continue
        for pattern, axes in config.rules:
            if re.search(pattern, path):
                places[path] = _explicit(pattern, axes, path, shape, mesh)
                used.add(pattern)
                break
        else:
            fully = config.params == "fsdp" and path.startswith("params/")
            places[path] = _fsdp(shape, mesh) if fully else PartitionSpec()
    _check_used(config, used, leaves)
    shardings = [NamedSharding(mesh, spec) for spec in places.values()]
    flat, tree = jax.tree.flatten(state)
    placed = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
        for leaf, where in zip(flat, shardings, strict=True)
    ]
    return jax.tree.unflatten(tree, placed)


def _explicit(
    pattern: str, axes: tuple[str, ...], path: str, shape: tuple, mesh: Mesh
) -> PartitionSpec:
    if len(axes) > len(shape):
        raise UserError(
            f"mesh.rules: {pattern!r} gives {len(axes)} axes to {path}, which has the "
            f"shape {shape}; give at most {len(shape)}."
        )
    for i, axis in enumerate(axes):
        if axis and shape[i] % mesh.shape[axis]:
            raise UserError(
                f"mesh.rules: {pattern!r} splits axis {i} of {path} over mesh.{axis}, "
                f"but {mesh.shape[axis]} does not divide {shape[i]} (its shape is "
                f"{shape}); change the rule or mesh.{axis}."
            )
    return PartitionSpec(*(axis or None for axis in axes))


def _fsdp(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    parts = mesh.shape[DATA]
    fits = [i for i, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or not fits or math.prod(shape) < MIN_SIZE:
        return PartitionSpec()
    best = max(fits, key=lambda i: (shape[i], i))
    return PartitionSpec(*(DATA if i == best else None for i in range(best + 1)))


def _follow(path: str, shape: tuple, leaves: dict, places: Places) -> PartitionSpec:
    """Return the place of the parameter that an optimizer's leaf belongs to."""
    _, player, *_ = path.split("/")
    start = f"params/{player}/"
    found = [
        name
        for name in leaves
        if name.startswith(start)
        and path.endswith("/" + name.removeprefix(start))
        and leaves[name] == shape
    ]
    return places[max(found, key=len)] if found else PartitionSpec()


def _check_used(config: meshes.MeshConfig, used: set, leaves: dict) -> None:
    for pattern, _ in config.rules:
        if pattern not in used:
            names = [path for path in leaves if not path.startswith("opt_state/")]
            raise UserError(
                f"mesh.rules: {pattern!r} is the first rule of no leaf; they are named "
                f"like {names[-1]!r}.{nearest(pattern, names)}"
            )


def gather(params: Any, abstract: Any) -> Any:
    """Inside of a step, put together what is split over ``data``.

    Else XLA may split the work along parameters instead of along the batch. What is
    split over ``model`` stays so.

    Args:
      params: the traced parameters.
      abstract: their shapes and shardings.

    Returns:
      The parameters.
    """

    def one(x, like):
        spec = like.sharding.spec
        if DATA not in spec:
            return x
        kept = PartitionSpec(*(None if axis == DATA else axis for axis in spec))
        whole = NamedSharding(like.sharding.mesh, kept)
        return jax.lax.with_sharding_constraint(x, whole)

    return jax.tree.map(one, params, abstract)


def axes(state: TrainState) -> set[str]:
    """Return the mesh axes over which a leaf of the state is split.

    Args:
      state: arrays, abstract or not, with shardings.
    """
    specs = [leaf.sharding.spec for leaf in jax.tree.leaves(state)]
    return {axis for spec in specs for axis in spec if axis is not None}


def tell(state: TrainState, mesh: Mesh) -> str:
    """Say in one line how the state lies on the mesh.

    Args:
      state: arrays, abstract or not, with shardings.
      mesh: where they lie.
    """
    leaves = jax.tree.leaves(state)
    number = sum(not leaf.sharding.is_fully_replicated for leaf in leaves)
    own = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in leaves
    )
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    line = (
        f"mesh: data {mesh.shape[DATA]} x model {mesh.shape[MODEL]}; "
        f"{number} of {len(leaves)} leaves of the state are split, "
        f"{own / 1e6:.1f} of {total / 1e6:.1f} MB on each device"
    )
    if mesh.shape[MODEL] > 1 and MODEL not in axes(state):
        line += "; no rule uses model, so its devices repeat each other's work"
    return line
