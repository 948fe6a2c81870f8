"""Learning-rate schedules that optax does not have: from the step to the rate."""

from collections.abc import Sequence

import jax.numpy as jnp
import optax

from jaxssl.types import UserError


def steps(
    num_steps: int, *, rates: Sequence[float], changes: Sequence[float]
) -> optax.Schedule:
    """Hold one rate after another, changing at fractions of the training.

    The linear probes of chapter 4 have ``rates=(0.1, 0.01, 0.002, 4e-4, 8e-5)`` and
    ``changes=(0.08, 0.4, 0.7, 0.9)``.

    Args:
      num_steps: steps of the training.
      rates: the rates in order.
      changes: where the next rate begins, as fractions of ``num_steps`` (rounded to the
        nearest step); one fewer than ``rates``, increasing.

    Returns:
      The schedule.

    Raises:
      UserError: a value is not allowed.
    """
    if num_steps < 1:
        raise UserError(f"num_steps is {num_steps}; it must be at least 1.")
    if len(rates) != len(changes) + 1:
        raise UserError(
            f"rates has {len(rates)} values and changes {len(changes)}; there must be "
            "one rate more than changes."
        )
    if list(changes) != sorted(changes) or not all(0 < c < 1 for c in changes):
        raise UserError(
            f"changes is {tuple(changes)}; the fractions must increase, from 0 to 1."
        )
    bounds = [round(fraction * num_steps) for fraction in changes]

    def schedule(count):
        passed = sum((count >= bound for bound in bounds), jnp.zeros((), jnp.int32))
        return jnp.asarray(rates, jnp.float32)[passed]

    return schedule
