"""Each method's step over micro-batches, against its step over the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.methods import classify, probe, transformations
from jaxssl.methods import task as task_lib
from jaxssl.models.mlp import mlp
from jaxssl.types import Network, TrainState
from tests.tasks import images

KEY = jax.random.key(5)


def dense(name, features):
    """A network without batch norm: all pixels to some numbers."""

    def init(key, x):
        kernel = jax.random.normal(key, (x[0].size, features)) / x[0].size ** 0.5
        return {"kernel": kernel}, {}

    def apply(params, stats, x, *, train, key=None):
        y = jnp.tanh(x.reshape(len(x), -1) @ params["kernel"])
        return {name: y[:, 0] if features == 1 else y}, stats

    return Network(init, apply)


def painter():
    """An inpainter without batch norm: each pixel for itself."""

    def apply(params, stats, x, *, train, key=None):
        return {"image": jnp.tanh(x @ params["kernel"])}, stats

    def init(key, x):
        return {"kernel": jnp.eye(3) + 0.1 * jax.random.normal(key, (3, 3))}, {}

    return Network(init, apply)


def recognition(micro_batches, **changes):
    config = transformations.Config(
        classes=("none", "lci"),
        canvas_size=24,
        crop_size=20,
        patch_size=12,
        border=2,
        **changes,
    )
    networks = transformations.Networks(
        dense("logits", 2), dense("conv1", 3), painter(), dense("logits", 1)
    )
    txs = {player: optax.sgd(0.1) for player in config.trained_players}
    task = transformations.make_task(config, networks, txs, micro_batches=micro_batches)
    return task, images(24)


def classification(micro_batches, name="sgd", norm=False, dropout=0.0):
    network = mlp(3, features=(16,), norm=norm, dropout=dropout)
    config = classify.Config(crop_size=20, contrast=0.5, brightness=0.2)
    task = classify.make_task(
        config,
        classify.Networks(network, network),
        {"classifier": optax.sgd(0.1)},
        classify.Learner(name=name, **({} if name == "sgd" else {"k": 4})),
        micro_batches=micro_batches,
    )
    return task, images(24)


def probes(micro_batches):
    def apply(params, stats, x, *, train, key=None):
        return {"conv1": x * params["scale"]}, stats

    backbone = Network(lambda key, x: ({"scale": jnp.ones(())}, {}), apply)
    config = probe.Config(num_classes=3, crop_size=20, endpoints=("conv1",))
    task = probe.make_task(
        config, backbone, {"probe": optax.sgd(0.1)}, micro_batches=micro_batches
    )
    return task, images(24)


EXACT = [
    pytest.param(recognition, {}, id="chapter 4"),
    pytest.param(
        recognition,
        {"critic_patches": 3, "tilted": "alternate"},
        id="three patches",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        recognition,
        {"inpainter": "frozen"},
        id="frozen inpainter",
        marks=pytest.mark.slow,
    ),
    pytest.param(classification, {}, id="sgd"),
    pytest.param(classification, {"name": "ghost"}, id="ghost"),
]


@pytest.mark.parametrize(("make", "options"), EXACT)
def test_without_batch_norm_the_step_is_that_of_the_whole_batch(make, options):
    tasks = {n: make(n, **options)[0] for n in (1, 2)}
    batch = make(1, **options)[1]
    state = jax.jit(tasks[1].init)(jax.random.key(0), batch)
    after = {n: jax.jit(task.step)(state, batch, KEY) for n, task in tasks.items()}
    for a, b in zip(*map(jax.tree.leaves, (after[1], after[2])), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    moved = [
        jnp.abs(a - b).max()
        for a, b in zip(
            *map(jax.tree.leaves, (state.params, after[2][0].params)), strict=True
        )
    ]
    assert max(moved) > 1e-4


def regression(micro_batches):
    """A linear fit whose ``extra`` has averaged weights and a count of updates."""

    def init(key, batch):
        params = {"net": jax.random.normal(key, (4,))}
        extra = {"average": params["net"] + 1, "updates": jnp.zeros((), jnp.int32)}
        opt_state = {"net": txs["net"].init(params["net"])}
        return TrainState(jnp.zeros((), jnp.int32), params, {}, opt_state, extra)

    def differentiate(state, batch, key, number):
        def loss(w):
            return jnp.square(batch["x"] @ w - batch["y"]).mean()

        value, grad = jax.value_and_grad(loss)(state.params["net"])
        return task_lib.Gradients({"net": grad}, {}, {"loss/net": value})

    def update_extra(state):
        average = 0.9 * state.extra["average"] + 0.1 * state.params["net"]
        return {"average": average, "updates": state.extra["updates"] + 1}

    txs = {"net": optax.sgd(0.1)}
    gradients = task_lib.make_gradients(differentiate, micro_batches=micro_batches)
    return task_lib.make_task(init, gradients, txs, {}, update_extra=update_extra)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_extra_is_updated_once_a_step_from_the_new_weights(micro_batches):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=shape).astype(np.float32) for shape in ((12, 4), (12,)))
    batch = {"x": x, "y": y, "id": np.arange(12)}
    task = regression(micro_batches)
    state = task.init(KEY, batch)
    weights, average = (
        np.float64(state.params["net"]),
        np.float64(state.extra["average"]),
    )
    step = jax.jit(task.step)
    for count in (1, 2):
        state, _ = step(state, batch, KEY)
        weights = weights - 0.1 * 2 / 12 * x.T @ (x @ weights - y)
        average = 0.9 * average + 0.1 * weights
        np.testing.assert_allclose(state.params["net"], weights, rtol=1e-5)
        np.testing.assert_allclose(state.extra["average"], average, rtol=1e-5)
        assert state.extra["updates"].dtype == jnp.int32
        assert int(state.extra["updates"]) == count


def test_running_averages_move_once_and_means_exactly():
    stats = {}
    for micro_batches in (1, 4):
        task, batch = probes(micro_batches)
        state = jax.jit(task.init)(jax.random.key(0), batch)
        state, _ = jax.jit(task.step)(state, batch, KEY)
        stats[micro_batches] = state.stats["probe"]["conv1"]
    np.testing.assert_allclose(stats[1]["mean"], stats[4]["mean"], rtol=1e-5, atol=1e-7)
    # A part varies less than the whole: that is what batch norm sees.
    assert bool((stats[4]["var"] < stats[1]["var"]).all())
    np.testing.assert_allclose(stats[1]["var"], stats[4]["var"], rtol=0.02)


def test_dropout_differs_between_the_micro_batches():
    """All rows alike: the gradient of two parts is their own mean, not twice one."""
    task, batch = classification(2, dropout=0.5)
    alone, _ = classification(1, dropout=0.5)
    same = {k: np.repeat(v[:1], 24, axis=0) for k, v in batch.items()}
    state = jax.jit(task.init)(jax.random.key(0), same)
    half = {k: v[:12] for k, v in same.items()}
    grads = [
        jax.jit(t.halves.gradients)(state, b, KEY).grads
        for t, b in ((task, same), (alone, half))
    ]
    a, b = (g["classifier"]["logits"]["kernel"] for g in grads)
    assert bool(jnp.any(jnp.abs(a - b) > 1e-3))


def test_the_first_half_gives_the_gradient_that_the_step_takes():
    task, batch = classification(2)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    computed = jax.jit(task.halves.gradients)(state, batch, KEY)
    after, metrics = jax.jit(task.step)(state, batch, KEY)
    for player, grads in computed.grads.items():
        moved = jax.tree.map(
            lambda new, old: (old - new) / 0.1,
            after.params[player],
            state.params[player],
        )
        for a, b in zip(*map(jax.tree.leaves, (grads, moved)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert metrics.keys() == computed.metrics.keys()


@pytest.mark.parametrize(
    ("make", "micro_batches", "message"),
    [
        (
            classification,
            5,
            "compute.micro_batches is 5, which cannot share train.batc",
        ),
        (classification, 0, r"compute.micro_batches is 0; it must be at least 1"),
        (recognition, 8, r"evenly in groups of 2 rows; give a divisor of 12"),
    ],
)
def test_micro_batches_that_do_not_fit_are_refused(make, micro_batches, message):
    def trace():
        task, batch = make(micro_batches)
        state = jax.eval_shape(task.init, KEY, batch)
        jax.eval_shape(task.step, state, batch, KEY)

    with pytest.raises(UserError, match=message):
        trace()


def test_bilevel_learning_has_its_own_parts():
    with pytest.raises(UserError, match=r"learner.name is 'bilevel'"):
        classification(2, name="bilevel")
