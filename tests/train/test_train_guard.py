"""Numbers that are not finite: skipped, counted, and never saved."""

import contextlib
import io
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import errors
from jaxssl.checkpoint import store as checkpoints
from jaxssl.data import pipeline
from jaxssl.data.order import epochs
from jaxssl.data.source import ArraySource
from jaxssl.distributed import mesh as meshes
from jaxssl.distributed import watchdog
from jaxssl.errors import BadRecord, UserError
from jaxssl.run import metrics
from jaxssl.train import metric_sums, state_init, step
from jaxssl.types import TrainState

WORDS = {"log_every": 1, "num_steps": 12}


def _spoil_leaf(tree, value):
    """Put one number into the first leaf of floats, as one shard's gradient may."""
    leaves, treedef = jax.tree.flatten(tree)
    i = next(i for i, x in enumerate(leaves) if x.dtype == jnp.float32 and x.ndim)
    leaves[i] = leaves[i].ravel().at[1].set(value).reshape(leaves[i].shape)
    return jax.tree.unflatten(treedef, leaves)


def _in_state(part, value):
    return lambda new, scalars: (
        new._replace(**{part: _spoil_leaf(getattr(new, part), value)}),
        scalars,
    )


FAULTS = {
    "loss nan": lambda new, scalars: (new, {**scalars, "loss/classifier": jnp.nan}),
    "loss inf": lambda new, scalars: (new, {**scalars, "loss/classifier": -jnp.inf}),
    "params nan": _in_state("params", jnp.nan),
    "params inf": _in_state("params", jnp.inf),
    "stats nan": _in_state("stats", jnp.nan),
    "opt_state inf": _in_state("opt_state", -jnp.inf),
}


def _spoil(task, fault, bad):
    """Return the task with a fault after the steps whose numbers are in ``bad``."""

    def spoiled(state, batch, key):
        new, scalars = task.step(state, batch, key)
        scalars = {name: jnp.float32(value) for name, value in scalars.items()}
        worse = jax.tree.map(
            lambda x, like: jnp.asarray(x, like.dtype),
            fault(new, scalars),
            (new, scalars),
        )
        now = jnp.isin(state.step, jnp.array([*bad, -1]))
        return jax.tree.map(lambda x, y: jnp.where(now, x, y), worse, (new, scalars))

    return task._replace(step=spoiled)


def _by_hand(task, source, *, num_steps, bad):
    """Train in a plain loop that leaves bad steps out; return state and losses."""
    init_key, step_key = jax.random.split(jax.random.key(3))
    rows = pipeline.batches(source, batch_size=8, seed=3)
    batch = next(rows)
    state, advance, losses = jax.jit(task.init)(init_key, batch), jax.jit(task.step), []
    for number in range(num_steps):
        if number:
            batch = next(rows)
        new, scalars = advance(state, batch, jax.random.fold_in(step_key, number))
        if number not in bad:
            state = new
            losses.append(float(scalars["loss/classifier"]))
        state = state._replace(step=jnp.int32(number + 1))
    rows.close()
    return state, losses


def _means(workdir):
    return [r for r in metrics.read(workdir) if "data/skipped_steps" in r]


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_steps_leave_no_trace_but_a_count(tiny, fit, tmp_path, fault, faults):
    bad, task, out = (0, 1, 5, 8), tiny.make_task(), io.StringIO()
    broken = _spoil(task, FAULTS[fault], bad)
    state = fit(tmp_path, task=broken, c=WORDS, stream=out)
    expected, losses = _by_hand(task, tiny.make_source(), num_steps=12, bad=bad)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    records = _means(tmp_path)
    assert [i for i, r in enumerate(records) if r["data/skipped_steps"]] == list(bad)
    logged = [r["loss/classifier"] for r in records if "loss/classifier" in r]
    np.testing.assert_allclose(logged, losses, rtol=1e-5)
    assert all(math.isfinite(value) for r in records for value in r.values())
    cause = "loss/classifier (1 x)" if "loss" in fault else "the update (1 x)"
    line = "STEP 1: 1 of the last 1 steps made no update; not finite: "
    assert f"{line}{cause}." in out.getvalue()
    faults.record("F9", injected=1, survived=1)


