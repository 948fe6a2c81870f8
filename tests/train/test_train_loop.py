import io
import json
import os
import shutil
import signal
from types import MappingProxyType

import jax
import numpy as np
import pytest

from jaxssl import errors
from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.data import pipeline
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import BadRecord, UserError
from jaxssl.run import metrics
from jaxssl.train import config as train_config
from jaxssl.train import state_init
from jaxssl.types import EvalResult, Metric


def _records(workdir):
    """Records without what depends on the clock."""
    return [
        {k: v for k, v in record.items() if not k.startswith("speed/")}
        for record in metrics.read(workdir)
    ]


def test_loss_falls_and_the_step_is_traced_once(tiny, fit, tmp_path):
    tiny.TRACES.step.clear()
    state = fit(tmp_path / "run")
    assert len(tiny.TRACES.step) == 1
    assert int(state.step) == 20
    losses = [r["loss/classifier"] for r in _records(tmp_path / "run")]
    assert len(losses) == 10
    assert losses[-1] < 0.8 * losses[0]


def test_metrics_are_means_of_the_steps_between_records(fit, tmp_path):
    fit(tmp_path / "each", c={"log_every": 1})
    fit(tmp_path / "five", c={"log_every": 5})
    each = [r["loss/classifier"] for r in _records(tmp_path / "each")]
    five = [r["loss/classifier"] for r in _records(tmp_path / "five")]
    means = np.reshape(each, (4, 5)).mean(1)
    np.testing.assert_allclose(five, means, rtol=1e-6)


def test_the_first_step_is_the_task_by_hand(tiny, fit, tmp_path, mesh):
    """One step of the loop is init, one batch and a folded key, nothing else."""
    state = fit(tmp_path / "run", c={"num_steps": 1})
    task, source = tiny.make_task(), tiny.make_source()
    batch = next(pipeline.batches(source, batch_size=8, seed=3))
    init_key, step_key = jax.random.split(jax.random.key(3))
    first = jax.jit(task.init)(init_key, batch)
    expected, _ = jax.jit(task.step)(first, batch, jax.random.fold_in(step_key, 0))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_longer_log_interval_changes_no_parameter(fit, tmp_path, bits):
    one = fit(tmp_path / "one", c={"log_every": 1, "save_every": 3, "eval_every": 1})
    two = fit(tmp_path / "two", c={"log_every": 20, "save_every": 20})
    assert bits(one) == bits(two)


def test_eight_devices_agree_with_one(tiny, fit, tmp_path):
    every = meshes.MeshConfig()
    assert meshes.make_mesh(every).shape["data"] == 8
    one, eight = fit(tmp_path / "one"), fit(tmp_path / "eight", layout=every)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        assert b.sharding.is_fully_replicated
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_evaluations_run_before_during_and_after(fit, tmp_path):
    steps = []

    def look(state):
        steps.append(int(state.step))
        assert len(state.step.devices()) == 1
        return EvalResult({"step": Metric(float(state.step))}, {})

    every = meshes.MeshConfig()
    fit(tmp_path / "run", evals={"look": look}, c={"eval_every": 8}, layout=every)
    assert steps == [0, 8, 16, 20]
    logged = [r["look/step"] for r in _records(tmp_path / "run") if "look/step" in r]
    assert logged == [0, 8, 16, 20]


