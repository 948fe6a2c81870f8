"""The CPU-sized networks of chapter 8."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.models.convnet import convnet
from jaxssl.models.mlp import mlp


def count(network, shape):
    params, _ = jax.eval_shape(
        network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    )
    return sum(x.size for x in jax.tree.leaves(params))


def test_parameter_counts():
    dense = 2352 * 256 + 256 * 256
    assert count(mlp(10), (28, 28, 3)) == dense + 4 * 256 + 2570
    assert count(mlp(10, norm=False), (28, 28, 3)) == dense + 2 * 256 + 2570
    convolutions = 9 * (3 * 16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64)
    # 28, 14, 7 and 4 pixels: SAME pools round up.
    fc = 4 * 4 * 64 * 256 + 2 * 256
    assert count(convnet(10), (28, 28, 3)) == convolutions + fc + 2570


def test_the_plain_mlp_is_the_literal_one():
    network = mlp(4, features=(5, 3), norm=False)
    x = np.random.default_rng(0).normal(size=(6, 2, 2, 3)).astype(np.float32)
    params, stats = network.init(jax.random.key(1), x)
    assert stats == {}
    outputs, _ = network.apply(params, stats, jnp.asarray(x), train=True)
    params = jax.tree.map(np.asarray, params)
    y = x.reshape(6, 12)
    for name in ("fc1", "fc2"):
        y = np.maximum(y @ params[name]["kernel"] + params[name]["bias"], 0)
        np.testing.assert_allclose(outputs[name], y, rtol=1e-4, atol=1e-5)
    y = y @ params["logits"]["kernel"] + params["logits"]["bias"]
    np.testing.assert_allclose(outputs["logits"], y, rtol=1e-4, atol=1e-5)


def test_dropout_is_active_wherever_a_key_is_given(fill):
    network = mlp(4, features=(64,), dropout=0.5)
    x = jax.random.normal(jax.random.key(0), (4, 2, 2, 3))
    params, stats = fill(network, x)

    def logits(x, **how):
        outputs, after = network.apply(params, stats, x, **how)
        return np.asarray(outputs["logits"]), after

    keys = [jax.random.key(i) for i in range(2)]
    trained = [logits(x, train=True, key=key)[0] for key in keys]
    assert not np.allclose(*trained)
    sampled = [logits(x, train=False, key=key) for key in keys]
    assert not np.allclose(sampled[0][0], sampled[1][0])
    assert sampled[0][1] is stats  # Batch norm is in inference mode.
    many = jax.vmap(
        lambda key: network.apply(params, stats, x, train=False, key=key)[0]["logits"]
    )
    mean = jax.jit(many)(jax.random.split(jax.random.key(2), 200)).mean(axis=0)
    np.testing.assert_allclose(mean, logits(x, train=False)[0], atol=0.3)
    with pytest.raises(UserError, match="needs a key in training"):
        network.apply(params, stats, x, train=True)


def test_a_trunk_runs_on_the_parameters_of_the_whole(fill):
    whole, trunk = convnet(10), convnet(None)
    x = jnp.ones((2, 12, 12, 3))
    params, stats = fill(whole, x)
    outputs, _ = jax.jit(functools.partial(trunk.apply, train=False))(params, stats, x)
    assert list(outputs) == ["conv1", "conv2", "conv3"]
    assert outputs["conv3"].shape == (2, 3, 3, 64)


@pytest.mark.parametrize(
    ("make", "settings", "words"),
    [
        (mlp, {"features": (0,)}, r"features\[0\] is 0"),
        (mlp, {"dropout": 1.0}, "dropout is 1.0"),
        (convnet, {"channels": (16, 0)}, r"channels\[1\] is 0"),
        (convnet, {"bn_momentum": 1.0}, "bn_momentum is 1.0"),
    ],
)
def test_impossible_settings_are_refused(make, settings, words):
    with pytest.raises(UserError, match=words):
        make(10, **settings)
