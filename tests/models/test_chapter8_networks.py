"""CifarNet, small Inception, PreAct-ResNet-18, the original AlexNet: as published."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.models import layers
from jaxssl.models.alexnet import original_alexnet
from jaxssl.models.cifarnet import cifarnet
from jaxssl.models.inception import inception
from jaxssl.models.preact_resnet import PreActBlock, preact_resnet18


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("network", "side", "expected", "shapes"),
    [
        (
            cifarnet(10),
            32,
            1_756_426,
            {
                "conv1": (32, 32, 64),
                "conv2": (16, 16, 64),
                "fc1": (384,),
                "fc2": (192,),
            },
        ),
        (cifarnet(100), 32, 1_756_426 + 90 * 193, {"logits": (100,)}),
        (
            inception(10),
            29,
            1_646_032 + 3_370,
            {
                "conv1": (27, 27, 96),
                "stage1": (27, 27, 80),
                "stage2": (14, 14, 144),
                "stage3": (7, 7, 336),
                "pool": (336,),
            },
        ),
        (inception(None), 29, 1_646_032, {"pool": (336,)}),
        (
            preact_resnet18(10),
            32,
            11_171_274,
            {"conv1": (32, 32, 64), "stage4": (4, 4, 512), "pool": (512,)},
        ),
        (
            original_alexnet(1000),
            227,
            60_965_224,
            {"conv1": (55, 55, 96), "conv2": (27, 27, 256), "conv5": (13, 13, 256)},
        ),
        (original_alexnet(20), 227, 60_965_224 - 980 * 4097, {"logits": (20,)}),
    ],
)
def test_parameter_counts_and_map_sizes(abstract, network, side, expected, shapes):
    params, outputs = abstract(network, 2, side, side, 3)
    assert count(params) == expected
    for name, shape in shapes.items():
        assert outputs[name].shape == (2, *shape), name


def test_inception_norms_shift_and_do_not_scale(abstract):
    params, _ = abstract(inception(10, width=0.125), 1, 13, 13, 3)
    for name, layer in params.items():
        if name != "logits":
            assert set(layer["norm"]) == {"bias"}, name


def literal_response_norm(x, radius, alpha, beta, bias):
    y = np.zeros_like(x)
    for c in range(x.shape[-1]):
        near = x[..., max(0, c - radius) : c + radius + 1]
        y[..., c] = x[..., c] / (bias + alpha * (near**2).sum(-1)) ** beta
    return y


@pytest.mark.parametrize(("channels", "radius"), [(12, 4), (7, 2), (3, 4)])
def test_local_response_norm_is_the_literal_one(channels, radius):
    x = 10 * np.random.default_rng(0).normal(size=(2, 3, 4, channels))
    settings = dict(radius=radius, alpha=0.02, beta=0.75, bias=2.0)
    y = layers.local_response_norm(jnp.asarray(x, jnp.float32), **settings)
    expected = literal_response_norm(x, **settings)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def literal_cifarnet(params, x):
    """Inference in float64: windows by hand, no library convolution."""

    def convolve(x, layer):
        x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (5, 5), (1, 2))
        y = np.einsum("bhwcij,ijco->bhwo", windows, layer["kernel"]) + layer["bias"]
        return np.maximum(y, 0)

    def halve(x):
        b, h, w, c = x.shape
        return x.reshape(b, h // 2, 2, w // 2, 2, c).max((2, 4))

    def norm(x):
        return literal_response_norm(x, 4, 0.001 / 9, 0.75, 1.0)

    x = norm(halve(convolve(x, params["conv1"])))
    x = halve(norm(convolve(x, params["conv2"]))).reshape(len(x), -1)
    for name in ("fc1", "fc2"):
        x = np.maximum(x @ params[name]["kernel"] + params[name]["bias"], 0)
    return x @ params["logits"]["kernel"] + params["logits"]["bias"]


def test_cifarnet_is_the_literal_one(fill, images):
    network = cifarnet(5, width=0.125)
    x = images(2, 8, 12, 3)
    params, stats = fill(network, x)
    assert stats == {}
    outputs, _ = jax.jit(lambda x: network.apply(params, stats, x, train=False))(x)
    wide = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    expected = literal_cifarnet(wide, np.asarray(x, np.float64))
    np.testing.assert_allclose(outputs["logits"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_preact_block_adds_what_it_got_or_its_projection(stride):
    """With the last kernel at zero only the shortcut is left, negative values too."""
    block = PreActBlock(4, stride, 0.9, 1e-5)
    x = jax.random.normal(jax.random.key(1), (2, 6, 6, 4))
    variables = block.init(jax.random.key(0), x, train=False)
    variables["params"]["conv2"]["kernel"] *= 0.0
    y = block.apply(variables, x, train=False)
    if stride == 1:
        assert "project" not in variables["params"]
        np.testing.assert_array_equal(y, x)
        return
    activated = jnp.maximum(x / jnp.sqrt(1 + 1e-5), 0)[:, ::2, ::2]
    expected = activated @ variables["params"]["project"]["kernel"][0, 0]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_dropout_follows_the_key_and_asks_for_it(fill, images):
    network = cifarnet(5, width=0.5)
    x = images(2, 8, 8, 3)
    params, stats = fill(network, x)
    train = jax.jit(lambda key: network.apply(params, stats, x, train=True, key=key)[0])
    one, same, other = (train(jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(one["logits"], same["logits"])
    np.testing.assert_array_equal(one["fc1"], other["fc1"])
    assert float(jnp.abs(one["logits"] - other["logits"]).max()) > 0.01
    with pytest.raises(UserError, match=r"Dropout of 0.5 needs a key in training"):
        network.apply(params, stats, x, train=True)
    without = cifarnet(5, width=0.5, dropout=0.0)
    found, _ = without.apply(params, stats, x, train=True)
    expected, _ = network.apply(params, stats, x, train=False)
    np.testing.assert_array_equal(found["logits"], expected["logits"])


def test_dropout_keeps_the_mean():
    layer = layers.Dropout(0.25)
    x = jnp.ones((200, 200))
    y = layer.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    dropped = float((y == 0).mean())
    assert dropped == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(np.unique(y), [0.0, 4 / 3], rtol=1e-6)


def test_settings_that_cannot_be_are_refused():
    for make in (cifarnet, inception, original_alexnet):
        with pytest.raises(UserError, match=r"dropout is 1\.0; it must be at least 0"):
            make(10, dropout=1.0)
    with pytest.raises(UserError, match="which leaves no channel"):
        cifarnet(10, width=0.001)
    with pytest.raises(UserError, match=r"width is 0\.0; it must be above 0"):
        inception(10, width=0.0)
    with pytest.raises(UserError, match="must be even"):
        original_alexnet(10, width=0.12)
    with pytest.raises(UserError, match="width is 0; it must be at least 1"):
        preact_resnet18(10, width=0)
