import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.optim.sgd import SCHEDULES, SGDConfig, learning_rate, sgd

PARAMS = {
    "conv": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.ones(2)},
    "norm": {"scale": jnp.ones(2), "bias": jnp.ones(2)},
}


def rates(num_steps=100, **changes):
    schedule = learning_rate(SGDConfig(**changes), num_steps=num_steps)
    return np.array([float(schedule(step)) for step in range(num_steps + 1)])


def test_staircase_falls_after_each_epoch():
    found = rates(learning_rate=0.1, factor=0.95, interval=30)
    wanted = [0.1 * 0.95 ** (step // 30) for step in range(101)]
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_boundaries_are_shares_of_the_run():
    found = rates(schedule="boundaries", factor=0.1, boundaries=(0.5, 0.75))
    wanted = [0.1 * 0.1 ** ((step >= 50) + (step >= 75)) for step in range(101)]
    # The new rate holds from the step after the boundary on, or from it.
    np.testing.assert_allclose(np.delete(found, [50, 75]), np.delete(wanted, [50, 75]))


def test_cosine_and_linear_end_at_the_final_rate():
    steps = np.arange(101) / 100
    linear = rates(schedule="linear", learning_rate=0.01, final_rate=0.0)
    np.testing.assert_allclose(linear, 0.01 * (1 - steps), atol=1e-9)
    cosine = rates(schedule="cosine", learning_rate=0.05, final_rate=0.01)
    wanted = 0.05 * (0.01 + 0.99 * (1 + np.cos(np.pi * steps)) / 2)
    np.testing.assert_allclose(cosine, wanted, rtol=1e-5)
    np.testing.assert_allclose(rates(schedule="constant"), 0.1, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_decay_of_the_kernels_enters_the_momentum(nesterov):
    config = SGDConfig(schedule="constant", weight_decay=0.01, nesterov=nesterov)
    tx = sgd(config, num_steps=3)
    gradient = jax.tree.map(lambda p: jnp.full(p.shape, 0.5), PARAMS)
    params, state = PARAMS, tx.init(PARAMS)
    literal, speed = 2.0, 0.0
    for _ in range(3):
        updates, state = tx.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        slope = 0.5 + 0.01 * literal
        speed = 0.9 * speed + slope
        literal -= 0.1 * (0.9 * speed + slope if nesterov else speed)
    np.testing.assert_allclose(params["conv"]["kernel"], literal, rtol=1e-6)
    for layer, name in (("conv", "bias"), ("norm", "scale"), ("norm", "bias")):
        plain, speed = 1.0, 0.0
        for _ in range(3):
            speed = 0.9 * speed + 0.5
            plain -= 0.1 * (0.9 * speed + 0.5 if nesterov else speed)
        np.testing.assert_allclose(params[layer][name], plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "step"}, "schedule is 'step'; allowed: constant, staircase"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"factor": 0.0}, "factor is 0.0"),
        ({"interval": 0}, "interval is 0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"final_rate": 2.0}, "final_rate is 2.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"boundaries": (0.5, 0.5)}, "boundaries is"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        SGDConfig(**changes)


def test_every_schedule_is_known():
    for schedule in SCHEDULES:
        np.testing.assert_allclose(rates(schedule=schedule)[0], 0.1, rtol=1e-6)
