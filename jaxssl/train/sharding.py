"""Where arrays live: one mesh axis, ``data``; the state is replicated over it.

Methods are written for the global batch and name no axis: XLA inserts the reductions.
Each process contributes its own contiguous rows of every global batch.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxssl.types import UserError

DATA = "data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The section ``mesh`` of a config.

    Attributes:
      data: how many devices share the batch; -1 takes all there are.
    """

    data: int = -1

    def __post_init__(self):
        """Check what needs no device."""
        if self.data == 0 or self.data < -1:
            raise UserError(
                f"data is {self.data}; give a number of devices, or -1 for all of them."
            )


def make_mesh(config: Config) -> Mesh:
    """Lay the devices out along the axis ``data``.

    Args:
      config: how many devices.

    Returns:
      A mesh of one axis, in Auto mode.

    Raises:
      UserError: more devices are asked for than there are.
    """
    devices = jax.devices()
    size = len(devices) if config.data == -1 else config.data
    if size > len(devices):
        raise UserError(
            f"mesh.data is {size}, but there are {len(devices)} {devices[0].platform} "
            "devices; give at most that many, or -1 for all of them."
        )
    return jax.make_mesh(
        (size,), (DATA,), axis_types=(AxisType.Auto,), devices=devices[:size]
    )


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raise unless the global batch splits evenly over devices and processes.

    Raises:
      UserError: names the batch size and what does not divide it.
    """
    for parts, what in (
        (mesh.shape[DATA], "devices of mesh.data"),
        (jax.process_count(), "processes"),
    ):
        if batch_size % parts:
            raise UserError(
                f"train.batch_size is {batch_size}, which the {parts} {what} cannot "
                f"share evenly; give a multiple of {parts}."
            )


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of the state: every device has all of it."""
    return NamedSharding(mesh, PartitionSpec())


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
    """Return this process's own copy of replicated arrays, without moving any byte.

    Evaluations run on one device: a state that sits on the whole mesh would make every
    device repeat the same work.
    """
    return jax.tree.map(lambda x: x.addressable_data(0), tree)
