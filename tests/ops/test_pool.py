"""Max pooling against literal loops and against XLA's window reduction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxssl import ops

CASES = {
    "overlapping-same": ((3, 3), (2, 2), "SAME"),
    "overlapping-valid": ((3, 3), (2, 2), "VALID"),
    "disjoint": ((2, 2), (2, 2), "VALID"),
    "explicit": ((3, 3), (2, 2), ((1, 1), (1, 1))),
    "oblong": ((2, 3), (1, 2), "SAME"),
}
OTHER_AXES = {
    "line": ((2, 9, 3), ((3,), (2,), "SAME")),
    "time": ((2, 4, 6, 6, 3), ((2, 2, 2), (2, 2, 2), "SAME")),
    "time-kept": ((2, 3, 6, 5, 3), ((1, 2, 2), (1, 2, 2), "SAME")),
    "time-overlapping": ((1, 5, 7, 6, 2), ((3, 3, 2), (2, 2, 1), "VALID")),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def distinct(*shape, seed=0):
    """All values differ, so every window has one maximum."""
    values = np.random.default_rng(seed).permutation(int(np.prod(shape)))
    return jnp.asarray(values.reshape(shape) / values.size - 0.5, jnp.float32)


def stock(x, case):
    window, strides, padding = case
    return nn.max_pool(x, window, strides, padding)


def compare(x, case):
    """Check value, batch, both derivatives and forward mode against the stock form."""
    tangent = distinct(*x.shape, seed=1)

    def derivatives(pool, x):
        def energy(x):
            return jnp.sum(pool(x) ** 3)

        def slope(x):
            return jnp.square(jax.grad(energy)(x)).sum()

        batched = jax.vmap(pool)(jnp.stack([x, -x]))
        first, second = jax.grad(energy)(x), jax.grad(slope)(x)
        return pool(x), batched, jax.jvp(pool, (x,), (tangent,)), first, second

    found = jax.jit(lambda x: derivatives(lambda x: ops.max_pool(x, *case), x))(x)
    expected = jax.jit(lambda x: derivatives(lambda x: stock(x, case), x))(x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("sides", [(8, 8), (7, 9)])
@cases
def test_values_and_derivatives_are_the_stock_ones(case, sides):
    compare(distinct(2, *sides, 3), case)


@pytest.mark.parametrize(("shape", "case"), OTHER_AXES.values(), ids=OTHER_AXES.keys())
def test_one_and_three_spatial_axes(shape, case):
    compare(distinct(*shape), case)


@pytest.mark.parametrize(("shape", "case"), OTHER_AXES.values(), ids=OTHER_AXES.keys())
def test_ties_over_time_go_where_the_stock_form_sends_them(shape, case):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, shape), jnp.float32)
    weights = distinct(*stock(x, case).shape)
    found = jax.grad(lambda x: (ops.max_pool(x, *case) * weights).sum())(x)
    expected = jax.grad(lambda x: (stock(x, case) * weights).sum())(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_values_are_the_literal_ones():
    x = np.asarray(distinct(2, 7, 6, 3))
    y = np.zeros((2, 3, 2, 3), np.float32)
    for r, c in np.ndindex(3, 2):
        y[:, r, c] = x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2))
    np.testing.assert_array_equal(
        ops.max_pool(jnp.asarray(x), (3, 3), (2, 2), "VALID"), y
    )


@cases
def test_ties_go_where_the_stock_form_sends_them(case):
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 8, 8, 4)), jnp.float32)
    weights = distinct(*stock(x, case).shape)
    found = jax.grad(lambda x: (ops.max_pool(x, *case) * weights).sum())(x)
    expected = jax.grad(lambda x: (stock(x, case) * weights).sum())(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
def test_nan_is_passed_on(place):
    x = distinct(1, 4, 4, 1).at[0, place[0], place[1], 0].set(jnp.nan)
    y = ops.max_pool(x, (3, 3), (2, 2), "SAME")
    np.testing.assert_array_equal(
        jnp.isnan(y), jnp.isnan(stock(x, CASES["overlapping-same"]))
    )
    assert jnp.isnan(y).any()


def test_each_platform_gets_its_own_form():
    step = jax.jit(jax.grad(lambda x: ops.max_pool(x, (3, 3), (2, 2), "SAME").sum()))
    traced = step.trace(jnp.ones((2, 8, 8, 4)))
    assert "select_and_scatter" in traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "select_and_scatter" not in traced.lower().as_text()
    assert "conditional" not in traced.lower().compile().as_text()


def test_low_precision_stays():
    x = distinct(1, 6, 6, 2).astype(jnp.bfloat16)
    y = ops.max_pool(x, (3, 3), (2, 2), "SAME")
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y, stock(x, CASES["overlapping-same"]))


def test_window_larger_than_the_map_is_refused():
    with pytest.raises(ValueError, match="window of 3 x 3 does not fit"):
        ops.max_pool(jnp.ones((1, 2, 2, 1)), (3, 3), (2, 2), "VALID")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("window", ((2, 2, 2), (2, 2), "SAME")),
        ("strides", ((2, 2), (2,), "SAME")),
        ("padding", ((2, 2), (2, 2), ((0, 1),))),
    ],
)
def test_arguments_for_other_axes_are_refused(name, arguments):
    with pytest.raises(ValueError, match=f"{name} is .*maps of 4 x 6 need one entry"):
        ops.max_pool(jnp.ones((1, 4, 6, 1)), *arguments)
