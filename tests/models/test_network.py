"""`from_linen`, `from_pixels` and batch-norm averages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl.models.alexnet import alexnet
from jaxssl.models.critic import critic
from jaxssl.models.network import from_linen, from_pixels

SHAPE = (4, 32, 32, 3)


def test_inference_hands_back_the_very_statistics(fill, images):
    network = critic(depth=2, num_stages=1)
    x = images(1, 4, 4, 3)
    params, stats = fill(network, x)
    assert network.apply(params, stats, x, train=False)[1] is stats


def test_init_reads_shapes_only():
    network = critic(depth=2, num_stages=1)
    x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    init = jax.jit(lambda key: network.init(key, x))
    by_shape, other = init(jax.random.key(0)), init(jax.random.key(1))
    by_value = jax.jit(network.init)(jax.random.key(0), jnp.full(SHAPE, jnp.nan))
    for a, b in zip(jax.tree.leaves(by_shape), jax.tree.leaves(by_value), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    kernels = [p[0]["logits"]["kernel"] for p in (by_shape, other)]
    assert bool(jnp.any(kernels[0] != kernels[1]))


def test_statistics_move_by_the_momentum(fill, images):
    network = alexnet(None, width=1 / 16, bn_momentum=0.9)
    x = images(*SHAPE)
    params, stats = fill(network, x)
    move = jax.jit(lambda stats: network.apply(params, stats, x, train=True)[1])
    zero = move(jax.tree.map(jnp.zeros_like, stats))["conv1"]["norm"]
    moved, before = move(stats)["conv1"]["norm"], stats["conv1"]["norm"]
    for name in ("mean", "var"):
        expected = 0.9 * before[name] + zero[name]
        np.testing.assert_allclose(moved[name], expected, rtol=1e-4, atol=1e-4)
    assert float(zero["var"].min()) > 0


class Dropped(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return {"x": nn.Dropout(0.5, deterministic=not train)(nn.Dense(64)(x))}


def test_key_feeds_dropout_and_a_module_without_statistics_has_none():
    network = from_linen(Dropped())
    x = jnp.ones((2, 3))
    params, stats = network.init(jax.random.key(0), x)
    assert stats == {}
    one, moved = network.apply(params, stats, x, train=True, key=jax.random.key(1))
    two, _ = network.apply(params, stats, x, train=True, key=jax.random.key(2))
    again, _ = network.apply(params, stats, x, train=True, key=jax.random.key(1))
    assert moved == {}
    assert bool(jnp.any(one["x"] != two["x"]))
    np.testing.assert_array_equal(one["x"], again["x"])


def test_pixels_become_minus_one_to_one():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    found = from_pixels(image)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found.ravel(), np.linspace(-1, 1, 256), atol=1e-6)
    unchanged = jnp.asarray([-1.0, 0.25, 1.0], jnp.bfloat16)
    np.testing.assert_array_equal(from_pixels(unchanged), [-1.0, 0.25, 1.0])
    with pytest.raises(TypeError, match="Images are int32; allowed: uint8"):
        from_pixels(jnp.ones((2, 2), jnp.int32))
