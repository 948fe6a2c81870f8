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
from jax import lax

from jaxssl.types import Array, Int


def split_rows(batch: Any, num_micro: int, *, together: int = 1) -> Any:
    """Cut the rows of a batch into micro-batches.

    They are dealt like cards: micro-batch i takes rows i, i + m, i + 2 m and so on, or
    groups of neighbours. Devices that share the batch evenly so share each micro-batch
    evenly, and every row stays where it is; contiguous parts would lie on one device.

    Args:
      batch: leaves [b, ...].
      num_micro: micro-batches, m.
      together: so many neighbouring rows stay neighbours.

    Returns:
      Leaves [m, b / m, ...].

    Raises:
      ValueError: ``num_micro * together`` does not divide b.
    """

    def split(x):
        if len(x) % (num_micro * together):
            raise ValueError(
                f"the batch has {len(x)} rows; {num_micro} micro-batches must share "
                f"it evenly{f' in groups of {together}' if together > 1 else ''}. Give "
                f"a multiple of {num_micro * together}, or fewer micro-batches."
            )
        groups = x.reshape(-1, num_micro, together, *x.shape[1:]).swapaxes(0, 1)
        return groups.reshape(num_micro, -1, *x.shape[1:])

    return jax.tree.map(split, batch)


def mean(
    function: Callable[[Any, Int[Array, ""]], Any],
    batch: Any,
    *,
    num_micro: int,
    together: int = 1,
) -> Any:
    """Return the mean of a function over the micro-batches of a batch.

    A loop (``lax.scan``): the memory is that of one micro-batch and of two results.

    Args:
      function: takes a micro-batch and its number, and returns a pytree of floating
        point arrays: gradients, statistics, metrics.
      batch: leaves [b, ...].
      num_micro: micro-batches.
      together: see `split_rows`.

    Returns:
      What the function returns, averaged.

    Raises:
      ValueError: see `split_rows`.
    """
    parts = split_rows(batch, num_micro, together=together)
    shapes = jax.eval_shape(
        lambda parts: function(jax.tree.map(lambda x: x[0], parts), jnp.int32(0)), parts
    )
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total, numbered):
        index, part = numbered
        return jax.tree.map(jnp.add, total, function(part, index)), None

    total, _ = lax.scan(add, zeros, (jnp.arange(num_micro), parts))
    return jax.tree.map(lambda leaf: leaf / num_micro, total)
