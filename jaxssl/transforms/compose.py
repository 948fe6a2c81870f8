"""From one example to a batch: one key per example, then `jax.vmap`."""

from collections.abc import Callable
from typing import Any

import jax

from jaxssl.types import Array, Int, Key


def batched(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Turn ``fn(key, example)`` into ``apply(key, batch, ids=None)``.

    Each example gets its own key. With ``ids`` (the examples' indices in their data
    set) it is ``fold_in(key, id)``, which depends on neither the batch's composition
    nor its order nor the number of devices: the same example gets the same draw. With
    no ids the key is split. Use threefry keys (the default): ``rbg`` keys under
    `jax.vmap` draw everything from the first one.

    Args:
      fn: a function of a key and one example (an array or a pytree), such as
        ``random_warp``; fix its options with `functools.partial`.

    Returns:
      The function over batches; the leading axis of every leaf is the batch. It
      raises a ValueError if the leaves or the ids disagree on its length.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxssl import transforms as T
      >>> images = jnp.zeros((2, 8, 8, 3))
      >>> out, params = T.batched(T.random_warp)(jax.random.key(0), images)
      >>> out.shape, params.offsets.shape
      ((2, 8, 8, 3), (2, 4, 4, 2))
    """

    def apply(key: Key[Array, ""], batch: Any, ids: Int[Array, " b"] | None = None):
        lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(batch)}
        if ids is not None:
            lengths.add(ids.shape)
        if len(lengths) != 1 or () in lengths:
            raise ValueError(
                "every leaf of the batch, and ids, must share the leading batch axis; "
                f"got the leading axes {sorted(lengths)}."
            )
        if ids is None:
            keys = jax.random.split(key, lengths.pop())
        else:
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
        return jax.vmap(fn)(keys, batch)

    return apply
