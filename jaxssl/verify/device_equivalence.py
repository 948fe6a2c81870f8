"""Compare a training step on one device with the same step on other meshes.

Every step starts from the state that one device reached, so the rounding of one step
does not grow into another trajectory in the next. The step is the step of training,
compiled in the same way but with more outputs, so XLA may fuse it differently:
`digested` adds random projections of the gradients, of the update, and of the changes
of the statistics and of the extra state to the metrics. The relative difference of two
digests estimates the relative difference of the arrays.
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

from jaxssl.distributed import mesh as meshes
from jaxssl.train import loop, state_init
from jaxssl.train.setup import Setup
from jaxssl.train.step import make_program
from jaxssl.types import Array, Batch, Key, Metrics, Shaped, Task, TrainState

# Random projections in a digest: with more of them the estimate of a difference varies
# less, and the step takes longer.
PROJECTIONS = 8

# Groups of metrics that `digested` adds, named ``group/player/number``.
DIGESTS = ("gradient", "update", "statistics", "extra")

# Largest relative difference of each group that counts as rounding; see `compare`.
# Sums in another order change the last digits. A ReLU or a maximum near a tie then
# changes a gradient by more, and Adam divides small gradients by their size. Another
# batch norm, dropout mask or view differs by tenths or more.
TOLERANCES = {
    "loss": 1e-4,
    "metrics": 1e-3,
    "gradient": 1e-2,
    "update": 5e-2,
    "statistics": 1e-3,
    "extra": 5e-2,
}

# One device repeats each step ``NUDGES`` times from a state perturbed by rounding. For
# ``NUDGED_GROUPS`` the tolerance is ``NUDGED_TIMES`` times the largest difference seen,
# if that is more than in `TOLERANCES`, but at most ``LARGEST``: with few rows in a
# batch, rounding flips a large share of the ReLUs of some networks.
NUDGED = "1 device, nudged"
NUDGES, NUDGED_TIMES, LARGEST = 4, 4, 0.1
NUDGED_GROUPS = ("gradient", "update", "extra")

# Size of a nudge in units in the last place. A sum of a thousand terms in another order
# differs by about this much, and batch norm subtracts such sums of squares.
UNITS = 32

# File with the metrics of one device, a list with one entry for each step.
REFERENCE = "reference.json"


class CompiledMesh(NamedTuple):
    """A mesh with the step that was compiled for it.

    Attributes:
      name: the mesh in words, as "8 devices".
      step: ``step(leaves, rows) -> (state, metrics)``: from the leaves of a state on
        the host and this process's rows to the new state on the devices and metrics.
      mesh: the devices.
    """

    name: str
    step: Callable[[list[np.ndarray], dict], tuple[TrainState, dict[str, float]]]
    mesh: Mesh


class Comparison(NamedTuple):
    """One step of a mesh beside that of one device.

    Attributes:
      step: counts from 1.
      mesh: the name of the mesh, or ``NUDGED``.
      differences: the result of `compare`, by group.
    """

    step: int
    mesh: str
    differences: dict[str, float]


# --- Digests


def digested(task: Task) -> Task:
    """Return the task with digests of each step among its metrics."""

    def step(
        state: TrainState, batch: Batch, key: Key[Array, ""]
    ) -> tuple[TrainState, Metrics]:
        grads = {}
        if task.halves is None:
            new, metrics = task.step(state, batch, key)
        else:
            gradients = task.halves.gradients(state, batch, key)
            new, metrics = task.halves.update(state, gradients)
            grads = gradients.grads
        digests = (
            grads,
            _change(state.params, new.params),
            _change(state.stats, new.stats),
            _change(state.extra, new.extra),
        )
        metrics = dict(metrics)
        for group, by_player in zip(DIGESTS, digests, strict=True):
            for player, tree in by_player.items():
                for i, value in enumerate(_project(tree)):
                    metrics[f"{group}/{player}/{i}"] = value
        return new, metrics

    return task._replace(step=step)


def _change(before: Any, after: Any) -> Any:
    """Return ``after`` minus ``before``; leaves that are no floats become None."""

    def subtract(old: Array, new: Array) -> Array | None:
        return new - old if jnp.issubdtype(new.dtype, jnp.inexact) else None

    return jax.tree.map(subtract, before, after)


def _project(tree: Any) -> list[Array]:
    """Return the sums of all numbers of a tree, each under other random signs.

    A tree without leaves has no digest.
    """
    leaves = jax.tree.leaves(tree)
    sums = [jnp.zeros(())] * (PROJECTIONS if leaves else 0)
    for number, leaf in enumerate(leaves):
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
      ours: metrics of one device.
      theirs: metrics of another mesh, with the same names.

    Returns:
      The largest difference of each group of `TOLERANCES` that occurs in the metrics.
      Losses differ relative to the loss of one device. Other metrics differ relative to
      the metric or to 1, whichever is more. Digests differ relative to the length of
      the digest, for each player. NaN differs by infinity.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for name, value in ours.items():
        group, *rest = name.split("/")
        # The numbers of one digest are compared together, as a vector.
        vector = f"{group}/{rest[0]}" if group in DIGESTS else name
        pairs.setdefault(vector, []).append((value, theirs[name]))
    differences: dict[str, float] = {}
    for name, values in pairs.items():
        a, b = np.array(values).T
        distance, length = np.linalg.norm(a - b), np.linalg.norm(a)
        group = name.split("/")[0]
        if group not in DIGESTS:
            group = "loss" if group == "loss" else "metrics"
            length = max(length, 1e-6 if group == "loss" else 1.0)
        difference = float(distance / length if length else distance)
        difference = float("inf") if np.isnan(difference) else difference
        differences[group] = max(differences.get(group, 0.0), difference)
    return differences


def nudge(leaves: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Change about two in three floats of a state by ``UNITS``, up or down."""
    rng = np.random.default_rng(seed)

    def move(x: np.ndarray) -> np.ndarray:
        if not np.issubdtype(x.dtype, np.floating):
            return x
        sign = rng.integers(-1, 2, x.shape).astype(x.dtype)
        return np.asarray(x * (1 + sign * UNITS * np.finfo(x.dtype).eps), x.dtype)

    return [move(leaf) for leaf in leaves]


