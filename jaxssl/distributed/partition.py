"""How the state lies on the mesh: rules from paths to mesh axes, and two presets.

The sharding of a leaf follows from shapes alone. So a rule that does not fit is refused
before anything is compiled, and the message names the leaf.
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

# Under ``fsdp``, parameters with fewer numbers are replicated: gathering them costs
# more time than the saved memory is worth.
MIN_SIZE = 2**14


def place(state: TrainState, mesh: Mesh, config: meshes.MeshConfig) -> TrainState:
    """Give every leaf of an abstract state its sharding.

    The first of these that applies decides:

    1. A leaf of ``opt_state`` has the sharding of its parameter: the parameter of the
       same player and of the same shape whose path ends the leaf's own path.
    2. The first rule whose expression is found in the path.
    3. A leaf of ``extra`` has the sharding of its parameter, as in 1; the path may also
       end with the player and the parameter's path. So averaged weights in
       ``extra/<player>/average/...`` or ``extra/average/<player>/...`` lie where the
       weights lie, and their update moves no byte between devices.
    4. Under ``fsdp``, a parameter of at least `MIN_SIZE` numbers is split along the
       largest axis that ``mesh.data`` divides.
    5. Every device has the whole leaf: the step, statistics, a history buffer.

    Args:
      state: shapes and dtypes.
      mesh: the devices.
      config: preset and rules.

    Returns:
      Abstract arrays with shardings.

    Raises:
      UserError: a rule does not fit a leaf whose path it matches, or decides no leaf.
    """
    shapes = {path: tuple(shape) for path, (_, shape) in trees.describe(state).items()}
    specs: dict[str, PartitionSpec] = {}
    used = set()
    for path, shape in shapes.items():
        part, *_ = path.split("/")
        rules = () if part == "opt_state" else config.rules
        if rule := next((rule for rule in rules if re.search(rule[0], path)), None):
            specs[path] = _apply_rule(*rule, path, shape, mesh)
            used.add(rule[0])
        elif part in ("opt_state", "extra"):
            specs[path] = specs.get(_find_parameter(path, shapes), PartitionSpec())
        elif part == "params" and config.params == "fsdp":
            specs[path] = _split_largest(shape, mesh)
        else:
            specs[path] = PartitionSpec()
    _check_used(config, used, shapes)
    leaves, tree = jax.tree.flatten(state)
    placed = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))
        for leaf, spec in zip(leaves, specs.values(), strict=True)
    ]
    return jax.tree.unflatten(tree, placed)


def _apply_rule(
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


def _split_largest(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    parts = mesh.shape[DATA]
    fits = [i for i, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or not fits or math.prod(shape) < MIN_SIZE:
        return PartitionSpec()
    largest = max(fits, key=lambda i: (shape[i], i))
    return PartitionSpec(*[None] * largest, DATA)


def _find_parameter(path: str, shapes: dict[str, tuple]) -> str:
    """Return the parameter of a leaf of ``opt_state`` or ``extra``, or ``""``."""
    _, player, *_ = path.split("/")
    matches = []
    for name, shape in shapes.items():
        suffix = name.removeprefix("params/").removeprefix(f"{player}/")
        fits = shape == shapes[path] and path.endswith(f"/{suffix}")
        if name.startswith("params/") and fits:
            matches.append(name)
    return max(matches, key=len, default="")


def _check_used(config: meshes.MeshConfig, used: set, shapes: dict) -> None:
    for pattern, _ in config.rules:
        if pattern not in used:
            names = [path for path in shapes if not path.startswith("opt_state/")]
            raise UserError(
                f"mesh.rules: {pattern!r} is the first rule of no leaf; the leaves are "
                f"named like {names[-1]!r}.{nearest(pattern, names)}"
            )


def gather(params: Any, abstract: Any) -> Any:
    """Inside a step, put together parameters that are split over ``data``.

    Otherwise XLA may split the work along the parameters instead of along the batch.
    Axes that are split over ``model`` stay split.

    Args:
      params: the traced parameters.
      abstract: their shapes and shardings.

    Returns:
      The parameters.
    """

    def gather_leaf(x, like):
        spec = like.sharding.spec
        if DATA not in spec:
            return x
        kept = PartitionSpec(*(None if axis == DATA else axis for axis in spec))
        return jax.lax.with_sharding_constraint(
            x, NamedSharding(like.sharding.mesh, kept)
        )

    return jax.tree.map(gather_leaf, params, abstract)


def axes(state: TrainState) -> set[str]:
    """Return the mesh axes over which a leaf of the state is split.

    Args:
      state: arrays, abstract or not, with shardings.
    """
    specs = [leaf.sharding.spec for leaf in jax.tree.leaves(state)]
    return {axis for spec in specs for axis in spec if axis is not None}


def describe(state: TrainState, mesh: Mesh) -> str:
    """Return a line that says how the state lies on the mesh.

    Args:
      state: arrays, abstract or not, with shardings.
      mesh: the devices.
    """
    leaves = jax.tree.leaves(state)
    num_split = sum(not leaf.sharding.is_fully_replicated for leaf in leaves)
    on_device = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in leaves
    )
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    line = (
        f"mesh: data {mesh.shape[DATA]} x model {mesh.shape[MODEL]}; "
        f"{num_split} of {len(leaves)} leaves of the state are split, "
        f"{on_device / 1e6:.1f} of {total / 1e6:.1f} MB on each device"
    )
    if mesh.shape[MODEL] > 1 and MODEL not in axes(state):
        line += "; no rule uses model, so its devices repeat each other's work"
    return line
