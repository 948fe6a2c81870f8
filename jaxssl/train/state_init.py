"""The first state of a run, and the shapes that are known before there is one."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxssl import text
from jaxssl.checkpoint import init_from as init_from_lib
from jaxssl.data import pipeline
from jaxssl.data.pipeline import Pipeline
from jaxssl.data.source import Source, check_spec
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed import partition
from jaxssl.errors import UserError
from jaxssl.types import Array, Batch, Key, Task, TrainState


def make_keys(seed: int) -> tuple[Key[Array, ""], Key[Array, ""]]:
    """Return the key of the first state and the key of all training steps."""
    init_key, step_key = jax.random.split(jax.random.key(seed))
    return init_key, step_key


def make_spec(
    source: Source, *, batch_size: int, max_bad_records: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the shapes of a global batch, and read one record of it.

    The shapes are those that the source declares. The record is read so that data which
    cannot be read, or does not have these shapes, ends a run before it compiles.

    Args:
      source: the data set.
      batch_size: rows of a global batch.
      max_bad_records: how many records from the first on may be unreadable.

    Returns:
      Name to shape and dtype.

    Raises:
      UserError: more of them cannot be read (names the last), or the record does not
        have the declared shapes.
    """
    check_spec(source)
    pipeline.fetch(source, np.zeros(1, np.int64), max_bad_records)
    spec = {**source.spec, "id": jax.ShapeDtypeStruct((), np.int32)}
    return {
        name: jax.ShapeDtypeStruct((batch_size, *one.shape), one.dtype)
        for name, one in spec.items()
    }


def make_abstract(
    task: Task, spec: Batch, mesh: Mesh, layout: meshes.MeshConfig | None = None
) -> TrainState:
    """Return the state's shapes, dtypes and shardings without computing anything.

    Args:
      task: the method.
      spec: shapes of a global batch.
      mesh: where the state lives.
      layout: how it is split; every device has all of it by default.

    Returns:
      The state, each leaf a ``jax.ShapeDtypeStruct``.

    Raises:
      UserError: the task's settings do not fit the data, or a rule the state.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        state = jax.eval_shape(task.init, key, spec)
    except ValueError as error:
        raise explain(error) from error
    return partition.place(state, mesh, layout or meshes.MeshConfig())


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
    state: TrainState,
    init_from: Mapping[str, str],
    heads: Mapping[str, Sequence[str]],
    say: text.Say,
) -> TrainState:
    """Give players the arrays that they have in other runs.

    Args:
      state: a fresh state.
      init_from: player to the workdir of another run.
      heads: player to the layers of its network that may differ there; see
        `jaxssl.checkpoint.init_from.restore_players`.
      say: hears what was taken from where.

    Returns:
      The state with these players' ``params`` and ``stats`` replaced.

    Raises:
      UserError: a run has no checkpoint or no such player, or it does not fit.
      NoValidCheckpointError: all checkpoints of a run are damaged.
    """
    for workdir in sorted(set(init_from.values())):
        players = [player for player, run in init_from.items() if run == workdir]
        state = init_from_lib.restore_players(Path(workdir), players, state, heads, say)
    return state


def make_untrained(
    task: Task,
    source: Source,
    spec: Batch,
    mesh: Mesh,
    *,
    batches: Pipeline,
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
      spec: shapes of a global batch.
      mesh: where the state lives.
      batches: the pipeline.
      seed: the run's seed.
      num_steps: number of batches.

    Returns:
      The state, with ``step`` 0.
    """
    state = init(task, spec, make_abstract(task, spec, mesh), seed=seed)
    key = jax.device_put(make_keys(seed)[1], meshes.replicated(mesh))

    @jax.jit
    def move(state: TrainState, batch: Batch, key: Key[Array, ""]) -> TrainState:
        new, _ = task.step(state, batch, jax.random.fold_in(key, state.step))
        return state._replace(stats=new.stats, step=new.step)

    size = next(iter(spec.values())).shape[0]
    with contextlib.closing(batches(source, batch_size=size, seed=seed)) as rows:
        for _ in range(num_steps):
            state = move(state, meshes.to_devices(next(rows), mesh), key)
    return state._replace(step=jnp.zeros_like(state.step))