def test_a_skipped_step_keeps_the_extra_state(tiny, mesh):
    """Averaged weights become infinite after step 2; the counter beside them stays."""
    plain, source = tiny.make_task(), tiny.make_source()

    def init(key, batch):
        state = plain.init(key, batch)
        return state._replace(extra={"average": jnp.ones(3), "count": jnp.int32(0)})

    def advance(state, batch, key):
        new, metrics = plain.step(state, batch, key)
        average = jnp.where(state.step == 1, jnp.inf, state.extra["average"] + 1)
        extra = {"average": average, "count": state.extra["count"] + 1}
        return new._replace(extra=extra), metrics

    task = plain._replace(init=init, step=advance)
    spec = state_init.make_spec(source, batch_size=8, max_bad_records=0)
    abstract = state_init.make_abstract(task, spec, mesh)
    program = step.make_program(task, abstract, spec, mesh)
    state, meter = state_init.init(task, spec, abstract, seed=3), program.empty
    step_fn, key = program.compile(), meshes.replicate(jax.random.key(0), mesh)
    with pipeline.batches(source, batch_size=8, seed=3) as rows:
        for _ in range(3):
            batch = meshes.to_devices(next(rows), mesh)
            state, meter = step_fn(state, meter, batch, key)
    np.testing.assert_array_equal(state.extra["average"], np.full(3, 3.0))
    assert (int(state.extra["count"]), int(state.step)) == (2, 3)
    assert int(meter.causes[metric_sums.UPDATE]) == 1


def test_a_bad_pixel_is_skipped_too(tiny, fit, tmp_path, faults):
    """The batch itself is broken, so loss and gradient are, as a real one would be."""
    task = tiny.make_task()

    def dark(state, batch, key):
        broken = jnp.where(state.step == 6, jnp.nan, 1.0)
        return task.step(state, {**batch, "image": batch["image"] * broken}, key)

    state = fit(tmp_path, task=task._replace(step=dark), c=WORDS)
    expected, _ = _by_hand(task, tiny.make_source(), num_steps=12, bad=(6,))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    faults.record("F9", injected=1, survived=1)


def test_means_are_over_the_steps_that_made_an_update(fit, tmp_path):
    words = ["--config.model.nan_at=4", "--config.model.nan_for=2"]
    fit(tmp_path / "each", words=words, c={**WORDS, "log_every": 1})
    fit(tmp_path / "six", words=words, c={**WORDS, "log_every": 6})
    each = [r["loss/classifier"] for r in _means(tmp_path / "each")[:4]]
    first = _means(tmp_path / "six")[0]
    assert first["loss/classifier"] == pytest.approx(np.mean(each), rel=1e-6)
    assert [r["data/skipped_steps"] for r in _means(tmp_path / "six")] == [2.0, 0.0]


@pytest.mark.parametrize("bad", [0, 1, 10])
@pytest.mark.parametrize("log_every", [1, 2, 7])
def test_three_in_a_row_stop_before_a_save(
    fit, tmp_path, newest, bits, bad, log_every, faults
):
    """Wherever the log steps lie; the same command then stops in the same way."""
    words = [f"--config.model.nan_at={bad}"]
    with pytest.raises(errors.NonFiniteError, match=r"loss/classifier \(") as caught:
        fit(tmp_path, words=words, c={"log_every": log_every})
    assert caught.value.step == bad + 1
    assert f"steps {bad + 1} to {bad + 3} made no update" in str(caught.value)
    # A save before the third has the parameters of the last good step.
    kept = [s for s in (4, 8, 12) if s < bad + 3]
    assert checkpoints.steps(tmp_path) == kept
    if not kept:
        assert "No checkpoint is there yet" in str(caught.value)
        return
    assert f"Step {kept[-1]} is kept" in str(caught.value)
    before = newest(tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(before))
    with pytest.raises(errors.NonFiniteError):
        fit(tmp_path, words=words, c={"log_every": log_every})
    assert bits(newest(tmp_path)) == bits(before)
    faults.record("F9", injected=1, survived=1)