def test_a_finished_run_is_left_alone(tiny, fit, tmp_path, bits):
    first = fit(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    tiny.TRACES.step.clear()
    out = io.StringIO()
    again = fit(tmp_path, stream=out)
    assert bits(again) == bits(first)
    assert "finished: step 20 of 20" in out.getvalue()
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    after.pop(tmp_path / ".lock"), before.pop(tmp_path / ".lock")
    assert after == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_and_the_same_command_goes_on(fit, tmp_path, bits, name, faults):
    whole = fit(tmp_path / "whole")

    def strike(state):
        if int(state.step) == 5:
            os.kill(os.getpid(), getattr(signal, name))
        return EvalResult({}, {})

    with pytest.raises(errors.PreemptedError) as caught:
        fit(tmp_path / "cut", evals={"strike": strike}, c={"eval_every": 1})
    assert (caught.value.step, caught.value.signal_name) == (5, name)
    assert checkpoints.steps(tmp_path / "cut") == [4, 5]
    assert bits(fit(tmp_path / "cut")) == bits(whole)
    faults.record("F14", injected=1, survived=1)


@pytest.fixture
def cut(fit):
    """Train, and stop after a step by SIGTERM."""

    def run(workdir, step, **changes):
        def strike(state):
            if int(state.step) == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return EvalResult({}, {})

        rare = {"eval_every": 1, "save_every": 20, "log_every": 10}
        with pytest.raises(errors.PreemptedError):
            fit(workdir, evals={"strike": strike}, c=rare, **changes)
        assert checkpoints.steps(workdir) == [step]

    return run


RARE = {"log_every": 10, "save_every": 20}


def test_records_miss_no_step_where_a_run_goes_on(fit, cut, tmp_path):
    """Steps 4 and 5 make no update; the run stops at 7, and a record is due at 10."""
    words = ["--config.model.nan_at=3", "--config.model.nan_for=2"]
    fit(tmp_path / "whole", words=words, c=RARE)
    cut(tmp_path / "cut", 7, words=words)
    fit(tmp_path / "cut", words=words, c=RARE)
    records = _records(tmp_path / "cut")
    assert records == _records(tmp_path / "whole")
    assert [record["data/skipped_steps"] for record in records] == [2.0, 0.0]


def test_steps_without_numbers_count_on_where_a_run_goes_on(fit, cut, tmp_path):
    words = ["--config.model.nan_at=9", "--config.model.nan_for=3"]
    cut(tmp_path, 11, words=words)
    with pytest.raises(errors.NonFiniteError, match="steps 10 to 12 made no update"):
        fit(tmp_path, words=words, c=RARE)


def test_damaged_checkpoints_are_counted_in_the_records(fit, tmp_path):
    fit(tmp_path)
    assert {r["data/damaged_checkpoints"] for r in _records(tmp_path)} == {0.0}
    shutil.rmtree(tmp_path / checkpoints.FOLDER / "20")
    path = next((tmp_path / checkpoints.FOLDER / "16").rglob("d/*"))
    path.write_bytes(path.read_bytes()[::-1])
    fit(tmp_path)
    after = [
        r["data/damaged_checkpoints"] for r in _records(tmp_path) if r["step"] > 12
    ]
    assert set(after) == {1.0}


def test_a_checkpoint_without_a_meter_goes_on(fit, cut, tmp_path, bits):
    """As `checkpoint.save` writes a state that comes from no loop."""
    whole = fit(tmp_path / "whole", c=RARE)
    cut(tmp_path / "cut", 7)
    path = tmp_path / "cut" / checkpoints.FOLDER / "7" / manifest.NAME
    body = json.loads(path.read_text())
    assert body["meter"]["count"] == 7
    body["meter"] = None
    del body["sha256"]
    body["sha256"] = manifest._digest(body)
    path.write_text(json.dumps(body))
    assert bits(fit(tmp_path / "cut", c=RARE)) == bits(whole)
    assert [record["step"] for record in _records(tmp_path / "cut")] == [10, 20]


def test_a_task_with_other_metrics_begins_their_record_anew(tiny, fit, cut, tmp_path):
    task, out = tiny.make_task(), io.StringIO()

    def step(state, batch, key):
        new, scalars = task.step(state, batch, key)
        return new, {**scalars, "acc/other": scalars["acc/shade"]}

    cut(tmp_path, 7)
    fit(tmp_path, task=task._replace(step=step), c=RARE, stream=out)
    assert _records(tmp_path)[0]["step"] == 10
    assert "other metrics than up to step 7" in out.getvalue()


def test_a_crash_repeats_no_record(fit, tmp_path, bits):
    whole = fit(tmp_path / "whole")

    def fail(state):
        if int(state.step) == 11:
            raise OSError("unplugged")
        return EvalResult({}, {})

    with pytest.raises(OSError, match="unplugged"):
        fit(tmp_path / "cut", evals={"fail": fail}, c={"eval_every": 1})
    assert [r["step"] for r in _records(tmp_path / "cut")] == [2, 4, 6, 8, 10]
    path = tmp_path / "cut" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-20])  # A line that the crash cut short.
    assert bits(fit(tmp_path / "cut")) == bits(whole)
    assert _records(tmp_path / "cut") == _records(tmp_path / "whole")


def test_a_step_must_keep_the_shapes_of_its_state(tiny, fit, tmp_path):
    task = tiny.make_task()

    def widen(state, batch, key):
        new, scalars = task.step(state, batch, key)
        return new._replace(step=new.step * 1.0), scalars

    with pytest.raises(TypeError, match=r"turns step from .*int32.*float32"):
        fit(tmp_path / "run", task=task._replace(step=widen))
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_fit_are_found_before_anything_is_written(
    tiny, fit, tmp_path
):
    task = tiny.make_task()

    def refuse(state, batch, key):
        raise ValueError("the crop is larger\nthan the image")

    with pytest.raises(UserError, match=r"do not fit the data: the crop is larger$"):
        fit(tmp_path / "run", task=task._replace(step=refuse))
    with pytest.raises(UserError, match=r"batch_size is 6, which the 4 devices"):
        fit(
            tmp_path / "run",
            c={"batch_size": 6},
            layout=meshes.MeshConfig(data=4),
        )
    with pytest.raises(UserError, match=r"batch_size is 25; shades has 24 records"):
        fit(tmp_path / "run", c={"batch_size": 25})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_steps", 0),
        ("batch_size", -8),
        ("save_every", 0),
        ("log_every", 0),
        ("eval_every", -1),
        ("keep_checkpoints", 1),
        ("num_workers", -1),
        ("max_bad_records", -1),
    ],
)
def test_impossible_settings_are_named(field, value):
    settings = {"num_steps": 1, "batch_size": 1, field: value}
    with pytest.raises(UserError, match=f"^{field} is {value}"):
        train_config.TrainConfig(**settings)


