"""ResNet: the published parameter counts, map sizes, stems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.models.resnet import Block, resnet


@pytest.mark.parametrize(
    ("depth", "expected", "features"),
    [(18, 11_689_512, 512), (34, 21_797_672, 512), (50, 25_557_032, 2048)],
)
def test_parameter_counts_and_map_sizes(abstract, depth, expected, features):
    params, outputs = abstract(resnet(depth, 1000), 2, 224, 224, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    assert outputs["conv1"].shape == (2, 112, 112, 64)
    for stage, side in enumerate((56, 28, 14, 7)):
        channels = features // 2 ** (3 - stage)
        assert outputs[f"stage{stage + 1}"].shape == (2, side, side, channels)
    assert outputs["pool"].shape == (2, features)
    assert outputs["logits"].shape == (2, 1000)


def test_small_stem_keeps_the_resolution(abstract):
    params, outputs = abstract(resnet(34, None, stem="small"), 2, 64, 64, 3)
    assert params["conv1"]["conv"]["kernel"].shape == (3, 3, 3, 64)
    assert outputs["conv1"].shape == outputs["stage1"].shape == (2, 64, 64, 64)
    assert outputs["stage4"].shape == (2, 8, 8, 512)
    assert "logits" not in outputs
    assert "logits" not in params


def test_narrow_network_trains(fill, images):
    network = resnet(18, 3, stem="small", width=4, bn_momentum=0.9)
    x = images(6, 16, 16, 3)
    labels = jnp.asarray([0, 1, 2, 0, 1, 2])
    params, stats = fill(network, x)

    def loss(params, stats):
        outputs, stats = network.apply(params, stats, x, train=True)
        logs = jax.nn.log_softmax(outputs["logits"])
        return -jnp.take_along_axis(logs, labels[:, None], 1).mean(), stats

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    values = []
    for _ in range(15):
        (value, stats), grads = step(params, stats)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize(("expansion", "stride"), [(1, 1), (1, 2), (4, 1), (4, 2)])
def test_block_adds_its_input(expansion, stride):
    """With the last scale at zero only the shortcut is left."""
    block = Block(4, expansion, stride, 0.9, 1e-5)
    x = jnp.abs(jax.random.normal(jax.random.key(1), (2, 8, 8, 4 * expansion)))
    variables = block.init(jax.random.key(0), x, train=False)
    last = "conv2" if expansion == 1 else "conv3"
    variables["params"][last]["norm"]["scale"] *= 0.0
    y = block.apply(variables, x, train=False)
    if stride == 1:
        assert "project" not in variables["params"]
        np.testing.assert_allclose(y, x, rtol=1e-6)
        return
    kernel = variables["params"]["project"]["conv"]["kernel"][0, 0]
    expected = jnp.maximum(x[:, ::2, ::2] @ kernel / jnp.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="depth is 101; allowed: 18, 34, 50"):
        resnet(101, 10)
    with pytest.raises(UserError, match="stem is 'cifar'; allowed: imagenet, small"):
        resnet(18, 10, stem="cifar")
