"""solve_weights against the literal equations, and the properties of chapter 8."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.optim import bilevel
from tests.optim import literal_bilevel as literal

INF = float("inf")


def gradients(k=6, size=40, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=size) + noise * rng.normal(size=(k, size))


def products(g):
    """Inner products as the function takes them, from float64."""
    gram = np.asarray(g, np.float64) @ np.asarray(g, np.float64).T
    as32 = jnp.asarray(gram, jnp.float32)
    return as32[0, 1:], jnp.diag(as32)[1:], as32


SETTINGS = ("lam", "mu", "solver", "normalize", "on_zero", "finite_only")
compiled = jax.jit(bilevel.solve_weights, static_argnames=SETTINGS)


def solve(g, **settings):
    return compiled(*products(g), **settings)


@pytest.mark.parametrize("k", [2, 3, 8])
@pytest.mark.parametrize(("lam", "mu"), [(1.0, 0.01), (0.3, 2.0), (INF, 0.5)])
def test_diagonal_weights_are_equation_8_10(k, lam, mu):
    g = gradients(k)
    weights, info = solve(g, lam=lam, mu=mu)
    raw = literal.raw_weights(g[0], g[1:], lam=lam, mu=mu)
    np.testing.assert_allclose(weights, literal.normalised(raw), rtol=1e-5)
    np.testing.assert_allclose(info.l1, np.abs(raw).sum(), rtol=1e-5)
    norms = np.linalg.norm(g, axis=1)
    np.testing.assert_allclose(info.val_norm, norms[0], rtol=1e-5)
    np.testing.assert_allclose(info.grad_norms, norms[1:], rtol=1e-5)
    np.testing.assert_allclose(
        info.cosine, g[1:] @ g[0] / norms[0] / norms[1:], rtol=1e-5, atol=1e-6
    )
    unnormalised, _ = solve(g, lam=lam, mu=mu, normalize=None)
    np.testing.assert_allclose(unnormalised, raw, rtol=1e-5)


@pytest.mark.parametrize(("lam", "mu"), [(1.0, 0.1), (0.1, 1.0), (INF, 0.5)])
def test_exact_weights_solve_equation_8_8(lam, mu):
    g = gradients(6, seed=1, noise=2.0)
    weights, _ = solve(g, lam=lam, mu=mu, solver="exact")
    raw = literal.exact_weights(g[0], g[1:], lam=lam, mu=mu)
    np.testing.assert_allclose(weights, literal.normalised(raw), rtol=2e-4, atol=1e-5)
    if lam < INF:  # The diagonal is another answer, so the test can tell them apart.
        diagonal = literal.normalised(literal.raw_weights(g[0], g[1:], lam=lam, mu=mu))
        assert np.abs(diagonal - weights).max() > 0.02


def test_signs_are_kept_and_counted():
    g = np.eye(4)[:, :3].copy()
    g[0] = [1.0, -2.0, 0.5]
    g[1:] = np.eye(3)
    weights, info = solve(g)
    assert np.sign(weights).tolist() == [1, -1, 1]
    assert int(info.num_negative) == 1
    assert not bool(info.skipped)


@pytest.mark.parametrize("sign", [1, -1])
def test_two_mini_batches_give_the_sign_exactly(sign):
    g = gradients(2, seed=3)
    g[1] *= sign * np.sign(g[0] @ g[1])
    assert solve(g)[0].tolist() == [sign]


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
def test_equal_gradients_share_evenly(solver):
    g = np.repeat(gradients(1), 5, axis=0)
    weights, _ = solve(g, solver=solver)
    np.testing.assert_allclose(weights, 1 / 4, rtol=1e-5)


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
def test_scaled_gradients_with_scaled_mu_keep_their_weights(solver):
    g, c = gradients(5), 7.0
    np.testing.assert_allclose(
        solve(g, mu=0.02, solver=solver)[0],
        solve(c * g, mu=0.02 * c**2, solver=solver)[0],
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
def test_permuted_mini_batches_permute_the_weights(solver):
    g, order = gradients(6), np.array([3, 0, 4, 1, 2])
    shuffled = np.concatenate([g[:1], g[1:][order]])
    np.testing.assert_allclose(
        solve(shuffled, solver=solver)[0],
        solve(g, solver=solver)[0][order],
        rtol=1e-4,
        atol=1e-6,
    )


# --- Nothing to go by


NOTHING = {
    "all zero": np.zeros((4, 3)),
    "validation zero": np.concatenate([np.zeros((1, 3)), np.ones((3, 3))]),
    "orthogonal": np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 2], [0, -1, 1]]),
}


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
@pytest.mark.parametrize("g", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize(
    ("on_zero", "weight"), [("skip", 0), ("uniform", 1 / 3), ("validation", 0)]
)
def test_no_agreement_is_flagged_and_gives_the_documented_weights(
    g, on_zero, weight, solver
):
    weights, info = solve(g, on_zero=on_zero, solver=solver)
    np.testing.assert_allclose(weights, [weight] * 3)
    assert bool(info.skipped)
    assert float(info.l1) == 0
    assert all(np.isfinite(field).all() for field in info)


def test_one_zero_gradient_without_mu_has_weight_zero():
    g = gradients(4)
    g[2] = 0
    weights, info = solve(g, mu=0.0)
    assert float(weights[1]) == 0
    assert np.isfinite(weights).all()
    assert not bool(info.skipped)


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
@pytest.mark.parametrize(
    "g", [*NOTHING.values(), np.ones((4, 3))], ids=[*NOTHING, "equal"]
)
def test_derivatives_through_the_guards_are_finite(g, solver):
    def total(g):
        gram = g @ g.T
        products = gram[0, 1:], jnp.diag(gram)[1:], gram
        info = bilevel.solve_weights(*products, solver=solver)[1]
        return info.weights @ jnp.arange(3.0) + info.cosine.sum() + info.val_norm

    assert np.isfinite(jax.jit(jax.grad(total))(jnp.asarray(g, jnp.float32))).all()


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
def test_derivatives_are_those_of_finite_differences(solver):
    g = gradients(4, size=5)
    target = np.arange(3.0)

    def weights(g):
        raw = literal.exact_weights if solver == "exact" else literal.raw_weights
        return literal.normalised(raw(g[0], g[1:], mu=0.5)) @ target

    def ours(g):
        gram = g @ g.T
        found, _ = bilevel.solve_weights(
            gram[0, 1:], jnp.diag(gram)[1:], gram, mu=0.5, solver=solver
        )
        return found @ jnp.asarray(target, jnp.float32)

    slope = jax.jit(jax.grad(ours))(jnp.asarray(g, jnp.float32))
    for at in ((0, 0), (2, 3)):
        step = np.zeros_like(g)
        step[at] = 1e-5
        expected = (weights(g + step) - weights(g - step)) / 2e-5
        np.testing.assert_allclose(slope[at], expected, rtol=2e-3, atol=1e-4)


# --- Not finite


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_mini_batch_that_is_not_finite_can_be_left_out(bad, solver):
    g = gradients(5)
    expected, _ = solve(np.delete(g, 3, axis=0), solver=solver)
    g[3, 0] = bad
    weights, _ = solve(g, finite_only=True, solver=solver)
    assert float(weights[2]) == 0
    np.testing.assert_allclose(np.delete(weights, 2), expected, rtol=1e-4, atol=1e-6)
    assert np.isnan(solve(g, solver=solver)[0]).all()


def test_a_validation_gradient_that_is_not_finite_leaves_nothing():
    g = gradients(4)
    g[0, 0] = np.nan
    weights, info = solve(g, finite_only=True)
    assert weights.tolist() == [0, 0, 0]
    assert bool(info.skipped)


# --- Arguments


def test_lam_and_mu_may_be_traced():
    g = gradients()

    @jax.jit
    def traced(lam, mu):
        return bilevel.solve_weights(*products(g), lam=lam, mu=mu)[0]

    for lam, mu in ((1.0, 0.01), (0.2, 3.0), (INF, 1.0)):
        np.testing.assert_allclose(traced(lam, mu), solve(g, lam=lam, mu=mu)[0], 1e-5)


def test_norms_are_not_needed_where_lambda_is_infinite():
    dots, sq_norms, _ = products(gradients())
    without, info = bilevel.solve_weights(dots, None, lam=INF)
    np.testing.assert_allclose(
        without, bilevel.solve_weights(dots, sq_norms, lam=INF)[0], rtol=1e-6
    )
    assert (info.cosine, info.val_norm, info.grad_norms) == (None, None, None)
    np.testing.assert_allclose(without, dots / np.abs(dots).sum(), rtol=1e-5)
    with pytest.raises(ValueError, match=r"sq_norms must be given .* lam=1.0"):
        bilevel.solve_weights(dots, None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lam": 0.0}, "lam must be above 0; got 0.0"),
        ({"mu": -1.0}, r"mu must be in \[0, inf\); got -1.0"),
        ({"mu": INF}, r"mu must be in \[0, inf\); got inf"),
        ({"mu": 0.0, "solver": "exact"}, "above 0 for solver='exact'"),
        ({"mu": 0.0, "lam": INF}, "mu must be above 0 where lam is inf"),
        ({"solver": "cg"}, "solver must be one of 'diagonal', 'exact'; got 'cg'"),
        ({"normalize": "l2"}, "normalize must be one of 'l1', None; got 'l2'"),
        ({"on_zero": "nan"}, "on_zero must be one of 'skip', .*; got 'nan'"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        solve(gradients(), **settings)


def test_the_exact_solver_asks_for_the_gram_matrix():
    dots, sq_norms, _ = products(gradients())
    with pytest.raises(ValueError, match="gram must be given for solver='exact'"):
        bilevel.solve_weights(dots, sq_norms, solver="exact")
