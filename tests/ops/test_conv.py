"""Convolutions against literal loops, against the stock forms, and as they lower."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.test_util import check_grads

from jaxssl import ops

NHWC = ("NHWC", "HWIO", "NHWC")


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def loop_convolution(x, kernel, stride, groups):
    """Literal VALID convolution in float64, one output value at a time."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    b, h, w, _ = x.shape
    kh, kw, i, o = kernel.shape
    y = np.zeros((b, (h - kh) // stride + 1, (w - kw) // stride + 1, o))
    for n, r, c, f in np.ndindex(*y.shape):
        group = f // (o // groups)
        top, left = r * stride, c * stride
        patch = x[n, top : top + kh, left : left + kw, group * i : (group + 1) * i]
        y[n, r, c, f] = (patch * kernel[..., f]).sum()
    return y


def loop_deconvolution(x, kernel):
    """Literal 4x4, stride 2, SAME: each input pixel adds the flipped kernel."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    b, h, w, _ = x.shape
    y = np.zeros((b, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
    for n, r, c in np.ndindex(b, h, w):
        for p, q in np.ndindex(4, 4):
            y[n, 2 * r + p, 2 * c + q] += x[n, r, c] @ kernel[3 - p, 3 - q]
    return y[:, 1:-1, 1:-1]


@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_grouped_convolution_is_the_literal_one(groups, stride):
    x, kernel = draw(2, 6, 5, 6), draw(3, 2, 6 // groups, 6, seed=1)
    y = ops.conv_general_dilated(
        x, kernel, (stride, stride), "VALID", feature_group_count=groups
    )
    expected = loop_convolution(x, kernel, stride, groups)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_transposed_convolution_is_the_literal_one():
    x, kernel = draw(2, 3, 5, 4), draw(4, 4, 4, 3, seed=1)
    y = ops.conv_transpose(x, kernel, strides=(2, 2))
    assert y.shape == (2, 6, 10, 3)
    np.testing.assert_allclose(y, loop_deconvolution(x, kernel), rtol=1e-5, atol=1e-5)


GROUPED = {
    "same": (dict(window_strides=(1, 1), padding="SAME"), 2),
    "valid-strided": (dict(window_strides=(2, 1), padding="VALID"), 2),
    "explicit": (dict(window_strides=(1, 2), padding=((1, 2), (0, 1))), 3),
    "dilated": (dict(window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 1)), 2),
    "enlarged": (
        dict(window_strides=(1, 1), padding=((1, 1), (0, 2)), lhs_dilation=(2, 2)),
        2,
    ),
    "depthwise": (dict(window_strides=(1, 1), padding="SAME"), 12),
}
UNGROUPED = {
    "small-map-strided": ((2, 4, 4, 6), (4, 4, 6, 5), (2, 2), "SAME", 1),
    "small-map": ((2, 2, 3, 4), (3, 3, 4, 6), (1, 1), "SAME", 1),
    "one-place": ((2, 4, 5, 4), (4, 4, 4, 3), (1, 2), "VALID", 1),
    "small-map-cropped": ((2, 3, 4, 4), (3, 2, 4, 3), (2, 1), ((-1, 2), (1, 0)), 1),
    "small-map-grouped": ((2, 2, 2, 6), (3, 3, 3, 4), (1, 1), "SAME", 2),
    "odd-channels": ((2, 7, 8, 3), (5, 5, 3, 4), (2, 2), "SAME", 1),
    "odd-channels-grouped": ((2, 7, 8, 6), (3, 2, 3, 4), (1, 2), "VALID", 2),
}
TRANSPOSED = {
    "doubling": dict(strides=(2, 2), padding="SAME"),
    "valid": dict(strides=(2, 2), padding="VALID"),
    "tripling": dict(strides=(3, 2), padding="SAME"),
}


def pairs():
    """Yield (our function, stock function, input, kernel) for every case."""
    for name, (options, groups) in GROUPED.items():

        def ours(x, k, options=options, groups=groups):
            return ops.conv_general_dilated(
                x, k, feature_group_count=groups, dimension_numbers=NHWC, **options
            )

        def stock(x, k, options=options, groups=groups):
            return lax.conv_general_dilated(
                x, k, feature_group_count=groups, dimension_numbers=NHWC, **options
            )

        arguments = draw(2, 7, 8, 12), draw(3, 3, 12 // groups, 12, seed=1) / 5
        yield pytest.param(ours, stock, *arguments, id=f"grouped-{name}")
    for name, (x, kernel, strides, padding, groups) in UNGROUPED.items():
        options = dict(feature_group_count=groups, dimension_numbers=NHWC)
        arguments = dict(window_strides=strides, padding=padding, **options)
        ours = functools.partial(ops.conv_general_dilated, **arguments)
        stock = functools.partial(lax.conv_general_dilated, **arguments)
        inputs = draw(*x), draw(*kernel, seed=1) / 5
        yield pytest.param(ours, stock, *inputs, id=name)
    for name, options in TRANSPOSED.items():

        def ours(x, k, options=options):
            return ops.conv_transpose(x, k, **options)

        def stock(x, k, options=options):
            return lax.conv_transpose(x, k, dimension_numbers=NHWC, **options)

        arguments = draw(2, 5, 3, 6), draw(4, 4, 6, 4, seed=1) / 5
        yield pytest.param(ours, stock, *arguments, id=f"transposed-{name}")


def derivatives(f, x, kernel):
    """Value, gradients, jvp, and the gradient of a function of the gradient."""

    def energy(x, kernel):
        return jnp.square(f(x, kernel)).mean()

    def slope(x, kernel):
        gx, gk = jax.grad(energy, (0, 1))(x, kernel)
        return jnp.square(gx).sum() + jnp.square(gk).sum()

    tangents = draw(*x.shape, seed=2), draw(*kernel.shape, seed=3)
    batched = jax.vmap(f, (0, None))(jnp.stack([x, 2 * x]), kernel)
    first = jax.grad(energy, (0, 1))(x, kernel)
    second = jax.grad(slope, (0, 1))(x, kernel)
    return f(x, kernel), batched, jax.jvp(f, (x, kernel), tangents), first, second


@pytest.mark.parametrize(("ours", "stock", "x", "kernel"), list(pairs()))
def test_values_and_derivatives_are_the_stock_ones(ours, stock, x, kernel):
    found = jax.jit(lambda x, k: derivatives(ours, x, k))(x, kernel)
    expected = jax.jit(lambda x, k: derivatives(stock, x, k))(x, kernel)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(scale, 1.0))


def test_eager_and_per_example_kernels_agree_with_jit():
    def f(x, kernel):
        return ops.conv_general_dilated(
            x, kernel, (1, 1), "SAME", feature_group_count=2
        )

    x, kernel = draw(2, 4, 4, 4), draw(3, 3, 2, 6, seed=1)
    np.testing.assert_allclose(f(x, kernel), jax.jit(f)(x, kernel), atol=1e-5)
    kernels = jnp.stack([kernel, -kernel])
    both = jax.vmap(f, (None, 0))(x, kernels)
    np.testing.assert_allclose(both[1], -both[0], atol=1e-5)


def test_transposed_gradients_by_finite_differences():
    x, kernel = draw(1, 2, 3, 2), draw(4, 4, 2, 2, seed=1)

    def f(x, kernel):
        return ops.conv_transpose(jnp.asarray(x), jnp.asarray(kernel), strides=(2, 2))

    check_grads(f, (x, kernel), order=2, modes=["fwd", "rev"], rtol=1e-2, atol=1e-2)


def test_linen_layer_takes_the_grouped_form():
    layer = nn.Conv(
        8,
        (3, 3),
        feature_group_count=2,
        conv_general_dilated=ops.conv_general_dilated,  # type: ignore[arg-type]
    )
    plain = nn.Conv(8, (3, 3), feature_group_count=2)
    x = draw(2, 5, 5, 4)
    variables = plain.init(jax.random.key(0), x)
    np.testing.assert_allclose(
        layer.apply(variables, x), plain.apply(variables, x), atol=1e-5
    )


def grouped_loss(x, kernel):
    y = ops.conv_general_dilated(x, kernel, (1, 1), "SAME", feature_group_count=2)
    return jnp.square(y).mean()


def transposed_loss(x, kernel):
    return jnp.square(ops.conv_transpose(x, kernel, strides=(2, 2))).mean()


def small_map_loss(x, kernel):
    return jnp.square(ops.conv_general_dilated(x, kernel, (2, 2), "SAME")).mean()


LOSSES = [
    (small_map_loss, (2, 6, 6, 8), (4, 4, 8, 4), "stablehlo.convolution"),
    (grouped_loss, (2, 8, 8, 8), (3, 3, 4, 8), "feature_group_count = 2"),
    (transposed_loss, (2, 4, 4, 8), (4, 4, 8, 4), "lhs_dilate = [2, 2]"),
]


@pytest.mark.parametrize(("loss", "x", "kernel", "mark"), LOSSES)
def test_each_platform_gets_its_own_form(loss, x, kernel, mark):
    step = jax.jit(jax.value_and_grad(loss, (0, 1)))
    traced = step.trace(jnp.ones(x), jnp.ones(kernel))
    tpu = traced.lower(lowering_platforms=("tpu",)).as_text()
    cpu = traced.lower(lowering_platforms=("cpu",)).as_text()
    assert mark in tpu
    assert mark not in cpu
    compiled = step.lower(jnp.ones(x), jnp.ones(kernel)).compile().as_text()
    assert "conditional" not in compiled
    both = jax.export.export(step, platforms=("cpu", "tpu"))
    assert mark in both(jnp.ones(x), jnp.ones(kernel)).mlir_module()


def test_convolutions_over_time_pass_through():
    x, kernel = draw(2, 5, 4, 4, 3), draw(3, 3, 3, 3, 8, seed=1)
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    y = ops.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers
    )
    expected = lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", dimension_numbers=numbers
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize(("features", "padded"), [(8, True), (64, False)])
def test_odd_channels_are_padded_on_cpu_under_few_features(features, padded):
    convolve = jax.jit(lambda x, k: ops.conv_general_dilated(x, k, (2, 2), "SAME"))
    traced = convolve.trace(jnp.ones((2, 9, 9, 3)), jnp.ones((5, 5, 3, features)))
    even = f"tensor<5x5x4x{features}xf32>"
    assert (even in traced.lower(lowering_platforms=("cpu",)).as_text()) == padded
    assert even not in traced.lower(lowering_platforms=("tpu",)).as_text()


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="must divide the 4 input and the 6 output"):
        ops.conv_general_dilated(
            draw(1, 4, 4, 4), draw(1, 1, 1, 6), (1, 1), "SAME", feature_group_count=3
        )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_stays(dtype):
    x, kernel = draw(1, 4, 4, 4).astype(dtype), draw(4, 4, 4, 4, seed=1).astype(dtype)
    y = ops.conv_transpose(x, kernel, strides=(2, 2))
    assert y.dtype == dtype
    reference = ops.conv_transpose(
        x.astype(jnp.float32), kernel.astype(jnp.float32), strides=(2, 2)
    )
    np.testing.assert_allclose(y.astype(jnp.float32), reference, rtol=0.1, atol=0.1)
