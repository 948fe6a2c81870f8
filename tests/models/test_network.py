"""`from_linen`, `from_pixels`, batch-norm averages, and computing in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl.models.alexnet import alexnet
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter
from jaxssl.models.network import from_linen, from_pixels
from jaxssl.models.resnet import resnet

SHAPE = (4, 32, 32, 3)
NETWORKS = {
    "alexnet": lambda **k: alexnet(5, width=1 / 16, fc_features=8, **k),
    "inpainter": lambda **k: inpainter(depth=4, num_layers=3, **k),
    "critic": lambda **k: critic(depth=4, num_stages=2, **k),
    "resnet18": lambda **k: resnet(18, 5, stem="small", width=4, **k),
}
networks = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS.keys())


@pytest.fixture
def example(fill, images):
    """Give a function: constructor to network, parameters, statistics, images."""

    def example(make, **options):
        network = make(**options)
        x = images(*SHAPE)
        return network, *fill(network, x), x

    return example


@networks
def test_bfloat16_computes_low_and_keeps_high(example, make):
    network, params, stats, x = example(make, dtype=jnp.bfloat16)
    exact = make()
    for leaf in jax.tree.leaves((params, stats)):
        assert leaf.dtype == jnp.float32
    outputs, moved = jax.jit(lambda x: network.apply(params, stats, x, train=True))(x)
    reference, _ = jax.jit(lambda x: exact.apply(params, stats, x, train=True))(x)
    for leaf in jax.tree.leaves(moved):
        assert leaf.dtype == jnp.float32
    for name, value in outputs.items():
        low = name not in ("logits", "image", "pool")
        assert value.dtype == (jnp.bfloat16 if low else jnp.float32)
        scale = float(jnp.abs(reference[name]).max())
        error = jnp.abs(value.astype(jnp.float32) - reference[name]).mean()
        assert float(error) < 0.05 * scale, name
    hlo = jax.jit(lambda x: network.apply(params, stats, x, train=True)).lower(x)
    assert "tensor<4x32x32x3xbf16>" in hlo.as_text()


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