def test_every_row_reaches_the_pipeline(tiny, fit, tmp_path):
    """Settings of the input arrive, and the input is closed however the run ends."""
    opened, closed = [], []

    def batches(source, **settings):
        rows = pipeline.batches(source, **settings)
        opened.append(settings)
        real = rows.close
        rows.close = lambda: (closed.append(1), real())
        return rows

    with pytest.raises(errors.NonFiniteError):
        fit(
            tmp_path,
            batches=batches,
            words=["--config.model.nan_at=1"],
            c={"max_bad_records": 5},
        )
    assert opened[1]["max_bad_records"] == 5
    assert opened[1]["start_step"] == 0
    assert opened[1]["process_count"] == 1
    assert len(closed) == len(opened) == 2


class _Counted:
    """Twelve records that are read one by one; the first ones are damaged."""

    name, class_names, fingerprint = "counted", (), "counted"
    spec = MappingProxyType(
        {
            "image": jax.ShapeDtypeStruct((2, 3, 3), np.uint8),
            "label": jax.ShapeDtypeStruct((), np.int32),
            "mask": jax.ShapeDtypeStruct((5,), bool),
        }
    )

    def __init__(self, num_bad):
        self.num_bad, self.reads = num_bad, []

    def __len__(self):
        return 12

    def read(self, index, rng):
        self.reads.append(index)
        if index < self.num_bad:
            raise BadRecord("damaged on purpose")
        image = np.zeros((2, 3, 3), np.uint8)
        return {"image": image, "label": np.int32(0), "mask": np.zeros(5, bool)}

    def record_name(self, index):
        return f"counted[{index}]"


def test_shapes_of_a_batch_cost_one_record():
    source = _Counted(0)
    spec = state_init.make_spec(source, batch_size=4096, max_bad_records=0)
    assert source.reads == [0]
    assert {name: (x.shape, x.dtype) for name, x in spec.items()} == {
        "image": ((4096, 2, 3, 3), np.uint8),
        "label": ((4096,), np.int32),
        "mask": ((4096, 5), bool),
        "id": ((4096,), np.int32),
    }


def test_shapes_of_a_batch_respect_the_limit_of_bad_records():
    source = _Counted(11)
    state_init.make_spec(source, batch_size=4, max_bad_records=11)
    assert source.reads == [*range(12)]
    with pytest.raises(UserError, match=r"max_bad_records=3\); the last is counted\[3"):
        state_init.make_spec(source, batch_size=4, max_bad_records=3)


def test_untrained_state_has_fresh_parameters_and_moved_statistics(tiny, mesh, bits):
    task, source = tiny.make_task(), tiny.make_source()
    spec = state_init.make_spec(source, batch_size=8, max_bad_records=0)
    options = {"batches": pipeline.batches, "seed": 3}
    state = state_init.make_untrained(task, source, spec, mesh, **options)
    fresh = jax.jit(task.init)(
        jax.random.split(jax.random.key(3))[0],
        next(pipeline.batches(source, batch_size=8, seed=3)),
    )
    assert int(state.step) == 0
    assert bits(state.params) == bits(fresh.params)
    assert bits(state.opt_state) == bits(fresh.opt_state)
    mean = (source.arrays["image"] / 255.0).reshape(24, -1).mean(0)
    average = np.asarray(state.stats["classifier"]["mean"])
    np.testing.assert_allclose(average, mean, atol=0.05)


def test_config_and_run_are_on_record(fit, tmp_path):
    fit(tmp_path, command=["jaxssl", "train"], c={"num_steps": 2})
    body = json.loads((tmp_path / "config.json").read_text())
    assert body["config"]["optim"] == {"learning_rate": 0.01}
    assert body["config_file"].endswith("tiny.py")
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["command"] == ["jaxssl", "train"]
    assert run["versions"]["jax"] == jax.__version__
    assert run["devices"]["count"] == 8
    assert len(run["git"]["commit"]) == 40
