"""Law-suite examples: transforms of transforms' parameters, and chains."""

import functools

import jax
import jax.numpy as jnp

from jaxssl import transforms as T  # noqa: N812
from tests.transforms.laws import Example

warp_chain = T.chain(T.random_vflip, functools.partial(T.random_warp, grid=(2, 3)))


def _warp_chain_params(key):
    first, second = (jax.random.fold_in(key, i) for i in range(2))
    return T.vflip_params(first), T.warp_params(second, grid=(2, 3))


def _replay(image, params):
    flip, offsets = params
    return T.warp(T.vflip(image, *flip), offsets)


def _maybe_warp_params(key):
    first, second = jax.random.split(key)
    params = T.warp_params(first, grid=(2, 3))
    return T.maybe(second, params, T.WarpParams(0.0), prob=0.5)


EXAMPLES = {
    "chain": Example(
        {"chain"},
        _replay,
        _warp_chain_params,
        warp_chain,
        identity=(T.FlipParams(jnp.array(False)), T.WarpParams(jnp.zeros((2, 3, 2)))),
        smooth=True,
    ),
    "maybe": Example({"maybe"}, T.warp, _maybe_warp_params, smooth=True),
}
