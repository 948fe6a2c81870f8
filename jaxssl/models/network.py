"""From a linen module to a ``Network``: two pure functions over plain dicts.

`compute_in` and `rematerialized` change in which type any ``Network`` computes, and
what it keeps in memory for the gradient.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxssl.ops.primitive import convolution_p
from jaxssl.types import Array, Float, Key, Network, Outputs, Params, Shaped, Stats


def from_linen(module: nn.Module, *, head: tuple[str, ...] = ()) -> Network:
    """Wrap a linen module as a ``Network``.

    The module is called as ``module(x, train=...)`` and returns a dict of endpoints.
    Its ``params`` collection becomes the parameters, its ``batch_stats`` collection the
    statistics (an empty dict for a module without one).

    ``init(key, x)`` reads only the shape and the type of ``x``, which may be a
    ``jax.ShapeDtypeStruct``, and runs no forward pass. ``apply`` draws dropout from
    ``key``, where a key is given; without ``train`` it returns the ``stats`` that it
    was given, the same object. ``apply`` accepts the parameters of a larger network: a
    trunk runs on the parameters of the whole network.

    Args:
      module: an unbound linen module.
      head: see `jaxssl.types.Network`. A trunk names the head of the whole network,
        although it lacks these layers: a run that trained the whole network stored
        them, and a trunk leaves them behind.

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

    return Network(init, apply, head)


KEPT = (convolution_p, lax.conv_general_dilated_p, lax.dot_general_p)
"""Primitives whose results `rematerialized` keeps: they take most of the time."""


def compute_in(network: Network, dtype: Any) -> Network:
    """Compute a network in another floating point type.

    Parameters, statistics, outputs and gradients stay float32: parameters and images
    are converted before the first layer, and the transpose of that conversion brings
    the gradients back. Batch norm takes means and variances in float32; features are
    pooled in float32, and a dense layer on pooled features computes in float32.

    Args:
      network: its layers compute in the type of what they are given.
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

    return network._replace(apply=apply)


def rematerialized(network: Network) -> Network:
    """Compute the cheap layers a second time for the gradient, to save memory.

    The results of convolutions and matrix products are kept; norms, activations, pools
    and dropout are computed again from them. The values are the same.

    Args:
      network: whose cheap layers are computed twice in training.

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

    return network._replace(apply=apply)


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
