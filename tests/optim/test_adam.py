"""AdamW against a literal loop in float64 NumPy, in both conventions of the decay."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.optim import adam

STEPS = 20


def literal_adamw(p, grads, config, *, decayed):
    """Write the update out: TensorFlow's order, decay before the Adam step."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads):
        cosine = 0.5 * (1 + np.cos(np.pi * min(t / STEPS, 1)))
        factor = (1 - config.final_rate) * cosine + config.final_rate
        rate = config.learning_rate * factor
        shrink = rate if config.decay_times_rate else factor
        m = config.b1 * m + (1 - config.b1) * g
        v = config.b2 * v + (1 - config.b2) * g * g
        m_hat = m / (1 - config.b1 ** (t + 1))
        v_hat = v / (1 - config.b2 ** (t + 1))
        decay = shrink * config.weight_decay * p if decayed else 0.0
        p = p - decay - rate * m_hat / (np.sqrt(v_hat) + 1e-8)
    return p


@pytest.mark.parametrize("decay_times_rate", [False, True])
def test_adamw_is_the_literal_loop(decay_times_rate):
    config = adam.AdamWConfig(
        learning_rate=0.01, weight_decay=0.03, decay_times_rate=decay_times_rate
    )
    rng = np.random.default_rng(0)
    grads = rng.normal(size=(STEPS, 5))
    start = rng.normal(size=5)
    params = {"dense": {"kernel": start}, "norm": {"scale": start, "bias": start}}
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
    tx = adam.adamw(config, num_steps=STEPS)
    state = tx.init(params)
    for g in grads:
        same = jax.tree.map(lambda _, g=g: jnp.asarray(g, jnp.float32), params)
        updates, state = tx.update(same, state, params)
        params = optax.apply_updates(params, updates)
    decayed = literal_adamw(start, grads, config, decayed=True)
    plain = literal_adamw(start, grads, config, decayed=False)
    assert np.abs(decayed - plain).max() > 1e-4
    np.testing.assert_allclose(params["dense"]["kernel"], decayed, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(params["norm"]["scale"], plain, rtol=1e-4, atol=1e-6)


def test_the_two_conventions_differ_by_the_learning_rate():
    """The table of facts: 1e-4 in TensorFlow is 0.333 in optax at a rate of 3e-4."""
    tf = adam.AdamWConfig(learning_rate=3e-4, weight_decay=1e-4)
    same = adam.AdamWConfig(
        learning_rate=3e-4, weight_decay=1e-4 / 3e-4, decay_times_rate=True
    )
    params = {"kernel": jnp.ones(3)}
    results = []
    for config in (tf, same):
        tx = adam.adamw(config, num_steps=STEPS)
        results.append(tx.update(params, tx.init(params), params)[0]["kernel"])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("cls", "change", "words"),
    [
        (adam.AdamWConfig, {"learning_rate": 0.0}, "learning_rate is 0.0"),
        (adam.AdamWConfig, {"b2": 1.0}, "b2 is 1.0"),
        (adam.AdamWConfig, {"weight_decay": -1.0}, "weight_decay is -1.0"),
        (
            adam.AdamWConfig,
            {"final_rate": 1.5},
            "final_rate is 1.5; it must be at least 0 and at",
        ),
        (adam.AdamConfig, {"b1": -0.1}, "b1 is -0.1"),
        (adam.AdamConfig, {"learning_rate": float("nan")}, "rate is nan; .* finite"),
        (adam.AdamConfig, {"learning_rate": float("inf")}, "rate is inf; .* finite"),
    ],
)
def test_impossible_values_are_refused(cls, change, words):
    with pytest.raises(UserError, match=words):
        cls(**change)
