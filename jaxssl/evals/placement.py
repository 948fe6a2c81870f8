"""Where an evaluation runs: on the devices that hold the state."""

from typing import Any

import jax

from jaxssl.types import TrainState


def place(rows: Any, state: TrainState) -> Any:
    """Put arrays beside the network they are for.

    The transfer is explicit, so evaluations run under a transfer guard, too.

    Args:
      rows: a pytree of NumPy arrays.
      state: its parameters are on one device, or replicated over several.

    Returns:
      The same pytree as device arrays.
    """
    leaf = jax.tree.leaves(state.params)[0]
    return jax.device_put(rows, getattr(leaf, "sharding", None))
