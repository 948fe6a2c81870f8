"""The mesh with its axes ``data`` and ``model``, and the batch that is split over it.

Methods are written for the global batch and name no axis: XLA inserts the reductions.
The mesh always has both axes; an axis over which nothing is split has size 1. Each
process contributes contiguous rows of every global batch.
`jaxssl.distributed.partition` decides how the state lies on the mesh.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxssl.config import fields
from jaxssl.config.checks import choice
from jaxssl.errors import UserError

DATA, MODEL = "data", "model"

# In a rule, stands for an axis of an array that is not split.
WHOLE = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The section ``mesh`` of a config.

    Attributes:
      data: number of devices that share the batch; -1 is the number of all devices
        divided by ``model``.
      model: number of devices that share an array to which a rule gives this axis. For
        all other arrays these devices repeat the same work.
      params: ``replicated``: every device holds the whole state. ``fsdp``: large
        parameters and their optimizer's leaves are split over ``data`` and put together
        for each step.
      rules: pairs of a regular expression and the mesh axes of an array, one for each
        axis of the array, ``""`` for an axis that is not split:
        ``("fc1/kernel", ("", "model"))``. The expression is searched in paths such as
        ``params/classifier/fc1/kernel``. The first rule that matches decides, before
        ``params``. Leaves of an optimizer and averaged weights follow their parameter.
    """

    data: int = fields.number(-1, at_least=-1, at_most=fields.MAX_COUNT)
    model: int = fields.count(1)
    params: str = fields.choice("replicated", ("replicated", "fsdp"))
    rules: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self):
        """Check the settings, as far as this is possible without the devices."""
        fields.validate(self)
        if self.data == 0:
            raise UserError("data is 0; give a number of devices, or -1 for all.")
        for pattern, axes in self.rules:
            try:
                re.compile(pattern)
            except re.error as error:
                raise UserError(
                    f"rules has {pattern!r}, which is no regular expression: {error}."
                ) from error
            for axis in axes:
                choice(f"rules: an axis of {pattern!r}", axis, (DATA, MODEL, WHOLE))
            split = [axis for axis in axes if axis]
            if len(split) != len(set(split)):
                raise UserError(
                    f"rules gives {pattern!r} the axes {axes}; each of 'data' and "
                    "'model' may split one axis of an array."
                )


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Arrange the devices along the axes ``data`` and ``model``.

    Neighbours along ``model`` are near each other in the hardware. Only ``data``
    crosses the slower network between the slices of a TPU.

    Args:
      config: number of devices along each axis.
      devices: the devices to use; all devices of the run by default.

    Returns:
      A mesh in Auto mode.

    Raises:
      UserError: there are too few devices, or the slices or processes cannot share them
        evenly.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = _shape(config, devices)
    chosen = devices[: shape[0] * shape[1]]
    left_out = {d.process_index for d in devices} - {d.process_index for d in chosen}
    if left_out:
        raise UserError(
            f"mesh.data x mesh.model is {shape[0]} x {shape[1]}, which leaves nothing "
            f"to do for {len(left_out)} of the processes; give a mesh of all "
            f"{len(devices)} devices, or start fewer processes."
        )
    grid = _make_grid(shape, chosen, everything=len(chosen) == len(devices))
    # Each process reads contiguous rows of a batch. The grid of a TPU may mix the
    # processes, and then the rows of the global batch would have another order than in
    # a run of one process. So the grid is sorted by process.
    owners = [tuple(sorted({d.process_index for d in row})) for row in grid]
    grid = grid[sorted(range(shape[0]), key=lambda i: (owners[i], i))]
    mesh = Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
    _find_parts(mesh)  # Raises here, and not only at the first batch.
    return mesh


def _shape(config: MeshConfig, devices: Sequence[Any]) -> tuple[int, int]:
    count, model = len(devices), config.model
    verb, plural = ("are", "s") if count > 1 else ("is", "")
    available = f"there {verb} {count} {devices[0].platform} device{plural}"
    if config.data == -1:
        if count % model:
            raise UserError(
                f"mesh.model is {model}, but {available}; give a number that divides "
                "them, or a mesh.data of its own."
            )
        return count // model, model
    if config.data * model > count:
        given = f"mesh.data is {config.data}"
        if model > 1:
            given = f"mesh.data x mesh.model is {config.data} x {model}"
        raise UserError(
            f"{given}, but {available}; give at most that many, or -1 for all of them."
        )
    return config.data, model


