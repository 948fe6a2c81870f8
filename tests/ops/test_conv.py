"""Convolutions against literal loops, against the stock forms, and as they lower."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxssl import ops


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


FLAT = dict(padding="SAME", window_strides=(1, 1))
SHAPES = {
    "plain": ((2, 7, 8, 4), (3, 3, 4, 6), FLAT),
    "strided-valid": ((2, 7, 8, 4), (3, 2, 4, 6), {"window_strides": (2, 1)}),
    "explicit": ((2, 7, 8, 4), (3, 3, 4, 6), {"padding": ((1, 2), (0, 1))}),
    "cropping": ((2, 7, 8, 4), (3, 3, 4, 6), {"padding": ((-1, 2), (1, -2))}),
    "dilated": ((2, 7, 8, 4), (3, 3, 4, 6), FLAT | {"rhs_dilation": (2, 1)}),
    "enlarged": (
        (2, 7, 8, 4),
        (3, 3, 4, 6),
        {"padding": ((1, 1), (0, 2)), "lhs_dilation": (2, 2)},
    ),
    "all-at-once": (
        (2, 5, 6, 4),
        (3, 2, 2, 6),
        {
            "window_strides": (3, 2),
            "padding": ((2, 1), (-1, 3)),
            "lhs_dilation": (2, 3),
            "rhs_dilation": (1, 2),
            "feature_group_count": 2,
        },
    ),
    "channels-first": (
        (2, 4, 7, 8),
        (6, 4, 3, 3),
        FLAT | {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
    ),
    "mixed-layout": (
        (7, 2, 4, 8),
        (3, 6, 3, 4),
        FLAT | {"dimension_numbers": ("HNCW", "HOWI", "CWNH")},
    ),
    "odd-channels": ((3, 7, 8, 3), (5, 5, 3, 4), FLAT | {"window_strides": (2, 2)}),
    "grouped": ((2, 7, 8, 6), (3, 3, 3, 4), FLAT | {"feature_group_count": 2}),
    "groups-in-a-loop": (
        (2, 4, 5, 20),
        (3, 3, 2, 20),
        FLAT | {"feature_group_count": 10},
    ),
    "depthwise": ((2, 7, 8, 6), (3, 3, 1, 12), FLAT | {"feature_group_count": 6}),
    "batch-grouped": ((6, 5, 5, 3), (3, 3, 3, 4), FLAT | {"batch_group_count": 2}),
    "small-map": ((2, 2, 3, 4), (3, 3, 4, 6), FLAT),
    "small-map-strided": (
        (2, 4, 4, 6),
        (5, 4, 6, 5),
        FLAT | {"window_strides": (2, 2)},
    ),
    "small-map-cropped": (
        (2, 3, 3, 4),
        (4, 3, 4, 3),
        {"window_strides": (2, 1), "padding": ((-1, 4), (1, 0))},
    ),
    "small-map-dilated": (
        (2, 3, 3, 4),
        (4, 3, 4, 3),
        {"padding": ((4, 5), (2, 0)), "lhs_dilation": (1, 2), "rhs_dilation": (2, 1)},
    ),
    "one-place": ((2, 4, 5, 4), (4, 4, 4, 3), {"window_strides": (1, 2)}),
    "line": ((2, 9, 4), (3, 4, 6), dict(window_strides=(2,), padding="SAME")),
    "time": ((2, 4, 5, 6, 3), (3, 3, 3, 3, 4), dict(padding="SAME")),
    "time-strided": (
        (2, 5, 5, 6, 4),
        (3, 2, 3, 2, 4),
        dict(window_strides=(2, 1, 2), padding="SAME", feature_group_count=2),
    ),
    "time-dilated": (
        (2, 3, 4, 4, 4),
        (2, 3, 2, 4, 4),
        dict(
            padding=((2, 1), (0, 1), (0, 2)),
            lhs_dilation=(2, 1, 1),
            rhs_dilation=(2, 1, 2),
        ),
    ),
}
TRANSPOSED = {
    "doubling": ((2, 5, 3, 6), (4, 4, 6, 4), (2, 2), "SAME"),
    "valid": ((2, 5, 3, 6), (4, 4, 6, 4), (2, 2), "VALID"),
    "tripling": ((2, 5, 3, 6), (4, 4, 6, 4), (3, 2), "SAME"),
    "explicit": ((2, 5, 3, 6), (5, 5, 6, 4), (2, 2), ((3, 2), (2, 3))),
    "line": ((2, 5, 6), (4, 6, 4), (2,), "SAME"),
    "time": ((2, 2, 3, 2, 4), (4, 4, 4, 4, 2), (2, 2, 2), "SAME"),
}


def channels_last(ndim):
    spatial = "DHW"[5 - ndim :]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def pair(name):
    """Return our function, the stock function, input and kernel of a case."""
    if name in SHAPES:
        x, kernel, options = SHAPES[name]
        options = {
            "window_strides": (1,) * (len(x) - 2),
            "padding": "VALID",
            "dimension_numbers": channels_last(len(x)),
        } | options
        ours = functools.partial(ops.conv_general_dilated, **options)
        stock = functools.partial(lax.conv_general_dilated, **options)
    else:
        x, kernel, strides, padding = TRANSPOSED[name.removeprefix("transposed-")]
        options = dict(strides=strides, padding=padding)
        numbers = channels_last(len(x))
        ours = functools.partial(ops.conv_transpose, **options)
        stock = functools.partial(
            lax.conv_transpose, dimension_numbers=numbers, **options
        )
    return ours, stock, draw(*x), draw(*kernel, seed=1) / 5


NAMES = (*SHAPES, *(f"transposed-{name}" for name in TRANSPOSED))
EACH_PAIR = pytest.mark.parametrize("name", NAMES)


def derivatives(f, x, kernel):
    """Value, gradients, jvp, and the gradient of a function of the gradient."""

    def energy(x, kernel):
        return jnp.square(f(x, kernel)).mean()

    def slope(x, kernel):
        gx, gk = jax.grad(energy, (0, 1))(x, kernel)
        return jnp.square(gx).sum() + jnp.square(gk).sum()

    tangents = draw(*x.shape, seed=2), draw(*kernel.shape, seed=3)
    first = jax.grad(energy, (0, 1))(x, kernel)
    second = jax.grad(slope, (0, 1))(x, kernel)
    return f(x, kernel), jax.jvp(f, (x, kernel), tangents), first, second


def batched(f, x, kernel):
    """Values, and gradients, of two images, of two kernels, and of two pairs."""

    def gradient(x, kernel):
        return jax.grad(lambda *a: jnp.square(f(*a)).mean(), (0, 1))(x, kernel)

    images, kernels = jnp.stack([x, 2 * x]), jnp.stack([kernel, -2 * kernel])
    first = jax.vmap(f, (0, None))(images, kernel)
    second = jax.vmap(gradient, (None, 0))(x, kernels)
    third = jax.vmap(gradient)(images, kernels)
    return first, second, third, jax.vmap(f)(images, kernels)


def everything(f, x, kernel):
    return derivatives(f, x, kernel), batched(f, x, kernel)


@functools.cache
def traced(name, form):
    """Trace all results of our form (0) or the stock one (1), once for all tests."""
    f, (x, kernel) = pair(name)[form], pair(name)[2:]
    return jax.jit(functools.partial(everything, f)).trace(x, kernel)


@functools.cache
def lowered(name, form):
    return traced(name, form).lower(lowering_platforms=("cpu",))


@functools.cache
def stock_values(name):
    return lowered(name, 1).compile()(*pair(name)[2:])


def check_values(found, expected):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * max(scale, 1.0))


@EACH_PAIR
def test_values_and_derivatives_are_the_stock_ones(name):
    """Derivatives of both orders, and batched ones."""
    check_values(lowered(name, 0).compile()(*pair(name)[2:]), stock_values(name))


GROUPED = (
    "all-at-once",
    "grouped",
    "batch-grouped",
    "groups-in-a-loop",
    "mixed-layout",
)


@pytest.mark.parametrize("name", GROUPED)
def test_values_for_several_gpus_are_the_stock_ones(lowered_as_on_gpus, name):
    """Batching makes groups of layouts that have none."""
    ours, _, x, kernel = pair(name)
    found = jax.jit(functools.partial(everything, ours))(x, kernel)
    check_values(found, stock_values(name))


@EACH_PAIR
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_get_the_stock_program(name, platform):
    """Derivatives of both orders and all batched ones, to the letter."""
    ours, stock = (
        traced(name, form).lower(lowering_platforms=(platform,)).as_text()
        for form in (0, 1)
    )
    assert ours == stock


FAST = re.compile(r"dim_numbers = \[b, (?:[012], )+f\]x\[(?:[012], )+i, o\]->\[b, ")


@EACH_PAIR
def test_cpu_gets_the_fast_layout_alone(name):
    """XLA:CPU mends the layout of others outside of loops, and never their groups."""

    def convolutions(form):
        lines = lowered(name, form).as_text().splitlines()
        return [line for line in lines if "convolution(" in line]

    found, plain = convolutions(0), convolutions(1)
    depthwise = pair(name)[3].shape[-2] == 1
    assert found
    for line in found:
        assert FAST.search(line), line
        assert "batch_group_count = 1 " in line
        assert depthwise or "feature_group_count = 1 " in line
    assert not all(FAST.search(line) for line in plain)


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


@pytest.mark.parametrize("shape", [(0, 5, 5, 2), (2, 5, 5, 0)])
def test_empty_images_pass(shape):
    kernel = jnp.ones((3, 3, shape[-1], 4))
    y = ops.conv_general_dilated(jnp.ones(shape), kernel, (1, 1), "SAME")
    np.testing.assert_array_equal(y, np.zeros((*shape[:3], 4)))


@pytest.mark.parametrize(("features", "padded"), [(8, True), (64, False)])
def test_odd_channels_are_padded_on_cpu_under_few_features(features, padded):
    convolve = jax.jit(lambda x, k: ops.conv_general_dilated(x, k, (2, 2), "SAME"))
    traced = convolve.trace(jnp.ones((2, 9, 9, 3)), jnp.ones((5, 5, 3, features)))
    even = f"tensor<5x5x4x{features}xf32>"
    assert (even in traced.lower(lowering_platforms=("cpu",)).as_text()) == padded
    assert even not in traced.lower(lowering_platforms=("tpu",)).as_text()


def test_layouts_that_cannot_be_guessed_are_refused():
    with pytest.raises(ValueError, match="images have 2 axes"):
        ops.conv_general_dilated(draw(4, 4), draw(4, 4), (), "SAME")
    with pytest.raises(ValueError, match="images have 6 axes"):
        ops.conv_transpose(draw(*(1,) * 6), draw(*(1,) * 6), strides=(1,) * 4)


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
