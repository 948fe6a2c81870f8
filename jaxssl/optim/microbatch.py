"""A large batch on a small device: means over micro-batches, one after the other.

Losses are means over the batch, so their gradient is the mean of the gradients of
micro-batches of equal size, and so are the metrics. What looks at the whole batch looks
at a micro-batch here: batch norm normalises by its statistics, and mixup mixes within
it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from optax import microbatching

from jaxssl.types import Array, Int


def mean(
    function: Callable[[Any, Int[Array, ""]], Any],
    batch: Any,
    *,
    num_micro: int,
    together: int = 1,
) -> Any:
    """Return the mean of a function over the micro-batches of a batch.

    A loop: the memory is that of one micro-batch and of two results. Rows are dealt
    like cards: micro-batch i takes rows i, i + m, i + 2 m and so on, or groups of
    neighbours. Devices that share the batch evenly so share each micro-batch evenly,
    and every row stays where it is; contiguous parts would lie on one device.

    Args:
      function: takes a micro-batch and its number, and returns a pytree of floating
        point arrays: gradients, statistics, metrics.
      batch: leaves [b, ...].
      num_micro: micro-batches, m.
      together: number of neighbouring rows that go to the same micro-batch.

    Returns:
      What the function returns, averaged.

    Raises:
      ValueError: ``num_micro * together`` does not divide b.
    """
    size = len(jax.tree.leaves(batch)[0])
    if size % (num_micro * together):
        raise ValueError(
            f"the batch has {size} rows; {num_micro} micro-batches must share "
            f"it evenly{f' in groups of {together}' if together > 1 else ''}. Give "
            f"a multiple of {num_micro * together}, or fewer micro-batches."
        )

    def of_groups(groups, numbers):
        part = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), groups)
        return function(part, numbers[0])

    groups = jax.tree.map(lambda x: x.reshape(-1, together, *x.shape[1:]), batch)
    return microbatching.microbatch(
        of_groups,
        argnums=(0, 1),
        microbatch_size=size // together // num_micro,
        accumulator=microbatching.AccumulationType.MEAN,
    )(groups, jnp.arange(size // together, dtype=jnp.int32) % num_micro)
