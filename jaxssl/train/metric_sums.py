"""Sums of metrics that the step keeps on the device between two log steps."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl.types import Array, Bool, Int, Metrics

# Steps in a row without an update that end the run. Each of them has other data and
# another key, so several in a row point to the state itself.
MAX_SKIPS = 3

# The cause of a skipped step with a number in its new state that is not finite.
UPDATE = "the update"


class MetricSums(NamedTuple):
    """The meter of a run: what the step adds up between two log steps.

    Attributes:
      sums: each metric, summed over the steps that made an update.
      count: number of steps in the sums.
      causes: number of skipped steps for each loss that was not finite, and for
        ``UPDATE``.
      skipped: number of skipped steps.
      streak: number of skipped steps in a row up to now; the next interval counts on.
      stop_step: the step with which ``streak`` reached ``MAX_SKIPS``, or -1.
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
    """Add one step: its metrics if it made an update, else the causes of the skip."""
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
    """Return the meter of the next interval, which keeps the streak of ``meter``."""
    return empty._replace(streak=meter.streak)


def to_plain(meter: MetricSums) -> dict[str, Any]:
    """Return a meter as values for JSON, which holds each float32 exactly."""
    return jax.tree.map(lambda x: x.item(), jax.device_get(meter))._asdict()


def from_plain(kept: Mapping[str, Any], empty: MetricSums) -> MetricSums | None:
    """Return the meter of which `to_plain` returned the values.

    Args:
      kept: the values.
      empty: the empty meter on its devices.

    Returns:
      The meter on the same devices; None if the metrics have other names than
      those of ``empty``.
    """
    if jax.tree.structure(kept) != jax.tree.structure(empty._asdict()):
        return None

    def put(value: float | int, like: jax.Array) -> Array:
        array = np.asarray(value, like.dtype)
        return jax.make_array_from_callback((), like.sharding, lambda _: array)

    return jax.tree.map(put, MetricSums(**kept), empty)
