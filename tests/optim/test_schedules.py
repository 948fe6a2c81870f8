"""Schedules against their tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.optim import schedules
from jaxssl.types import UserError

PROBE = dict(rates=(0.1, 0.01, 0.002, 4e-4, 8e-5), changes=(0.08, 0.4, 0.7, 0.9))


def test_probe_rates_change_at_their_fractions():
    schedule = jax.jit(schedules.steps(1000, **PROBE))
    found = np.asarray([schedule(jnp.asarray(s)) for s in range(1000)])
    expected = np.repeat([0.1, 0.01, 0.002, 4e-4, 8e-5], [80, 320, 300, 200, 100])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert float(schedule(5000)) == pytest.approx(8e-5)


def test_changes_are_rounded_to_steps():
    schedule = schedules.steps(10, rates=(2.0, 1.0), changes=(0.35,))
    assert [float(schedule(s)) for s in (0, 3, 4, 9)] == [2.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("num_steps", "rates", "changes", "message"),
    [
        (0, (1.0,), (), "num_steps is 0"),
        (10, (1.0,), (0.5,), "one rate more than changes"),
        (10, (1.0, 2.0), (1.5,), "must increase"),
        (10, (1.0, 2.0, 3.0), (0.5, 0.2), "must increase"),
    ],
)
def test_impossible_values_are_refused(num_steps, rates, changes, message):
    with pytest.raises(UserError, match=message):
        schedules.steps(num_steps, rates=rates, changes=changes)
