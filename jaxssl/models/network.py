"""From a linen module to a ``Network``: two pure functions over plain dicts.

And around any ``Network``: in which type it computes, and what it keeps in memory.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxssl.ops.primitive import convolution_p
from jaxssl.types import Array, Float, Key, Network, Outputs, Params, Shaped, Stats


def from_linen(module: nn.Module) -> Network:
    """Wrap a linen module as a ``Network``.

    The module is called as ``module(x, train=...)`` and returns a dict of feature endpoints.
    Its ``params`` collection becomes the parameters, its ``batch_stats`` collection the
    statistics (empty where it has none).

    ``init(key, x)`` reads only the shape and the type of ``x``, which may be a
    ``jax.ShapeDtypeStruct``, and runs no forward pass. ``apply`` draws dropout from
    ``key``, where there is one; without ``train`` it hands back the very ``stats`` it
    was given. Parameters
    of a larger network are accepted: a trunk runs on those of the whole.

    Args:
      module: an unbound linen module.

    Returns:
      The network.
    """

    def init(key: Key[Array, ""], x) -> tuple[Params, Stats]:
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        variables = module.lazy_init({"params": key}, shape, train=False)
        return variables["params"], variables.get("batch_stats", {})

    def apply(
        params: Params,
        stats: Stats,
        x: Float[Array, "b ..."],
        *,
        train: bool,
        key: Key[Array, ""] | None = None,
    ) -> tuple[Outputs, Stats]:
        variables = {"params": params, "batch_stats": stats}
        rngs = {} if key is None else {"dropout": key}
        if not train:
            outputs: Any = module.apply(variables, x, train=False, rngs=rngs)
            return outputs, stats
        moved: Any
        outputs, moved = module.apply(
            variables, x, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return outputs, moved.get("batch_stats", {})

    return Network(init, apply)


KEPT = (convolution_p, lax.conv_general_dilated_p, lax.dot_general_p)
"""What `rematerialized` does not compute twice."""


def compute_in(network: Network, dtype: Any) -> Network:
    """Compute a network in another floating point type.

    Parameters, statistics, outputs and gradients stay float32: parameters and images
    are converted at the door, which also converts the gradient back. Batch norm takes
    means and variances in float32, pooled features are summed in it, and a dense layer
    on them computes in it.

    Args:
      network: any; its layers compute in the type of what they are given.
      dtype: of the maps in between, as ``bfloat16``.

    Returns:
      The network.
    """

    def convert(tree: Any, dtype: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    def apply(params, stats, x, *, train, key=None) -> tuple[Outputs, Stats]:
        params, x = convert((params, x), dtype)
        outputs, stats = network.apply(params, stats, x, train=train, key=key)
        return convert(outputs, jnp.float32), stats

    return Network(network.init, apply)


def rematerialized(network: Network) -> Network:
    """Compute the cheap layers a second time for the gradient, to save memory.

    The results of convolutions and matrix products are kept; norms, activations, pools
    and dropout are computed again from them. The values are the same.

    Args:
      network: any.

    Returns:
      The network.
    """

    def keep(primitive, *_: Any, **__: Any) -> bool:
        return primitive in KEPT

    def apply(params, stats, x, *, train, key=None) -> tuple[Outputs, Stats]:
        if not train:
            return network.apply(params, stats, x, train=False, key=key)

        def pass_through(params, stats, x, key):
            return network.apply(params, stats, x, train=True, key=key)

        return jax.checkpoint(pass_through, policy=keep)(params, stats, x, key)

    return Network(network.init, apply)


def from_pixels(
    image: Shaped[Array, "..."] | Shaped[np.ndarray, "..."],
) -> Float[Array, "..."]:
    """Bring images to the range that networks take, float32 in [-1, 1].

    Args:
      image: uint8 in 0..255, mapped by x / 127.5 - 1, or floating point, which is taken
        to be in [-1, 1] already and keeps its values.

    Returns:
      The images in float32.

    Raises:
      TypeError: the images are neither uint8 nor floating point.
    """
    image = jnp.asarray(image)
    if image.dtype == jnp.uint8:
        return image.astype(jnp.float32) / 127.5 - 1.0
    if jnp.issubdtype(image.dtype, jnp.floating):
        return image.astype(jnp.float32)
    raise TypeError(
        f"Images are {image.dtype}; allowed: uint8 in 0..255, or floating point in "
        "[-1, 1]. Convert them first."
    )
