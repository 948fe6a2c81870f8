"""mean_value_and_grad: the baseline of the weights, against gradients written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.optim import bilevel
from tests.optim.test_bilevel_gradients import (
    BATCH,
    FLOATS,
    PARAMS,
    B,
    D,
    K,
    literal_gradients,
    literal_losses,
    loss_fn,
    vector,
)

STRATEGIES = pytest.mark.parametrize("strategy", ["auto", "scan", "loop"])


@STRATEGIES
def test_it_is_the_mean_of_all_k_gradients(strategy):
    f = bilevel.mean_value_and_grad(loss_fn, k=K, strategy=strategy)
    loss, gradient = jax.jit(f)(PARAMS, FLOATS)
    wanted = literal_gradients(PARAMS, BATCH).mean(axis=0)
    np.testing.assert_allclose(vector(gradient), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loss, literal_losses(PARAMS, BATCH).mean(), rtol=1e-5)


@STRATEGIES
def test_each_mini_batch_sees_the_state_of_the_one_before(strategy):
    def centred(params, minibatch, *, state, key):
        noise = jax.random.normal(key, ())
        error = minibatch["x"] @ params["w"] - minibatch["y"] + params["b"] * noise
        return jnp.mean(error**2), (0.5 * state + minibatch["y"].mean(), noise)

    f = bilevel.mean_value_and_grad(
        centred,
        k=K,
        strategy=strategy,
        has_aux=True,
        reduce_state="sequential",
        rng_mode="split",
    )
    key = jax.random.key(3)
    (loss, (state, noise)), gradient = jax.jit(f)(PARAMS, FLOATS, jnp.ones(()), key)
    wanted = 1.0
    for row in BATCH["y"]:
        wanted = 0.5 * wanted + row.mean()
    np.testing.assert_allclose(state, wanted, rtol=1e-5)
    draws = [jax.random.normal(jax.random.fold_in(key, i), ()) for i in range(K)]
    np.testing.assert_allclose(noise, draws, rtol=1e-6)
    slopes = []
    for x, y, z in zip(BATCH["x"], BATCH["y"], np.float64(draws), strict=True):
        error = x @ np.float64(PARAMS["w"]) - y + float(PARAMS["b"]) * z
        slopes.append(np.append(2 / B * x.T @ error, 2 / B * error.sum() * z))
    np.testing.assert_allclose(vector(gradient), np.mean(slopes, axis=0), rtol=1e-4)
    assert np.isfinite(loss)
    assert gradient["w"].shape == (D,)


def test_half_precision_is_added_up_in_single():
    params = jnp.zeros(1, jnp.bfloat16)
    batch = jnp.full((9, 1, 1), 1.0, jnp.bfloat16).at[0].set(256.0)
    f = bilevel.mean_value_and_grad(lambda w, x: jnp.mean(x[:, 0] * w[0]), k=9)
    _, gradient = jax.jit(f)(params, batch)
    assert gradient.dtype == jnp.bfloat16
    # In bfloat16 256 + 1 is 256, and the mean 28.44; the sum is 264.
    np.testing.assert_allclose(gradient, jnp.asarray([264 / 9], jnp.bfloat16))


def test_the_program_has_the_size_of_one_mini_batch():
    f = jax.jit(bilevel.mean_value_and_grad(loss_fn, k=K, strategy="scan"))
    assert f.lower(PARAMS, FLOATS).as_text().count("stablehlo.while") == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "vmap"}, "strategy must be one of 'auto', 'scan', 'loop'"),
        ({"k": 1}, "k must be at least 2"),
        ({"reduce_state": "first"}, "reduce_state must be one of"),
        ({"rng_mode": "own"}, "rng_mode must be one of"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        bilevel.mean_value_and_grad(loss_fn, **{"k": K, **settings})


def test_a_batch_that_is_no_stack_of_k_is_refused():
    with pytest.raises(ValueError, match=f"k={K + 1}"):
        bilevel.mean_value_and_grad(loss_fn, k=K + 1)(PARAMS, FLOATS)