def test_what_the_bad_steps_were_given_is_written_down(tiny, fit, tmp_path):
    with pytest.raises(errors.NonFiniteError):
        fit(tmp_path, words=["--config.model.nan_at=9"])
    record = json.loads((tmp_path / "nonfinite-10.json").read_text())
    assert record["causes"] == ["loss/classifier"]
    assert [given["step"] for given in record["steps"]] == [10, 11, 12]
    key = jax.random.split(jax.random.key(3))[1]
    with pipeline.batches(tiny.make_source(), batch_size=8, seed=3) as rows:
        for number, given in zip(range(12), [None] * 9 + record["steps"], strict=True):
            ids = next(rows)["id"].tolist()
            if given is not None:
                words = jax.random.key_data(jax.random.fold_in(key, number))
                assert (given["ids"], given["key"]) == (ids, words.tolist())


class _Damaged:
    """A data set with every second record damaged."""

    def __init__(self, whole):
        self._whole = whole

    def __getattr__(self, name):
        return getattr(self._whole, name)

    def __len__(self):
        return len(self._whole)

    def read(self, index, rng):
        if index % 2:
            raise BadRecord("damaged on purpose")
        return self._whole.read(index, rng)


def test_what_bad_steps_were_given_is_told_of_damaged_data(tiny, fit, tmp_path):
    """Twelve damaged records are more than the default limit, but not the run's."""
    with pytest.raises(errors.NonFiniteError):
        fit(
            tmp_path,
            source=_Damaged(tiny.make_source()),
            words=["--config.model.nan_at=9"],
            c={"max_bad_records": 12},
        )
    record = json.loads((tmp_path / "nonfinite-10.json").read_text())
    expected = epochs(tiny.make_source(), batch_size=8, seed=3)
    for given in record["steps"]:
        assert given["ids"] == expected(given["step"] - 1).tolist()


class _Ends(ArraySource):
    """Its disk is gone at the eleventh read."""

    reads = 0

    def take(self, indices):
        self.reads += 1
        if self.reads == 11:
            raise UserError("the disk is gone. Step 8 is kept")
        return super().take(indices)


@pytest.mark.parametrize("cause", ["numbers", "data"])
def test_a_run_that_ends_has_time_for_the_save_in_flight(
    tiny, fit, tmp_path, monkeypatch, cause
):
    """The limit of a step would end it by the watchdog's code instead of its own."""
    dogs, allowed_long = [], []
    settle, watch, open_store = (
        checkpoints.settle,
        watchdog.watch,
        checkpoints.open_store,
    )

    @contextlib.contextmanager
    def watch_and_keep(*args):
        with watch(*args) as dog:
            dogs.append(dog)
            yield dog

    @contextlib.contextmanager
    def open_and_look(*args, **options):
        with open_store(*args, **options) as store:
            try:
                yield store
            finally:
                allowed_long.append(dogs[0].long)

    def look_and_settle(store):
        allowed_long.append(dogs[0].long)
        settle(store)

    monkeypatch.setattr(watchdog, "watch", watch_and_keep)
    monkeypatch.setattr(checkpoints, "open_store", open_and_look)
    monkeypatch.setattr(checkpoints, "settle", look_and_settle)
    words = ["--config.model.nan_at=9"] if cause == "numbers" else []
    source = tiny.make_source(kind=ArraySource if cause == "numbers" else _Ends)
    with pytest.raises((errors.NonFiniteError, UserError), match="Step 8 is kept"):
        fit(tmp_path, words=words, source=source)
    assert len(allowed_long) >= 3
    assert all(allowed_long)


def test_two_in_a_row_go_on_again_and_again(fit, tmp_path):
    words = ["--config.model.nan_at=3", "--config.model.nan_for=2"]
    assert int(fit(tmp_path, words=words).step) == 20
    assert checkpoints.steps(tmp_path) == [12, 16, 20]


def test_a_first_state_without_numbers_is_never_saved(tiny, fit, tmp_path, faults):
    task = tiny.make_task()

    def init(key, batch):
        state = task.init(key, batch)
        return state._replace(params=_spoil_leaf(state.params, jnp.nan))

    with pytest.raises(
        errors.NonFiniteError, match="the state is not finite at step 1"
    ):
        fit(tmp_path, task=task._replace(init=init), c={"save_every": 1})
    assert checkpoints.steps(tmp_path) == []
    faults.record("F9", injected=1, survived=1)


