"""The mesh: two axes, ``data`` and ``model``; and the batch that is split over it.

Methods are written for the global batch and name no axis: XLA inserts the reductions.
Both axes are always there, of size 1 where nothing is split. Each process contributes
its own contiguous rows of every global batch. How the state lies on the mesh is the
matter of `jaxssl.distributed.partition`.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxssl.config.checks import choice
from jaxssl.errors import UserError

DATA, MODEL = "data", "model"
WHOLE = ""
"""In a rule, an axis of an array that is not split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The section ``mesh`` of a config.

    Attributes:
      data: devices that share the batch; -1 takes all there are, divided by ``model``.
      model: devices that share an array where ``rules`` say so, and repeat the work of
        each other where they do not.
      params: ``replicated``, every device holds all of the state; or ``fsdp``, large
        parameters and their optimizer's leaves are split over ``data`` and put together
        for each step.
      rules: pairs of a regular expression and the mesh axes of an array, one for each
        of its axes, ``""`` for whole: ``("fc1/kernel", ("", "model"))``. The expression
        is searched in paths as ``params/classifier/fc1/kernel``; the first that is
        found counts, before ``params``. Leaves of an optimizer follow their parameter.
    """

    data: int = -1
    model: int = 1
    params: str = "replicated"
    rules: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def __post_init__(self):
        """Check what needs no device."""
        if self.data == 0 or self.data < -1:
            raise UserError(
                f"data is {self.data}; give a number of devices, or -1 for all of them."
            )
        if self.model < 1:
            raise UserError(f"model is {self.model}; give a number of devices.")
        choice("params", self.params, ("replicated", "fsdp"))
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
    """Lay the devices out along the axes ``data`` and ``model``.

    Neighbours along ``model`` are near each other; slices of a TPU, which only a slower
    network joins, are told apart by ``data`` alone.

    Args:
      config: how many devices along each axis.
      devices: those there are; all of this run by default.

    Returns:
      A mesh in Auto mode.

    Raises:
      UserError: there are not as many devices, or slices or processes cannot share them
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
    grid = _lay_out(shape, chosen, everything=len(chosen) == len(devices))
    # Each process reads contiguous rows of a batch. A grid that mixes the processes, as
    # a TPU's may, would put the rows of the global batch in another order than a single
    # process has them in; so the rows of each stand together, in the processes' order.
    owners = [tuple(sorted({d.process_index for d in row})) for row in grid]
    grid = grid[sorted(range(shape[0]), key=lambda i: (owners[i], i))]
    mesh = Mesh(grid, (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)
    _parts(mesh)  # Parts that are not equal are told here, not at the first batch.
    return mesh


def _shape(config: MeshConfig, devices: Sequence[Any]) -> tuple[int, int]:
    count, model = len(devices), config.model
    kind, many = devices[0].platform, count > 1
    there = f"there {'are' if many else 'is'} {count} {kind} device{'s' * many}"
    if config.data == -1:
        if count % model:
            raise UserError(
                f"mesh.model is {model}, but {there}; give a number that divides them, "
                "or a mesh.data of its own."
            )
        return count // model, model
    if config.data * model > count:
        product = f"mesh.data x mesh.model is {config.data} x {model}"
        raise UserError(
            f"{product if model > 1 else f'mesh.data is {config.data}'}, but {there}; "
            "give at most that many, or -1 for all of them."
        )
    return config.data, model


def _lay_out(shape: tuple[int, int], devices: list, *, everything: bool) -> np.ndarray:
    slices = {getattr(d, "slice_index", 0) for d in devices}
    if devices[0].platform == "cpu" or not everything:
        return np.array(devices).reshape(shape)  # Nothing is near or far.
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


def _parts(mesh: Mesh) -> list[frozenset[int]]:
    """Return the processes that read each part of a batch, part by part.

    Processes that share devices along ``model`` read the same rows.

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
    """Return which part of every global batch this process reads, and of how many.

    Returns:
      The index and the number of parts; one process has (0, 1). Processes whose devices
      differ only along ``model`` read the same part.
    """
    parts = _parts(mesh)
    mine = [i for i, part in enumerate(parts) if jax.process_index() in part]
    return mine[0], len(parts)


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
    """Say in one line if devices share a batch evenly, but not its mini-batches.

    XLA then moves rows between devices in each step, without a word.

    Args:
      batch_size: rows of a global batch.
      minibatches: how many a step takes one after the other.
      mesh: the devices.

    Returns:
      The line, or None.
    """
    size, parts = batch_size // minibatches, mesh.shape[DATA]
    if minibatches == 1 or size % parts == 0:
        return None  # `check_batch` has a word on whole batches.
    return (
        f"NOTE: each of a step's {minibatches} mini-batches has {size} rows, "
        f"which the {parts} devices of mesh.data cannot share evenly, so rows move "
        "between devices in every step. A train.batch_size that is a multiple of "
        f"{minibatches * parts}, or another mesh.data, spares that."
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of what every device has all of."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put all of an array that every process has on each device of the mesh."""
    return jax.jit(lambda tree: tree, out_shardings=replicated(mesh))(tree)


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: rows go to the devices in order."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def to_devices(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Put this process's rows of a global batch on its devices.

    Args:
      batch: NumPy arrays (local rows, ...).
      mesh: where to.

    Returns:
      The global batch as arrays that are split over ``data``.
    """
    return {
        name: jax.make_array_from_process_local_data(split(mesh), rows)
        for name, rows in batch.items()
    }


def local(tree: Any) -> Any:
    """Return this process's own copy of arrays, on one device.

    Replicated arrays move no byte. Those that are split are put together first, so
    where there are several processes, all have to ask at the same time.

    Evaluations run on one device: a state that sits on the whole mesh would make every
    device repeat the same work.

    Raises:
      TypeError: an array that is split lies on no mesh.
    """

    def one(x: jax.Array) -> jax.Array:
        if not x.is_fully_replicated:
            if not isinstance(x.sharding, NamedSharding):
                raise TypeError(f"an array lies on {x.sharding}; give one on a mesh")
            whole = NamedSharding(x.sharding.mesh, PartitionSpec())
            x = jax.device_put(x, whole)
        return x.addressable_data(0)

    return jax.tree.map(one, tree)
