"""The compiled step: a task's step with its random key, guard and metric sums."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxssl import trees
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed import partition
from jaxssl.train import fits, metric_sums, state_init
from jaxssl.train.metric_sums import MetricSums
from jaxssl.types import Array, Batch, Bool, Key, Metrics, Task, TrainState


class Program(NamedTuple):
    """The step of one run, traced but not yet compiled.

    Attributes:
      compile: returns ``(state, meter, batch, key) -> (state, meter)``, where ``meter``
        is a `MetricSums`; the state that goes in is donated.
      empty: the meter at the beginning of a log interval.
    """

    compile: Callable[[], Callable[..., tuple[TrainState, MetricSums]]]
    empty: MetricSums


def make_program(task: Task, abstract: TrainState, spec: Batch, mesh: Mesh) -> Program:
    """Trace the task's step once, for these shapes and these shardings; see `trace`.

    The step is compiled ahead of time, so a batch of another shape is an error, not a
    silent second compilation.

    Args:
      task: the method.
      abstract: the state's shapes and shardings, which the new state keeps.
      spec: shapes of a global batch.
      mesh: the devices that run the step.

    Returns:
      The program.

    Raises:
      UserError: the task's settings do not fit the data, or the step does not fit into
        memory.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    traced, empty = trace(task, abstract, spec, mesh)
    fits.check_step(traced.jaxpr, abstract, spec, mesh)
    return Program(traced.lower().compile, meshes.replicate(empty, mesh))


def trace(
    task: Task, abstract: TrainState, spec: Batch, mesh: Mesh
) -> tuple[jax.stages.Traced, MetricSums]:
    """Trace the step that the loop takes; the devices need not exist.

    A step whose losses or new state are not finite is skipped: parameters, statistics,
    optimizer states and extra state keep their values, and only ``state.step`` moves
    on, so the next step has other data and another key. ``optax.apply_if_finite`` does
    the same for one optimizer; here all players are skipped together.

    Args:
      task: the method.
      abstract: the state's shapes and shardings, which the new state keeps.
      spec: shapes of a global batch.
      mesh: the devices that run the step.

    Returns:
      ``(state, meter, batch, key) -> (state, meter)``, and the empty meter.

    Raises:
      UserError: the task's settings do not fit the data.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    everywhere, rows = meshes.replicated(mesh), meshes.split(mesh)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    key = _abstract_key(everywhere)
    advance, empty = make_advance(task, abstract, spec)
    jitted = jax.jit(
        advance,
        donate_argnums=0,
        in_shardings=(shardings, everywhere, rows, everywhere),
        out_shardings=(shardings, everywhere),
    )
    return jitted.trace(abstract, jax.eval_shape(lambda: empty), spec, key), empty


def make_advance(
    task: Task, abstract: TrainState, spec: Batch
) -> tuple[Callable[..., tuple[TrainState, MetricSums]], MetricSums]:
    """Return the guarded step as a function that is not yet traced.

    Args:
      task: the method.
      abstract: the state's shapes and shardings.
      spec: shapes of a global batch.

    Returns:
      ``(state, meter, batch, key) -> (state, meter)``, and the empty meter.

    Raises:
      UserError: the task's settings do not fit the data.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    # The sharding is that of the loop's key: with another one jax would trace again.
    key = _abstract_key(abstract.step.sharding)
    step = jax.jit(task.step)  # Both uses below share this one trace.
    try:
        after, scalars = step.eval_shape(abstract, spec, key)
    except ValueError as error:
        raise state_init.explain(error) from error
    _check_stable(abstract, after)

    def advance(
        state: TrainState, meter: MetricSums, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, MetricSums]:
        whole = state._replace(params=partition.gather(state.params, abstract.params))
        new, scalars = step(whole, batch, jax.random.fold_in(key, state.step))
        bad = _find_bad(new, scalars)
        skip = jnp.any(jnp.stack([*bad.values()]))
        kept = jax.tree.map(lambda now, old: jnp.where(skip, old, now), new, state)
        meter = metric_sums.add(meter, scalars, bad, skip, new.step)
        return kept._replace(step=new.step), meter

    zero = jnp.zeros((), jnp.int32)
    empty = MetricSums(
        sums={name: jnp.zeros(()) for name in scalars},
        count=zero,
        causes={name: zero for name in [*_losses(scalars), metric_sums.UPDATE]},
        skipped=zero,
        streak=zero,
        stop_step=zero - 1,
    )
    return advance, empty


def _abstract_key(sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    dtype = jax.eval_shape(lambda: jax.random.key(0)).dtype
    return jax.ShapeDtypeStruct((), dtype, sharding=sharding)


def _losses(names: Iterable[str]) -> list[str]:
    """Return the metrics that must be finite: the losses, or all without a loss."""
    names = [*names]
    return [name for name in names if name.startswith("loss")] or names


def _find_bad(new: TrainState, scalars: Metrics) -> dict[str, Bool[Array, ""]]:
    """Return for each loss, and for the new state, whether it is not finite."""
    bad = {name: ~jnp.isfinite(scalars[name]) for name in _losses(scalars)}
    return {**bad, metric_sums.UPDATE: ~is_finite(new)}


def _check_stable(before: TrainState, after: TrainState) -> None:
    old, new = trees.describe(before), trees.describe(after)
    for path in [*old, *new]:
        if old.get(path) != new.get(path):
            raise TypeError(
                f"the task's step turns {path} from {old.get(path)} into "
                f"{new.get(path)}; a step must keep the shapes of its state"
            )


@jax.jit
def is_finite(state: TrainState) -> Bool[Array, ""]:
    """Return whether all floats of a state are finite, also those of optimizers."""
    parts = (state.params, state.stats, state.opt_state, state.extra)
    leaves = jax.tree.leaves(parts)
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    # XLA vectorises this reduction; NaN passes through the maximum.
    maxima = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in floats]
    return jnp.all(jnp.stack([maximum < jnp.inf for maximum in maxima]))