def test_eight_devices_skip_together(tiny, fit, tmp_path, faults):
    """One device's rows are broken; all keep the old state."""
    task = tiny.make_task()

    def dark(state, batch, key):
        broken = jnp.ones(8).at[5].set(jnp.where(state.step == 2, jnp.nan, 1.0))
        image = batch["image"] * broken[:, None, None, None]
        return task.step(state, {**batch, "image": image}, key)

    state = fit(
        tmp_path, task=task._replace(step=dark), layout=meshes.MeshConfig(), c=WORDS
    )
    expected, _ = _by_hand(task, tiny.make_source(), num_steps=12, bad=(2,))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    faults.record("F9", injected=1, survived=1)


def test_the_meter_counts_in_a_row_over_intervals():
    zero = jnp.int32(0)
    names = ("loss/a", "loss/b", metric_sums.UPDATE)
    empty = metric_sums.MetricSums(
        {"loss/a": jnp.zeros(()), "loss/b": jnp.zeros(()), "acc": jnp.zeros(())},
        *(zero, dict.fromkeys(names, zero), zero, zero, zero - 1),
    )
    meter, nan = empty, jnp.nan
    losses = [
        (1, 2),
        (nan, 2),
        (3, nan),
        (4, 5),
        (nan, nan),
        (nan, 6),
        (nan, 7),
        (8, 9),
    ]
    for number, (a, b) in enumerate(losses, start=1):
        bad = {
            "loss/a": jnp.isnan(a),
            "loss/b": jnp.isnan(b),
            metric_sums.UPDATE: False,
        }
        bad = {name: jnp.asarray(value) for name, value in bad.items()}
        scalars = {"loss/a": jnp.float32(a), "loss/b": jnp.float32(b), "acc": 1.0}
        skip = jnp.asarray(bool(np.isnan(a + b)))
        meter = metric_sums.add(meter, scalars, bad, skip, jnp.int32(number))
        if number == 3:
            assert [int(n) for n in (meter.count, meter.skipped, meter.streak)] == [
                *(1, 2, 2)
            ]
            meter = metric_sums.renew(empty, meter)
            assert [int(n) for n in (meter.count, meter.skipped, meter.streak)] == [
                *(0, 0, 2)
            ]
    assert int(meter.stop_step) == 7
    assert {name: float(total) for name, total in meter.sums.items()} == {
        "loss/a": 12.0,
        "loss/b": 14.0,
        "acc": 2.0,
    }
    assert {name: int(n) for name, n in meter.causes.items()} == {
        "loss/a": 3,
        "loss/b": 1,
        metric_sums.UPDATE: 0,
    }


@pytest.mark.parametrize("part", ["params", "stats", "opt_state", "extra"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_part_of_a_state_has_to_be_finite(part, value):
    good = TrainState(jnp.array(3), *({"net": {"w": jnp.ones(2)}} for _ in range(4)))
    good.extra["history"] = jnp.zeros((2, 2), jnp.uint8)
    good.opt_state["count"] = jnp.array(3)
    good.opt_state["none"] = jnp.zeros((0, 2))
    good.opt_state["half"] = jnp.full(2, 6e4, jnp.float16)
    assert step.is_finite(good)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        leaf = jnp.array([1.0, value, -2.0], dtype)
        assert not step.is_finite(good._replace(**{part: {"net": {"w": leaf}}}))


@pytest.mark.optimised
def test_the_guard_costs_one_state_of_memory_and_a_few_operations(tiny, mesh):
    """The old state stays donated: its memory is that of the new one."""
    task, source = tiny.make_task(width=4000), tiny.make_source()
    spec = state_init.make_spec(source, batch_size=8, max_bad_records=0)
    abstract = state_init.make_abstract(task, spec, mesh)
    guarded = step.make_program(task, abstract, spec, mesh).compile()
    key = jax.eval_shape(lambda: jax.random.key(0))
    bare = jax.jit(task.step, donate_argnums=0).lower(abstract, spec, key).compile()
    leaves = jax.tree.leaves(abstract)
    numbers = sum(leaf.size for leaf in leaves)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    memory, without = guarded.memory_analysis(), bare.memory_analysis()
    slack = 2**14  # Alignment, and the meter.
    assert memory.alias_size_in_bytes >= size
    assert memory.output_size_in_bytes <= size + slack
    extra = memory.temp_size_in_bytes - without.temp_size_in_bytes
    assert extra <= size + slack
    flops = guarded.cost_analysis()["flops"] - bare.cost_analysis()["flops"]
    assert flops <= 5 * numbers
