"""The first state of a run, and the shapes that are known before there is one."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxssl.data.pipeline import Batches
from jaxssl.train import checkpoint, placement, sharding
from jaxssl.types import Array, Batch, Key, Task, TrainState, UserError

Pipeline = Callable[..., Batches]
"""``jaxssl.data.pipeline.batches`` or a function like it."""


def make_keys(seed: int) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """Return the key of the first state and the key of all training steps."""
    init_key, step_key = jax.random.split(jax.random.key(seed))
    return init_key, step_key


def make_spec(
    batches: Pipeline, source: Any, *, batch_size: int, seed: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a global batch, from the first one.

    Args:
      batches: the pipeline.
      source: the data set.
      batch_size: rows of a global batch.
      seed: of the order of the data.

    Returns:
      Name to shape and dtype.
    """
    with contextlib.closing(batches(source, batch_size=batch_size, seed=seed)) as rows:
        first = next(rows)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *value.shape[1:]), value.dtype)
        for name, value in first.items()
    }


def make_abstract(
    task: Task, spec: Batch, mesh: Mesh, layout: sharding.Config | None = None
) -> TrainState:
    """Return the state's shapes, dtypes and shardings without computing anything.

    Args:
      task: the method.
      spec: shapes of a global batch.
      mesh: where the state lives.
      layout: how it is split; every device has all of it by default.

    Raises:
      UserError: the task's settings do not fit the data, or a rule the state.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        state = jax.eval_shape(task.init, key, spec)
    except ValueError as error:
        raise explain(error) from error
    return placement.place(state, mesh, layout or sharding.Config())


def explain(error: ValueError) -> UserError:
    """Turn an error of tracing, where shapes meet settings, into one line."""
    if isinstance(error, UserError):
        return error
    lines = str(error).splitlines() or [repr(error)]
    return UserError(f"the settings do not fit the data: {lines[0]}")


def init(task: Task, spec: Batch, abstract: TrainState, *, seed: int) -> TrainState:
    """Draw a fresh state, each device its own part; the values know no mesh.

    Args:
      task: the method.
      spec: shapes of a global batch.
      abstract: the state's shapes and shardings.
      seed: the run's seed.

    Returns:
      The state at step 0.
    """

    def draw(key: Key[Array, ""]) -> TrainState:
        return task.init(key, {n: jnp.zeros(s.shape, s.dtype) for n, s in spec.items()})

    places = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    return jax.jit(draw, out_shardings=places)(make_keys(seed)[0])


def graft_players(
    state: TrainState, init_from: Mapping[str, str], say: checkpoint.Say
) -> TrainState:
    """Give players the arrays that they have in other runs.

    Args:
      state: a fresh state.
      init_from: player to the workdir of another run.
      say: hears what was taken from where.

    Returns:
      The state with these players' ``params`` and ``stats`` replaced.
    """
    for workdir in sorted(set(init_from.values())):
        players = [player for player, place in init_from.items() if place == workdir]
        state = checkpoint.restore_players(Path(workdir), players, state, say)
    return state


def make_untrained(
    task: Task,
    source: Any,
    mesh: Mesh,
    *,
    batches: Pipeline,
    batch_size: int,
    seed: int,
    num_steps: int = 80,
) -> TrainState:
    """Draw the state that training starts from and fill its statistics.

    The parameters stay at their random values; batch-norm averages are moved by
    ``num_steps`` forward passes, because an untouched average would make the network
    look worse than it is.

    Args:
      task: the method.
      source: the training set.
      mesh: where the state lives.
      batches: the pipeline.
      batch_size: rows of a global batch.
      seed: the run's seed.
      num_steps: number of batches.

    Returns:
      The state, with ``step`` 0.
    """
    spec = make_spec(batches, source, batch_size=batch_size, seed=seed)
    state = init(task, spec, make_abstract(task, spec, mesh), seed=seed)
    key = jax.device_put(make_keys(seed)[1], sharding.replicated(mesh))

    @jax.jit
    def move(state: TrainState, batch: Batch, key: Key[Array, ""]) -> TrainState:
        new, _ = task.step(state, batch, jax.random.fold_in(key, state.step))
        return state._replace(stats=new.stats, step=new.step)

    with contextlib.closing(batches(source, batch_size=batch_size, seed=seed)) as rows:
        for _ in range(num_steps):
            state = move(state, sharding.to_devices(next(rows), mesh), key)
    return state._replace(step=jnp.zeros_like(state.step))