def allow(nudged: Mapping[str, float]) -> dict[str, float]:
    """Return the largest difference that counts as rounding, for each group.

    Args:
      nudged: the largest result of `compare` for nudged states, by group.
    """
    tolerances = dict(TOLERANCES)
    for group in NUDGED_GROUPS:
        measured = min(NUDGED_TIMES * nudged.get(group, 0.0), LARGEST)
        tolerances[group] = max(tolerances[group], measured)
    return tolerances


# --- Steps


def compile_mesh(setup: Setup, name: str, layout: meshes.MeshConfig) -> CompiledMesh:
    """Compile the step for a mesh.

    Raises:
      UserError: the batch or the state does not fit the mesh.
    """
    mesh = meshes.make_mesh(layout)
    meshes.check_batch(setup.train.batch_size, mesh)
    task, spec = digested(setup.experiment.task), setup.spec()
    abstract = state_init.make_abstract(task, spec, mesh, layout)
    program = make_program(task, abstract, spec, mesh)
    step_fn = program.compile()
    key = meshes.replicate(state_init.make_keys(setup.seed)[1], mesh)
    abstract_leaves, structure = jax.tree.flatten(abstract)

    def step(
        leaves: list[np.ndarray], rows: dict
    ) -> tuple[TrainState, dict[str, float]]:
        pairs = zip(leaves, abstract_leaves, strict=True)
        state = structure.unflatten(_put(x, like.sharding) for x, like in pairs)
        batch = meshes.to_devices(rows, mesh)
        new, meter = step_fn(state, program.empty, batch, key)
        sums = jax.device_get(meter.sums)
        # A skipped step adds nothing to the sums: its metrics become NaN.
        count = float(meter.count) or float("nan")
        return new, {metric: float(total) / count for metric, total in sums.items()}

    return CompiledMesh(name, step, mesh)


