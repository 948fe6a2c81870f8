"""What the step adds up on the device between two log steps."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.types import Array, Bool, Int, Metrics

MAX_SKIPS = 3
"""So many steps in a row without an update end the run."""

UPDATE = "the update"


class MetricSums(NamedTuple):
    """What the step adds up on the device between two log steps.

    Attributes:
      sums: of every metric, over the steps that made an update.
      count: number of steps in the sums.
      causes: number of skipped steps by what was not finite in them: a loss, or
        ``UPDATE``, which is any number of the new state.
      skipped: number of skipped steps.
      streak: number of skipped steps in a row up to now; an interval takes it over
        from the one before.
      stop_step: the step that made it ``MAX_SKIPS`` in a row, or -1.
    """

    sums: Metrics
    count: Int[Array, ""]
    causes: dict[str, Int[Array, ""]]
    skipped: Int[Array, ""]
    streak: Int[Array, ""]
    stop_step: Int[Array, ""]


def add(
    meter: MetricSums,
    scalars: Metrics,
    bad: dict[str, Bool[Array, ""]],
    skip: Bool[Array, ""],
    step: Int[Array, ""],
) -> MetricSums:
    """Add one step: its metrics if it made an update, else the reasons why not."""
    streak = jnp.where(skip, meter.streak + 1, 0)
    stop = (meter.stop_step < 0) & (streak >= MAX_SKIPS)
    return MetricSums(
        sums={
            name: total + jnp.where(skip, 0.0, jnp.float32(scalars[name]))
            for name, total in meter.sums.items()
        },
        count=meter.count + ~skip,
        causes={name: count + bad[name] for name, count in meter.causes.items()},
        skipped=meter.skipped + skip,
        streak=streak,
        stop_step=jnp.where(stop, step, meter.stop_step),
    )


def renew(empty: MetricSums, meter: MetricSums) -> MetricSums:
    """Return the meter of the next interval; skipped steps in a row count on."""
    return empty._replace(streak=meter.streak)


def to_plain(meter: MetricSums) -> dict[str, Any]:
    """Return a meter as JSON holds it exactly: each float32 is a double, too."""
    return jax.tree.map(lambda x: x.item(), jax.device_get(meter))._asdict()


def from_plain(kept: Mapping[str, Any], empty: MetricSums) -> MetricSums | None:
    """Return a meter that `to_plain` wrote down.

    Args:
      kept: what it returned.
      empty: the meter to start an interval with, on its devices.

    Returns:
      The meter on the same devices; None if the task had other metrics then.
    """
    if jax.tree.structure(kept) != jax.tree.structure(empty._asdict()):
        return None

    def put(value: float | int, like: jax.Array) -> Array:
        told = np.asarray(value, like.dtype)
        return jax.make_array_from_callback((), like.sharding, lambda _: told)

    return jax.tree.map(put, MetricSums(**kept), empty)
