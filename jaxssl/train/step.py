"""The compiled step: a task's step, its random key, and a meter on the device."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxssl.train import manifest, sharding, start
from jaxssl.types import Array, Batch, Bool, Int, Key, Metrics, Task, TrainState


class Meter(NamedTuple):
    """What the step adds up on the device between two log steps.

    Attributes:
      sums: of every metric.
      count: number of steps in the sums.
      bad_step: the first step whose loss was not finite, or -1.
    """

    sums: Metrics
    count: Int[Array, ""]
    bad_step: Int[Array, ""]


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
    """Trace the task's step once, for these shapes and this mesh.

    It is compiled ahead of time, so it cannot be traced again: a batch of another shape
    is an error, not a silent second compilation.

    Args:
      task: the method.
      abstract: the state's shapes and shardings.
      spec: shapes of a global batch.
      mesh: where it will run.

    Returns:
      The program.

    Raises:
      UserError: the task's settings do not fit the data.
      TypeError: the step changes the shape or dtype of a leaf of the state.
    """
    everywhere, rows = sharding.replicated(mesh), sharding.split(mesh)
    key_type = jax.eval_shape(lambda: jax.random.key(0)).dtype
    key = jax.ShapeDtypeStruct((), key_type, sharding=everywhere)
    step = jax.jit(task.step)  # Both uses below share this one trace.
    try:
        after, scalars = step.eval_shape(abstract, spec, key)
    except ValueError as error:
        raise start.explain(error) from error
    _check_stable(abstract, after)

    def advance(
        state: TrainState, meter: Meter, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, Meter]:
        new, scalars = step(state, batch, jax.random.fold_in(key, state.step))
        return new, _add(meter, scalars, new.step)

    zero = jnp.zeros((), jnp.int32)
    empty = Meter({name: jnp.zeros(()) for name in scalars}, zero, zero - 1)
    jitted = jax.jit(
        advance,
        donate_argnums=0,
        in_shardings=(everywhere, everywhere, rows, everywhere),
        out_shardings=(everywhere, everywhere),
    )
    lowered = jitted.lower(abstract, empty, spec, key)
    return Program(lowered.compile, jax.device_put(empty, everywhere))


def _add(meter: Meter, scalars: Metrics, step: Int[Array, ""]) -> Meter:
    """Add one step's metrics; remember the first step whose loss is not finite."""
    losses = [v for n, v in scalars.items() if n.startswith("loss")]
    finite = jnp.all(jnp.isfinite(jnp.stack(losses or [*scalars.values()])))
    return Meter(
        {n: meter.sums[n] + jnp.float32(scalars[n]) for n in meter.sums},
        meter.count + 1,
        jnp.where((meter.bad_step < 0) & ~finite, step, meter.bad_step),
    )


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
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in reals]))
