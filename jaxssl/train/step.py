"""The compiled step: a task's step, its random key, and a meter on the device."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxssl.train import manifest, placement, sharding, start
from jaxssl.types import Array, Batch, Bool, Int, Key, Metrics, Task, TrainState

MAX_SKIPS = 3
"""So many steps in a row without an update end the run."""

UPDATE = "the update"


class Meter(NamedTuple):
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


class Program(NamedTuple):
    """The step of one run, traced but not yet compiled.

    Attributes:
      compile: returns ``(state, meter, batch, key) -> (state, meter)``; the state that
        goes in is donated.
      empty: the meter to start an interval with.
    """

    compile: Callable[[], Callable[..., tuple[TrainState, Meter]]]
    empty: Meter


def make_program(task: Task, abstract: TrainState, spec: Batch, mesh: Mesh) -> Program:
    """Trace the task's step once, for these shapes and these shardings; see `trace`.

    It is compiled ahead of time, so it cannot be traced again: a batch of another shape
    is an error, not a silent second compilation.

    Args:
      task: the method.
      abstract: the state's shapes and shardings, which the new state keeps.
      spec: shapes of a global batch.
      mesh: where it will run.

    Returns:
      The program.

    Raises:
      UserError: the task's settings do not fit the data.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    traced, empty = trace(task, abstract, spec, mesh)
    return Program(traced.lower().compile, sharding.replicate(empty, mesh))


def trace(
    task: Task, abstract: TrainState, spec: Batch, mesh: Mesh
) -> tuple[jax.stages.Traced, Meter]:
    """Trace the step that the loop takes, for devices that need not be there.

    A step whose losses or new state are not finite leaves no trace in the state, but in
    its counter: the data and the keys move on, parameters, statistics and optimizer
    stay. That is what ``optax.apply_if_finite`` does, for all players at once.

    Args:
      task: the method.
      abstract: the state's shapes and shardings, which the new state keeps.
      spec: shapes of a global batch.
      mesh: where it will run.

    Returns:
      ``(state, meter, batch, key) -> (state, meter)``, and the meter to begin with.

    Raises:
      UserError: the task's settings do not fit the data.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    everywhere, rows = sharding.replicated(mesh), sharding.split(mesh)
    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    key_type = jax.eval_shape(lambda: jax.random.key(0)).dtype
    key = jax.ShapeDtypeStruct((), key_type, sharding=everywhere)
    advance, empty = make_advance(task, abstract, spec)
    jitted = jax.jit(
        advance,
        donate_argnums=0,
        in_shardings=(places, everywhere, rows, everywhere),
        out_shardings=(places, everywhere),
    )
    return jitted.trace(abstract, jax.eval_shape(lambda: empty), spec, key), empty


def make_advance(
    task: Task, abstract: TrainState, spec: Batch
) -> tuple[Callable[..., tuple[TrainState, Meter]], Meter]:
    """Return the guarded step as a function, and the meter to begin with.

    Args:
      task: the method.
      abstract: the state's shapes and shardings.
      spec: shapes of a global batch.

    Returns:
      ``(state, meter, batch, key) -> (state, meter)``, not yet traced, and a meter.

    Raises:
      UserError: the task's settings do not fit the data.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    # As in the loop: a key that lies elsewhere would cost a trace of its own.
    key = jax.ShapeDtypeStruct(
        (),
        jax.eval_shape(lambda: jax.random.key(0)).dtype,
        sharding=abstract.step.sharding,
    )
    step = jax.jit(task.step)  # Both uses below share this one trace.
    try:
        after, scalars = step.eval_shape(abstract, spec, key)
    except ValueError as error:
        raise start.explain(error) from error
    _check_stable(abstract, after)

    def advance(
        state: TrainState, meter: Meter, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, Meter]:
        whole = state._replace(params=placement.gather(state.params, abstract.params))
        new, scalars = step(whole, batch, jax.random.fold_in(key, state.step))
        bad = _find_bad(new, scalars)
        skip = jnp.any(jnp.stack([*bad.values()]))
        kept = jax.tree.map(lambda now, old: jnp.where(skip, old, now), new, state)
        meter = _add(meter, scalars, bad, skip, new.step)
        return kept._replace(step=new.step), meter

    zero = jnp.zeros((), jnp.int32)
    empty = Meter(
        sums={name: jnp.zeros(()) for name in scalars},
        count=zero,
        causes={name: zero for name in [*_losses(scalars), UPDATE]},
        skipped=zero,
        streak=zero,
        stop_step=zero - 1,
    )
    return advance, empty


def _losses(names: Iterable[str]) -> list[str]:
    """Return the metrics that must be finite: the losses, else all there are."""
    names = [*names]
    return [name for name in names if name.startswith("loss")] or names


def _find_bad(new: TrainState, scalars: Metrics) -> dict[str, Bool[Array, ""]]:
    """Say of each loss, and of the new state, whether it is not finite."""
    bad = {name: ~jnp.isfinite(scalars[name]) for name in _losses(scalars)}
    return {**bad, UPDATE: ~is_finite(new)}


def _add(
    meter: Meter,
    scalars: Metrics,
    bad: dict[str, Bool[Array, ""]],
    skip: Bool[Array, ""],
    step: Int[Array, ""],
) -> Meter:
    """Add one step: its metrics if it made an update, else the reasons why not."""
    streak = jnp.where(skip, meter.streak + 1, 0)
    stop = (meter.stop_step < 0) & (streak >= MAX_SKIPS)
    return Meter(
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


def renew(empty: Meter, meter: Meter) -> Meter:
    """Return the meter of the next interval; skipped steps in a row count on."""
    return empty._replace(streak=meter.streak)


def to_plain(meter: Meter) -> dict[str, Any]:
    """Return a meter as JSON holds it exactly: each float32 is a double, too."""
    return jax.tree.map(lambda x: x.item(), jax.device_get(meter))._asdict()


def from_plain(kept: Mapping[str, Any], empty: Meter) -> Meter | None:
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

    return jax.tree.map(put, Meter(**kept), empty)


def _check_stable(before: TrainState, after: TrainState) -> None:
    old, new = manifest.describe(before), manifest.describe(after)
    for path in [*old, *new]:
        if old.get(path) != new.get(path):
            raise TypeError(
                f"the task's step turns {path} from {old.get(path)} into "
                f"{new.get(path)}; a step must keep the shapes of its state"
            )


@jax.jit
def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Say whether all numbers of a state are finite, those of optimizers too."""
    leaves = jax.tree.leaves((state.params, state.stats, state.opt_state))
    reals = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    # One reduction that XLA turns into vector code; it passes NaN on.
    tops = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in reals]
    return jnp.all(jnp.stack([top < jnp.inf for top in tops]))
