"""Networks with parameters drawn by NumPy: initializers take long to compile."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _draw(path, leaf, rng):
    name = path[-1].key
    noise = rng.normal(size=leaf.shape)
    if name == "kernel":
        value = noise * np.sqrt(2 / np.prod(leaf.shape[:-1]))
    elif name in ("scale", "var"):
        value = np.exp(0.1 * noise)
    else:
        value = 0.1 * noise if name in ("bias", "mean") else noise
    return jnp.asarray(value, leaf.dtype)


@pytest.fixture(scope="session")
def fill():
    """Give a function: network and input to parameters and statistics."""

    def fill(network, x):
        rng = np.random.default_rng(0)
        shapes = jax.eval_shape(network.init, jax.random.key(0), x)
        return jax.tree.map_with_path(lambda p, s: _draw(p, s, rng), shapes)

    return fill


@pytest.fixture(scope="session")
def abstract():
    """Give a function: network and image shape to shapes of parameters and outputs."""

    def abstract(network, *shape, train=False):
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        params, stats = jax.eval_shape(network.init, jax.random.key(0), x)
        outputs, _ = jax.eval_shape(
            lambda p, s, x: network.apply(p, s, x, train=train), params, stats, x
        )
        return params, outputs

    return abstract


@pytest.fixture(scope="session")
def images():
    """Give a function: shape to float32 images in [-1, 1]."""

    def images(*shape, seed=0):
        values = np.random.default_rng(seed).uniform(-1, 1, shape)
        return jnp.asarray(values, jnp.float32)

    return images