def _make_grid(
    shape: tuple[int, int], devices: list, *, everything: bool
) -> np.ndarray:
    """Return the devices as an array of this shape.

    Args:
      shape: sizes of ``data`` and ``model``.
      devices: the devices of the mesh.
      everything: whether these are all devices of the run, as layouts by topology need.
    """
    slices = {getattr(d, "slice_index", 0) for d in devices}
    if devices[0].platform == "cpu" or not everything:
        return np.array(devices).reshape(shape)
    if len(slices) == 1:
        return mesh_utils.create_device_mesh(
            shape, devices, allow_split_physical_axes=True
        )
    if shape[0] % len(slices):
        raise UserError(
            f"mesh.data is {shape[0]}, which the {len(slices)} slices cannot share "
            f"evenly; give a multiple of {len(slices)}."
        )
    return mesh_utils.create_hybrid_device_mesh(
        (shape[0] // len(slices), shape[1]),
        (len(slices), 1),
        devices,
        allow_split_physical_axes=True,
    )


def _find_parts(mesh: Mesh) -> list[frozenset[int]]:
    """Return, for each part of a batch, the processes that read this part.

    Processes whose devices differ only along ``model`` read the same part.

    Raises:
      UserError: the parts are not equal.
    """
    owners = [frozenset(d.process_index for d in row) for row in mesh.devices]
    parts = list(dict.fromkeys(owners))
    shared = sum(map(len, parts)) > len(frozenset().union(*parts))
    if shared or len({owners.count(part) for part in parts}) > 1:
        raise UserError(
            f"mesh.data x mesh.model is {mesh.shape[DATA]} x {mesh.shape[MODEL]}, "
            "which the processes cannot share evenly; let mesh.model divide the "
            "devices of a process, or be a multiple of them."
        )
    return parts


def share(mesh: Mesh) -> tuple[int, int]:
    """Return which part of every global batch this process reads.

    Returns:
      The index of the part and the number of parts; (0, 1) if there is one process.
      Processes whose devices differ only along ``model`` read the same part.
    """
    parts = _find_parts(mesh)
    own = [i for i, part in enumerate(parts) if jax.process_index() in part]
    return own[0], len(parts)


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raise unless the global batch splits evenly over the devices.

    Raises:
      UserError: names the batch size and what does not divide it.
    """
    parts = mesh.shape[DATA]
    if batch_size % parts:
        raise UserError(
            f"train.batch_size is {batch_size}, which the {parts} devices of mesh.data "
            f"cannot share evenly; give a multiple of {parts}."
        )


def describe_uneven_minibatches(
    batch_size: int, minibatches: int, mesh: Mesh
) -> str | None:
    """Return a note if the devices cannot share each mini-batch of a step evenly.

    In this case XLA moves rows between the devices in every step, without a warning.
    `check_batch` checks the whole batch.

    Args:
      batch_size: rows of a global batch.
      minibatches: number of mini-batches that a step takes one after the other.
      mesh: the devices.

    Returns:
      One line, or None.
    """
    size, parts = batch_size // minibatches, mesh.shape[DATA]
    if minibatches == 1 or size % parts == 0:
        return None
    return (
        f"NOTE: each of a step's {minibatches} mini-batches has {size} rows, "
        f"which the {parts} devices of mesh.data cannot share evenly, so rows move "
        "between devices in every step. Give a train.batch_size that is a multiple of "
        f"{minibatches * parts}, or another mesh.data, to avoid this."
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put arrays that every process has on each device of the mesh."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its rows go to the devices in order."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Put this process's rows of a global batch on its devices.

    Args:
      batch: NumPy arrays (local rows, ...).
      mesh: the devices.

    Returns:
      The global batch: arrays (global rows, ...) that are split over ``data``.
    """
    return {
        name: jax.make_array_from_process_local_data(split(mesh), rows)
        for name, rows in batch.items()
    }


def local(tree: Any) -> Any:
    """Return a copy of arrays on one device of this process.

    Replicated arrays are not moved. Split arrays are put together first; with several
    processes, all of them must call this function at the same time.

    Evaluations use it because they run on one device: with a state on the whole mesh,
    every device would repeat the same work.

    Raises:
      TypeError: a split array lies on no mesh.
    """

    def copy_leaf(x: jax.Array) -> jax.Array:
        if not x.is_fully_replicated:
            if not isinstance(x.sharding, NamedSharding):
                raise TypeError(f"an array lies on {x.sharding}; give one on a mesh")
            x = jax.device_put(x, NamedSharding(x.sharding.mesh, PartitionSpec()))
        return x.addressable_data(0)

    return jax.tree.map(copy_leaf, tree)
