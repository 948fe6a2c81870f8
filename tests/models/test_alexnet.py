"""AlexNet: parameter counts, map sizes, and a forward pass written with SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from jaxssl.errors import UserError
from jaxssl.models.alexnet import RGB_MEAN, alexnet

DEMO = dict(
    width=0.25,
    groups=1,
    stem_kernel=5,
    stem_stride=2,
    fc_features=256,
    init="he",
    bn_momentum=0.95,
)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("num_classes", "size", "expected"),
    [
        (None, 64, 2_335_456),
        (6, 64, 2_335_456 + 33_595_398),
        (6, 128, 2_335_456 + 83_927_046),
    ],
)
def test_parameter_counts(abstract, num_classes, size, expected):
    params, _ = abstract(alexnet(num_classes), 2, size, size, 3)
    assert count(params) == expected


def test_demo_network_is_one_call(abstract):
    params, outputs = abstract(alexnet(5, **DEMO), 2, 32, 32, 3)
    assert count(params) == 564_413
    shapes = [outputs[f"conv{i}"].shape[1:] for i in range(1, 6)]
    assert shapes == [(16, 16, 24), (8, 8, 64), (4, 4, 96), (4, 4, 96), (4, 4, 64)]
    assert params["conv1"]["conv"]["kernel"].shape == (5, 5, 3, 24)
    assert params["fc2"]["dense"]["kernel"].shape == (256, 256)


@pytest.mark.parametrize(
    ("size", "padding", "sides"),
    [
        (64, "SAME", (16, 8, 4, 4, 4)),
        (96, "SAME", (24, 12, 6, 6, 6)),
        (128, "SAME", (32, 16, 8, 8, 8)),
        (227, "VALID", (55, 27, 13, 13, 13)),
    ],
)
def test_map_sizes(abstract, size, padding, sides):
    _, outputs = abstract(alexnet(6, padding=padding), 2, size, size, 3, train=True)
    channels = (96, 256, 384, 384, 256)
    for i, (side, c) in enumerate(zip(sides, channels, strict=True)):
        assert outputs[f"conv{i + 1}"].shape == (2, side, side, c)
    assert outputs["logits"].shape == (2, 6)


def test_pool5_halves_what_the_dense_layers_read(abstract):
    params, outputs = abstract(alexnet(6, padding="VALID", pool5=True), 2, 227, 227, 3)
    assert params["fc1"]["dense"]["kernel"].shape == (6 * 6 * 256, 4096)
    assert outputs["conv5"].shape == (2, 13, 13, 256)


def test_trunk_runs_on_the_parameters_of_the_whole_at_any_size(fill, images, abstract):
    small = dict(width=1 / 16, fc_features=8)
    whole, trunk = alexnet(6, **small), alexnet(None, **small)
    x = images(2, 32, 32, 3)
    params, stats = fill(whole, x)
    outputs, _ = jax.jit(lambda x: whole.apply(params, stats, x, train=False))(x)
    endpoints, _ = jax.jit(lambda x: trunk.apply(params, stats, x, train=False))(x)
    assert set(outputs) - set(endpoints) == {"logits"}
    for name, endpoint in endpoints.items():
        np.testing.assert_allclose(endpoint, outputs[name], rtol=1e-5, atol=1e-5)
    larger = jax.ShapeDtypeStruct((1, 96, 80, 3), jnp.float32)
    endpoints = jax.eval_shape(
        lambda x: trunk.apply(params, stats, x, train=False)[0], larger
    )
    assert endpoints["conv5"].shape == (1, 6, 5, 16)
    assert set(abstract(trunk, 1, 32, 32, 3)[0]) == {f"conv{i}" for i in range(1, 6)}


def initial(network, *paths):
    """Draw the parameters at some paths; the others are not computed."""
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    @jax.jit
    def draw():
        params, _ = network.init(jax.random.key(0), x)
        return [params[layer][part][leaf] for layer, part, leaf in paths]

    return draw()


def test_initial_weights_have_the_stated_deviation():
    shrink = 0.8796256610342398  # deviation of a normal cut at two deviations
    conv, dense = initial(
        alexnet(6, fc_features=64),
        ("conv5", "conv", "kernel"),
        ("fc1", "dense", "kernel"),
    )
    for kernel, deviation in [(conv, 0.01), (dense, 0.005)]:
        assert float(kernel.std()) == pytest.approx(deviation * shrink, rel=0.02)
        assert float(jnp.abs(kernel).max()) <= 2 * deviation * 1.0001
    (kernel,) = initial(alexnet(None, init="he"), ("conv4", "conv", "kernel"))
    assert float(kernel.std()) == pytest.approx((2 / (9 * 192)) ** 0.5, rel=0.02)


def reference(params, stats, x, groups):
    """Trunk in inference mode, 11x11/4 VALID stem, written with scipy.signal."""
    x = (np.asarray(x, np.float64) + 1) * 127.5 - np.asarray(RGB_MEAN)
    endpoints = {}
    for i in range(1, 6):
        layer, averages = params[f"conv{i}"], stats[f"conv{i}"]["norm"]
        x = correlate(x, layer["conv"]["kernel"], groups if i in (2, 4, 5) else 1, i)
        x = (x - averages["mean"]) / np.sqrt(averages["var"] + 1e-3)
        x = np.maximum(x * layer["norm"]["scale"] + layer["norm"]["bias"], 0)
        endpoints[f"conv{i}"] = x
        if i < 3:
            n = (x.shape[1] - 3) // 2 + 1
            rows = [x[:, 2 * r : 2 * r + 3].max(1) for r in range(n)]
            x = np.stack(rows, 1)
            columns = [x[:, :, 2 * c : 2 * c + 3].max(2) for c in range(n)]
            x = np.stack(columns, 2)
    return endpoints


def correlate(x, kernel, groups, i):
    inputs, features = kernel.shape[2:]
    mode, stride = ("valid", 4) if i == 1 else ("same", 1)
    maps = []
    for f in range(features):
        first = f // (features // groups) * inputs
        maps.append(
            [
                sum(
                    signal.correlate2d(image[..., first + c], kernel[..., c, f], mode)
                    for c in range(inputs)
                )[::stride, ::stride]
                for image in x
            ]
        )
    return np.moveaxis(np.asarray(maps), 0, -1)


def test_forward_pass_is_the_reference(fill, images):
    network = alexnet(None, width=1 / 16, padding="VALID")
    x = images(2, 59, 59, 3)
    params, stats = fill(network, x)
    endpoints, _ = jax.jit(lambda x: network.apply(params, stats, x, train=False))(x)
    params, stats = jax.tree.map(lambda a: np.asarray(a, np.float64), (params, stats))
    expected = reference(params, stats, x, groups=2)
    assert expected["conv1"].shape == (2, 13, 13, 6)
    for name, endpoint in endpoints.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(endpoint / scale, expected[name] / scale, atol=2e-5)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="padding is 'same'; allowed: SAME, VALID"):
        alexnet(6, padding="same")
    with pytest.raises(UserError, match=r"init is 'thesi'.*Did you mean 'thesis'"):
        alexnet(6, init="thesi")
    with pytest.raises(UserError, match="multiples of the groups"):
        alexnet(6, width=1 / 32)
    for name in ("groups", "stem_kernel", "stem_stride", "fc_features"):
        with pytest.raises(UserError, match=f"{name} is 0; it must be at least 1"):
            alexnet(6, **{name: 0})
