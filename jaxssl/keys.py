"""Where randomness comes from: one root key, folded by step, stream and sample."""

import jax

from jaxssl.types import Array, Int, Key


def per_example(key: Key[Array, ""], ids: Int[Array, " b"]) -> Key[Array, " b"]:
    """Give each sample its own key, from its index in the data set.

    The key does not depend on the position in the batch, on the batch size or on the
    device, so a sample's views are the same on any number of devices.

    Args:
      key: the key of this step and this stream.
      ids: index of each sample in its data set.

    Returns:
      One key a sample.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, ids)
