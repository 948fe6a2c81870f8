"""What every Task keeps; a new method joins by one line in ``tests/tasks.py``.

SGD throughout: with Adam, parameters whose true gradient is zero move by the sign of
its rounding error, and equal programs disagree.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxssl.checkpoint import store as checkpoints
from tests.tasks import CALLS, TASKS

KEY = jax.random.key(7)
COVERED = (
    "transformations/lci_plain",
    "transformations/rotations",
    "transformations/lci_frozen_whole",
    "transformations/warp",
)
"""Other tasks have their parts: ``all`` each class, ``lci_frozen`` the settings."""

EACH_TASK = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in COVERED else ())
        for name in sorted(TASKS)
    ],
)


def make_tx(_player):
    """Return SGD with momentum whose learning rate is in its state, so it can be 0."""
    return optax.inject_hyperparams(optax.sgd)(learning_rate=1e-2, momentum=0.9)


@functools.cache
def start(name):
    """Return a task's batch, first state and compiled step (shared by the tests)."""
    task, batch = TASKS[name](make_tx, batch_size=16)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    step = jax.jit(lambda s, b: task.step(s, b, jax.random.fold_in(KEY, s.step)))
    return task, batch, state, step


@functools.cache
def three_steps(name):
    """Return the states and metrics of three steps."""
    _, batch, state, step = start(name)
    states, metrics = [state], []
    for _ in range(3):
        state, found = step(states[-1], batch)
        states.append(state)
        metrics.append(found)
    return states, metrics


def _leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def _equal(a, b):
    pairs = zip(_leaves(a), _leaves(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@EACH_TASK
def test_three_steps_compile_once_and_count(name):
    states, _ = three_steps(name)
    *_, step = start(name)
    assert step._cache_size() == 1
    assert [int(s.step) for s in states] == [0, 1, 2, 3]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[-1])


@EACH_TASK
def test_every_leaf_is_finite_and_no_leaf_changes_its_type(name):
    states, metrics = three_steps(name)
    for leaf in _leaves((states, metrics)):
        assert np.isfinite(leaf).all()
    first, last = (jax.tree.map(lambda x: x.dtype, s) for s in (states[0], states[-1]))
    assert first == last


@EACH_TASK
def test_metrics_are_scalars_with_constant_names(name):
    _, metrics = three_steps(name)
    assert metrics[0].keys() == metrics[1].keys() == metrics[2].keys()
    for key, value in metrics[0].items():
        assert jnp.shape(value) == (), key
        assert key.count("/") == 1, key


@EACH_TASK
def test_the_same_key_gives_the_same_step_and_another_step_another(name):
    states, _ = three_steps(name)
    _, batch, state, step = start(name)
    again, _ = step(state, batch)
    assert _equal(again, states[1])
    later, _ = step(state._replace(step=state.step + 1), batch)
    assert not _equal(later.params, again.params)


@EACH_TASK
def test_each_optimizer_moves_its_player_and_no_other(name):
    task, batch, state, step = start(name)
    together = three_steps(name)[0][1]
    for player in state.opt_state:
        opt_state = {
            other: tx_state
            if other == player
            else tx_state._replace(
                hyperparams={
                    k: jnp.zeros_like(v) for k, v in tx_state.hyperparams.items()
                }
            )
            for other, tx_state in state.opt_state.items()
        }
        alone, _ = step(state._replace(opt_state=opt_state), batch)
        for other in state.params:
            moved = not _equal(alone.params[other], state.params[other])
            assert moved == (other == player), (player, other)
        if task.halves is not None:
            # Its update is the same whether the others move or not: all gradients are
            # taken at the same parameters.
            assert _equal(alone.params[player], together.params[player])


@EACH_TASK
def test_saved_and_restored_training_goes_on_bit_equal(name, tmp_path):
    states, _ = three_steps(name)
    _, batch, _, step = start(name)
    with checkpoints.open_store(tmp_path, keep=2) as store:
        checkpoints.save(store, states[1])
    found, damage = checkpoints.find_newest(tmp_path)
    assert found == 1
    assert not damage
    state = checkpoints.restore(tmp_path, 1, jax.eval_shape(lambda: states[1]))
    # On no particular device, like the states before, so that nothing is recompiled.
    state = jax.device_put(jax.device_get(state))
    for _ in range(2):
        state, _ = step(state, batch)
    assert _equal(state, states[3])


@EACH_TASK
def test_one_and_eight_devices_agree(name):
    _, batch, state, step = start(name)
    alone, alone_metrics = step(state, batch)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread, metrics = step(
        jax.device_put(state, everywhere), jax.device_put(batch, rows)
    )
    # Batch-norm statistics are those of the global batch: each device's own would be
    # off by their first digit. Gradients agree to a percent (ReLUs and pools flip).
    for part in ("params", "stats", "extra"):
        pairs = zip(
            _leaves(getattr(alone, part)), _leaves(getattr(spread, part)), strict=True
        )
        for a, b in pairs:
            # An integer may be the rounding of a number that moved in its last digits.
            atol = 2e-4 if np.issubdtype(a.dtype, np.floating) else 1
            np.testing.assert_allclose(
                a.astype(np.float64), b.astype(np.float64), rtol=2e-4, atol=atol
            )
    for key, value in alone_metrics.items():
        np.testing.assert_allclose(value, metrics[key], rtol=1e-3, atol=1e-4)


@EACH_TASK
def test_predict_fns_are_pure_and_finite(name):
    """Each that the task declares; what it returns follows from its inputs alone."""
    task, batch, state, _ = start(name)
    before = _leaves(state)
    assert task.predict_fns
    for predict_fn, predict in task.predict_fns.items():
        inputs = CALLS[predict_fn](batch)
        call = jax.jit(predict)
        outputs = _leaves(call(state, *inputs))
        assert all(np.isfinite(leaf).all() for leaf in outputs)
        assert all(len(leaf) == len(batch["id"]) for leaf in outputs)
        assert _equal(outputs, call(state, *inputs))
    for a, b in zip(before, _leaves(state), strict=True):
        np.testing.assert_array_equal(a, b)
