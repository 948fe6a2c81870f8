"""Does a step depend on how many devices take it? The same state, asked of each mesh.

Every step starts from the state that the reference reached, so roundings of one step do
not grow into another trajectory in the next. What is compared comes out of the step of
training, compiled in the same way but with more outputs, so XLA may fuse it otherwise:
`digested` adds to its metrics a few random projections of the gradients, of the update,
and of the change of the statistics. The difference of two digests, relative to the
digest, estimates the relative difference of the arrays.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.distributed import mesh as meshes
from jaxssl.train import state_init
from jaxssl.train.step import make_program
from jaxssl.types import Array, Batch, Key, Metrics, Shaped, Task, TrainState

PROJECTIONS = 8

TOLERANCES = {
    "loss": 1e-4,
    "metrics": 1e-3,
    "gradient": 1e-2,
    "update": 5e-2,
    "statistics": 1e-3,
}
"""Largest difference of each group; see `compare`. Sums in another order move the last
digits; a ReLU or a maximum that flips on them moves a gradient more, and Adam divides
small gradients by their size. Another batch norm, mask or view is tenths or more."""

NUDGED = "1 device, nudged"
NUDGES, NUDGED_TIMES, LARGEST = 4, 4, 0.1
"""One device repeats its step so often with the last digits of the state changed. What
that does, so many times, is allowed for gradients and updates, up to the largest: some
networks on a few rows flip much."""

UNITS = 32
"""Nudges are of so many units in the last place: a sum of a thousand terms in another
order is about so far away, and batch norm subtracts such sums of squares."""

FOUND = "found.json"
DIGESTS = ("gradient", "update", "statistics")


class Setting(NamedTuple):
    """What is trained, apart from where.

    Attributes:
      task: the method.
      train_set: where mini-batches come from.
      init_from: player to the workdir of a run that gives its first arrays.
      heads: player to the layers of its network that may differ in that run.
      batches: the input pipeline.
      spec: shapes of a global batch.
      batch_size: its rows.
      seed: of the run.
      layout: the section ``mesh``.
    """

    task: Task
    train_set: Source
    init_from: Mapping[str, str]
    heads: Mapping[str, Sequence[str]]
    batches: pipeline.Pipeline
    spec: Batch
    batch_size: int
    seed: int
    layout: meshes.MeshConfig


class Place(NamedTuple):
    """A mesh with the compiled step for it.

    Attributes:
      name: for a person.
      take: from the leaves of a state on the host and this process's rows to the new
        state on its devices and the metrics.
      mesh: its devices.
    """

    name: str
    take: Callable[[list[np.ndarray], dict], tuple[TrainState, dict[str, float]]]
    mesh: Mesh


# --- Digests


def digested(task: Task) -> Task:
    """Return the task with digests of each step among its metrics."""

    def step(
        state: TrainState, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        grads = {}
        if task.halves is not None:
            gradients = task.halves.gradients(state, batch, key)
            new, metrics = task.halves.update(state, gradients)
            grads = gradients.grads
        else:  # A task from elsewhere.
            new, metrics = task.step(state, batch, key)
        update, moved = (
            jax.tree.map(jnp.subtract, after, before)
            for after, before in ((new.params, state.params), (new.stats, state.stats))
        )
        found = dict(metrics)
        for name, trees in zip(DIGESTS, (grads, update, moved), strict=True):
            for player, tree in trees.items():
                for i, value in enumerate(_project(tree)):
                    found[f"{name}/{player}/{i}"] = value
        return new, found

    return task._replace(step=step)


def _project(tree: Any) -> list[Array]:
    """Return the sums of all numbers of a tree under a few random draws of signs."""
    sums = [jnp.zeros(())] * PROJECTIONS
    for number, leaf in enumerate(jax.tree.leaves(tree)):
        offset = jnp.uint32(number * 0x9E3779B9 % 2**32)
        bits = _hash(jnp.arange(leaf.size, dtype=jnp.uint32) + offset)
        bits = bits.reshape(leaf.shape)
        for i in range(PROJECTIONS):
            sums[i] += jnp.where((bits >> i) & 1, leaf, -leaf).sum()
    return sums


def _hash(x: Shaped[Array, " n"]) -> Shaped[Array, " n"]:
    """Mix bits; jax.random would take longer to compile than the step.

    References:
      C. Wellons, "Prospecting for hash functions", 2018, lowbias32.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def compare(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """Compare the metrics of one step.

    Args:
      ours: of the reference.
      theirs: of another mesh.

    Returns:
      The largest difference of each group of `TOLERANCES` that is there: of losses
      relative to the loss, of other metrics relative to them or to 1, whichever is
      more, and of digests relative to the digest, for each player. NaN counts as
      infinitely far.
    """
    found: dict[str, float] = {}
    digests: dict[str, list[tuple[float, float]]] = {}
    for name, a in ours.items():
        group, _, rest = name.partition("/")
        b = theirs[name]
        if group in DIGESTS:
            digests.setdefault(f"{group}/{rest.split('/')[0]}", []).append((a, b))
            continue
        group = "loss" if group == "loss" else "metrics"
        scale = max(abs(a), 1e-6 if group == "loss" else 1.0)
        found[group] = max(found.get(group, 0.0), _far(abs(a - b) / scale))
    for name, pairs in digests.items():
        group = name.split("/")[0]
        a, b = np.array(pairs).T
        distance, size = np.linalg.norm(a - b), np.linalg.norm(a)
        ratio = _far(float(distance / size if size else distance))
        found[group] = max(found.get(group, 0.0), ratio)
    return found


def nudge(state: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Change about two in three numbers of a state by ``UNITS``, up or down."""
    rng = np.random.default_rng(seed)

    def move(x: np.ndarray) -> np.ndarray:
        if not np.issubdtype(x.dtype, np.floating):
            return x
        sign = rng.integers(-1, 2, x.shape).astype(x.dtype)
        return np.asarray(x * (1 + sign * UNITS * np.finfo(x.dtype).eps), x.dtype)

    return [move(leaf) for leaf in state]


def allow(nudged: Mapping[str, float]) -> dict[str, float]:
    """Return the largest difference that counts as rounding, for each group.

    Args:
      nudged: what `compare` said of nudged states, at most.
    """
    found = dict(TOLERANCES)
    for group in ("gradient", "update"):
        seen = min(NUDGED_TIMES * nudged.get(group, 0.0), LARGEST)
        found[group] = max(found[group], seen)
    return found


def _far(value: float) -> float:
    return float("inf") if np.isnan(value) else float(value)


# --- Steps


def make_place(setting: Setting, name: str, layout: meshes.MeshConfig) -> Place:
    """Compile the step for a mesh.

    Raises:
      UserError: the batch or the state does not fit the mesh.
    """
    mesh = meshes.make_mesh(layout)
    meshes.check_batch(setting.batch_size, mesh)
    task = digested(setting.task)
    abstract = state_init.make_abstract(task, setting.spec, mesh, layout)
    program = make_program(task, abstract, setting.spec, mesh)
    step_fn = program.compile()
    key = meshes.replicate(state_init.make_keys(setting.seed)[1], mesh)

    leaves, structure = jax.tree.flatten(abstract)

    def take(
        state: list[np.ndarray], rows: dict
    ) -> tuple[TrainState, dict[str, float]]:
        pairs = zip(state, leaves, strict=True)
        placed = structure.unflatten(_put(x, leaf.sharding) for x, leaf in pairs)
        batch = meshes.to_devices(rows, mesh)
        new, meter = step_fn(placed, program.empty, batch, key)
        sums = jax.device_get(meter.sums)
        # A step that is skipped adds nothing; then its metrics are no numbers.
        count = float(meter.count) or float("nan")
        return new, {metric: float(total) / count for metric, total in sums.items()}

    return Place(name, take, mesh)


def _put(value: np.ndarray, place: Any) -> Array:
    """Put a value that all processes know on the devices of all."""
    return jax.make_array_from_callback(value.shape, place, lambda part: value[part])


def first_state(setting: Setting, mesh: Mesh) -> TrainState:
    """Return the state that training starts from."""
    task, spec = setting.task, setting.spec
    abstract = state_init.make_abstract(task, spec, mesh)
    state = state_init.init(task, spec, abstract, seed=setting.seed)
    return state_init.graft_players(
        state, setting.init_from, setting.heads, lambda _: None
    )


def fetch(state: TrainState) -> list[np.ndarray]:
    """Return the leaves of a state on the host."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state))]


def open_rows(setting: Setting, mesh: Mesh) -> contextlib.closing:
    """Open this process's rows of each batch, from the first step on."""
    index, count = meshes.share(mesh)
    return contextlib.closing(
        setting.batches(
            setting.train_set,
            batch_size=setting.batch_size,
            seed=setting.seed,
            start_step=0,
            process_index=index,
            process_count=count,
        )
    )


def compare_devices(
    setting: Setting, counts: Sequence[int], steps: int, keep: Path
) -> Iterator[tuple[int, str, dict[str, float]]]:
    """Take steps on one device, and each of them on more as well.

    Args:
      setting: what is trained.
      counts: numbers of devices.
      steps: how many.
      keep: a folder for what `repeat` needs: the states and what one device found.

    Yields:
      The step, from 1 on, the name of the mesh, and what `compare` says; also of one
      device from nudged states, by the name ``NUDGED``.

    Raises:
      UserError: a mesh does not fit.
    """
    reference = make_place(setting, "1 device", meshes.MeshConfig(data=1))
    places = [
        make_place(setting, f"{count} devices", spread(setting.layout, count))
        for count in counts
    ]
    state = fetch(first_state(setting, reference.mesh))
    found = []
    with open_rows(setting, reference.mesh) as rows:
        for step in range(1, steps + 1):
            batch = next(rows)
            np.savez(keep / f"{step}.npz", *state)
            new, ours = reference.take(state, batch)
            found.append(ours)
            for number in range(NUDGES):
                _, theirs = reference.take(nudge(state, number), batch)
                yield step, NUDGED, compare(ours, theirs)
            for place in places:
                _, theirs = place.take(state, batch)
                yield step, place.name, compare(ours, theirs)
            state = fetch(new)
    (keep / FOUND).write_text(json.dumps(found))


def repeat(setting: Setting, keep: Path, name: str) -> list[dict[str, float]]:
    """Take the steps of `compare_devices` again, on all devices of all processes.

    Args:
      setting: what is trained.
      keep: the folder that was given there.
      name: of the mesh.

    Returns:
      What `compare` says, step by step.
    """
    layout = spread(setting.layout, jax.device_count())
    place = make_place(setting, name, layout)
    different = []
    with open_rows(setting, place.mesh) as rows:
        for step, ours in enumerate(json.loads((keep / FOUND).read_text()), start=1):
            with np.load(keep / f"{step}.npz") as file:
                state = [file[f"arr_{i}"] for i in range(len(file.files))]
            _, theirs = place.take(state, next(rows))
            different.append(compare(ours, theirs))
    return different


def spread(layout: meshes.MeshConfig, devices: int) -> meshes.MeshConfig:
    """Return the layout of a config for another number of devices."""
    return dataclasses.replace(layout, data=max(devices // layout.model, 1))