def _put(value: np.ndarray, sharding: jax.sharding.Sharding) -> Array:
    """Put a value that every process has on the devices of all processes."""
    return jax.make_array_from_callback(value.shape, sharding, lambda part: value[part])


def first_state(setup: Setup, mesh: Mesh) -> TrainState:
    """Return the state that training starts from."""
    task, spec = setup.experiment.task, setup.spec()
    abstract = state_init.make_abstract(task, spec, mesh)
    state = state_init.init(task, spec, abstract, seed=setup.seed)
    experiment = setup.experiment
    return state_init.graft_players(
        state, experiment.init_from, experiment.heads, lambda _: None
    )


def fetch(state: TrainState) -> list[np.ndarray]:
    """Return the leaves of a state on the host."""
    return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state))]


def open_rows(setup: Setup, mesh: Mesh) -> contextlib.closing:
    """Open this process's rows of each batch, from the first step on."""
    source = setup.experiment.train_set
    return contextlib.closing(
        loop.open_rows(setup.batches, source, setup.train, mesh, seed=setup.seed)
    )


def compare_devices(
    setup: Setup, counts: Sequence[int], steps: int, folder: Path
) -> Iterator[Comparison]:
    """Take steps on one device, and each of these steps on more devices as well.

    Args:
      setup: the config, built.
      counts: numbers of devices.
      steps: number of steps.
      folder: keeps what `repeat` needs: the states and metrics of one device.

    Yields:
      Each step on each mesh, and on one device from nudged states as ``NUDGED``.

    Raises:
      UserError: a mesh does not fit.
    """
    reference = compile_mesh(setup, "1 device", meshes.MeshConfig(data=1))
    others = [
        compile_mesh(setup, f"{count} devices", scale_layout(setup.mesh, count))
        for count in counts
    ]
    leaves = fetch(first_state(setup, reference.mesh))
    reference_metrics = []
    with open_rows(setup, reference.mesh) as rows:
        for step in range(1, steps + 1):
            batch = next(rows)
            np.savez(folder / f"{step}.npz", *leaves)
            new, ours = reference.step(leaves, batch)
            reference_metrics.append(ours)
            for seed in range(NUDGES):
                _, theirs = reference.step(nudge(leaves, seed), batch)
                yield Comparison(step, NUDGED, compare(ours, theirs))
            for other in others:
                _, theirs = other.step(leaves, batch)
                yield Comparison(step, other.name, compare(ours, theirs))
            leaves = fetch(new)
    (folder / REFERENCE).write_text(json.dumps(reference_metrics))


def repeat(setup: Setup, folder: Path) -> list[dict[str, float]]:
    """Take the steps of `compare_devices` again, on all devices of all processes.

    Args:
      setup: the config, built.
      folder: the folder of `compare_devices`.

    Returns:
      The result of `compare` for each step.
    """
    layout = scale_layout(setup.mesh, jax.device_count())
    compiled = compile_mesh(setup, "all devices", layout)
    reference_metrics = json.loads((folder / REFERENCE).read_text())
    differences = []
    with open_rows(setup, compiled.mesh) as rows:
        for step, ours in enumerate(reference_metrics, start=1):
            with np.load(folder / f"{step}.npz") as file:
                leaves = [file[f"arr_{i}"] for i in range(len(file.files))]
            _, theirs = compiled.step(leaves, next(rows))
            differences.append(compare(ours, theirs))
    return differences


def scale_layout(layout: meshes.MeshConfig, devices: int) -> meshes.MeshConfig:
    """Return the layout of a config for another number of devices."""
    return dataclasses.replace(layout, data=max(devices // layout.model, 1))
