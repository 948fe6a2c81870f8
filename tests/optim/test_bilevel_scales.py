"""Gradients from 1e-15 to 1e12: every strategy gives the numbers of float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxssl.optim import bilevel
from tests.optim import literal_bilevel as literal

K, D = 4, 6
INF = float("inf")
SCALES = [10.0**e for e in range(-15, 13, 3)]
BASE = np.random.default_rng(0).normal(size=(K, D)) + 0.7
BASE[2] *= -1  # A mini-batch that disagrees.


def loss_fn(w, gradient):
    return jnp.vdot(w, gradient)


@functools.cache
def compiled(strategy, solver="diagonal", normalize="l1"):
    """Return (gradients [k, d], lam) -> (update, info), compiled for all scales."""

    def run(gradients, lam):
        f = bilevel.value_and_grad(
            loss_fn,
            k=K,
            lam=INF if strategy == "jvp" else lam,
            strategy=strategy,
            solver=solver,
            normalize=normalize,
            axis_name="mb" if strategy == "shard" else None,
        )
        return f(jnp.zeros(D), gradients)[1:]

    if strategy == "shard":
        mesh = jax.make_mesh((K,), ("mb",), axis_types=(AxisType.Auto,))
        specs = (PartitionSpec("mb"), PartitionSpec())
        run = jax.shard_map(run, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())
    return jax.jit(run)


def check(strategy, gradients, lam, solver="diagonal", normalize="l1"):
    gradients = jnp.asarray(gradients, jnp.float32)
    update, info = compiled(strategy, solver, normalize)(gradients, lam)
    g = np.asarray(gradients, np.float64)
    solve = literal.exact_weights if solver == "exact" else literal.raw_weights
    raw = solve(g[0], g[1:], lam=lam)
    weights = literal.normalised(raw) if normalize else raw
    assert np.abs(info.weights - weights).max() <= 1e-5 * np.abs(weights).max()
    size = (np.abs(weights) * np.linalg.norm(g[1:], axis=1)).sum()
    error = np.abs(update - literal.update(weights, g[1:])).max()
    assert error <= 1e-5 * size
    assert np.sign(info.weights).tolist() == np.sign(weights).tolist()


@pytest.mark.parametrize("lam", [1.0, INF])
@pytest.mark.parametrize("strategy", ["scan", "loop", "vmap", "jvp", "shard"])
def test_every_strategy_at_every_scale(strategy, lam):
    if strategy == "jvp" and lam < INF:
        return
    for scale in SCALES:
        check(strategy, scale * BASE, lam)


@pytest.mark.parametrize("lam", [1.0, INF])
@pytest.mark.parametrize("strategy", ["scan", "loop", "vmap", "jvp", "shard"])
def test_every_strategy_with_mini_batches_of_different_scales(strategy, lam):
    if strategy == "jvp" and lam < INF:
        return
    rng = np.random.default_rng(1)
    for _ in range(20):
        check(strategy, 10.0 ** rng.integers(-12, 13, (K, 1)) * BASE, lam)


@pytest.mark.parametrize("strategy", ["scan", "vmap", "shard"])
def test_the_exact_solver_at_every_scale(strategy):
    """Short gradients beside long ones are no rounding errors."""
    rng = np.random.default_rng(2)
    for scale in (1e-12, 1e-6, 1.0, 1e6, 1e12):
        check(strategy, scale * BASE, 1.0, solver="exact")
        scales = scale * 10.0 ** rng.integers(-3, 4, (K, 1))
        check(strategy, scales * BASE, 1.0, solver="exact")


def test_sums_without_l1_at_every_scale():
    for scale in SCALES[1:]:  # Their update is below 1e-38 for the first.
        for strategy in ("scan", "vmap"):
            check(strategy, scale * BASE, 1.0, normalize=None)


@pytest.mark.parametrize("n", [2, 7])
def test_equal_mini_batches_share_evenly_at_every_scale(n):
    """The system is singular but for mu and the rounding of its entries."""

    @jax.jit
    @jax.vmap
    def weigh(gram, mu):
        products = gram[0, 1:], jnp.diag(gram)[1:], gram
        return bilevel.solve_weights(*products, mu=mu, solver="exact")[0]

    rng = np.random.default_rng(3)
    grams, mus = [], []
    for mu in (1e-8, 1e-2, 1.0):
        for scale in 10.0 ** np.arange(-6, 13):
            one = scale * (1 + rng.normal(size=50))
            other = scale * rng.normal(size=50)
            g = np.stack([one + other, *[one] * n])
            noise = rng.uniform(-1, 1, (n + 1, n + 1)) * np.finfo(np.float32).eps
            grams.append((g @ g.T) * (1 + (noise + noise.T) / 2))
            mus.append(mu)
    weights = weigh(jnp.asarray(grams, jnp.float32), jnp.asarray(mus))
    np.testing.assert_allclose(weights, 1 / n, rtol=1e-5)


@pytest.mark.parametrize("noise", [1.0, 1e-1, 1e-2, 1e-4, 1e-6])
def test_similar_mini_batches_have_the_update_of_float64_where_float32_holds_it(noise):
    """Beyond, the answer is a sum of weights of 1, not a quotient of roundings."""
    rng = np.random.default_rng(4)
    for scale in (1e-3, 1.0, 300.0, 1e6):
        g = scale * (rng.normal(size=D) + noise * rng.normal(size=(K, D)))
        g = np.float32(g).astype(np.float64)
        update, info = compiled("vmap", "exact")(jnp.asarray(g, jnp.float32), 1.0)
        np.testing.assert_allclose(np.abs(info.weights).sum(), 1, rtol=1e-5)
        assert not bool(info.skipped)
        if scale <= 1 or noise >= 0.1:
            system = g[1:] @ g[1:].T + 0.01 * np.eye(K - 1)
            raw = np.linalg.solve(system, g[1:] @ g[0])
            expected = literal.update(literal.normalised(raw), g[1:])
            assert np.abs(update - expected).max() <= 1e-3 * np.abs(expected).max()
