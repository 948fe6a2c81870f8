"""Evaluations of a state: what is written, what is shown, and what is refused."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data import pipeline
from jaxssl.data.source import ArraySource
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.run import evaluation, metrics
from jaxssl.train import hooks, state_init
from jaxssl.types import SHARE, EvalResult, Metric, Task, TrainState

ERROR = Metric(81.3, "mm", False, spread=2.06)
ACCURACY = Metric(0.25, SHARE, True, 0.1, 0.0123)


def _state():
    return TrainState(
        jax.numpy.int32(3),
        {"a": {"w": jax.numpy.arange(4.0)}},
        {"a": {}},
        {"a": {"mu": jax.numpy.zeros(4)}},
    )


@pytest.mark.parametrize("harm", ["donate", "write"])
def test_an_evaluation_that_changes_the_state_is_caught(tmp_path, harm):
    everywhere = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    state = jax.device_put(_state(), everywhere)

    def change(state):
        leaf = state.params["a"]["w"]
        if harm == "donate":
            leaf.delete()
        else:
            view = np.from_dlpack(leaf)
            pointer = view.__array_interface__["data"][0]
            raw = (np.ctypeslib.ctypes.c_float * 4).from_address(pointer)
            raw[2] = 9.0
        return EvalResult({}, {})

    with pytest.raises(RuntimeError, match="'bad' changed params/a/w of the state"):
        evaluation.run({"bad": change}, state, tmp_path, print)


EVALS = {
    "few": lambda _: EvalResult({"conv1": ACCURACY, "error": ERROR}, {}),
    "search": lambda _: EvalResult({}, {"database": np.array("test"), "x": np.ones(3)}),
    "filters": lambda _: EvalResult({}, {"conv1": np.zeros(3)}),
}


def test_each_evaluation_shows_its_metrics_with_their_units(tmp_path):
    lines = []
    results = evaluation.run(EVALS, _state(), tmp_path, lines.append)
    assert lines == [
        "few: conv1 25.0% ± 1.2%  error 81.30 ± 2.1 mm  (0 s)",
        "search: database test  (0 s)",
        "filters: conv1 in filters.npz  (0 s)",
    ]
    untrained = {"few": EvalResult({"conv1": Metric(0.5, SHARE)}, {})}
    table = evaluation.make_table(results, untrained)
    assert [line.split() for line in table.splitlines()] == [
        ["trained", "untrained"],
        ["few/conv1", *"25.0% ± 1.2% 50.0%".split()],
        ["few/error", *"81.30 ± 2.1 mm".split()],
    ]


def test_the_file_holds_units_and_settings_that_changed(tmp_path):
    override = "--config.eval.first=20"
    evaluation.run(EVALS, _state(), tmp_path, print, changed=[override])
    for name in EVALS:
        body = json.loads((tmp_path / f"{name}.json").read_text())
        assert (body["step"], body["changed"]) == (3, [override])
    body = json.loads((tmp_path / "few.json").read_text())
    assert body["metrics"] == {
        "conv1": {
            "value": 0.25,
            "unit": "share",
            "higher_is_better": True,
            "chance": 0.1,
            "spread": 0.0123,
        },
        "error": {
            "value": 81.3,
            "unit": "mm",
            "higher_is_better": False,
            "spread": 2.06,
        },
    }


def impossible(state):
    raise UserError("shots is 10, but class 3 has only 1 training images.")


def test_an_evaluation_that_cannot_be_measured_ends_alone(tmp_path):
    lines = []
    evals = {"one": impossible, **EVALS, "two": impossible}
    results = evaluation.run(evals, _state(), tmp_path, lines.append)
    assert list(results) == list(EVALS)
    told = "NOT MEASURED: shots is 10, but class 3 has only 1 training images."
    assert [line for line in lines if "NOT" in line] == [f"one: {told}", f"two: {told}"]
    assert not (tmp_path / "one.json").exists()


class _Dog:
    def note(self, phase, long=False):
        pass


def test_online_evaluations_note_their_units_once(tmp_path, monkeypatch):
    out = io.StringIO()
    with metrics.open_writer(tmp_path, first_step=-1, total=9, stream=out) as writer:
        fields = dict.fromkeys(hooks.Run._fields)
        fields |= {"workdir": tmp_path, "evals": EVALS, "writer": writer, "dog": _Dog()}
        run = hooks.Run(**fields)
        hooks.evaluate(run, _state(), 3)
        writes, write = [], metrics.atomic_write.write
        monkeypatch.setattr(
            metrics.atomic_write, "write", lambda *args: writes.append(write(*args))
        )
        hooks.evaluate(run, _state(), 4)
        assert not writes
        more = {"pose": lambda _: EvalResult({"error": ERROR}, {})}
        hooks.evaluate(run._replace(evals=more), _state(), 5)
        assert len(writes) == 1
        hooks.evaluate(run._replace(evals={"one": impossible}), _state(), 6)
    few = {"few/conv1": 0.25, "few/error": 81.3}
    records = [{"step": 3, **few}, {"step": 4, **few}, {"step": 5, "pose/error": 81.3}]
    assert metrics.read(tmp_path) == records
    assert json.loads((tmp_path / metrics.UNITS).read_text()) == {
        "few/conv1": "share",
        "few/error": "mm",
        "pose/error": "mm",
    }
    said = out.getvalue().splitlines()
    assert said[0] == (
        "eval at step 3: few/conv1 25.0% ± 1.2%  few/error 81.30 ± 2.1 mm  (0 s)"
    )
    assert said[-1].startswith("eval at step 6: one NOT MEASURED: shots is 10, but cla")


def test_other_processes_write_no_units(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics.coordination, "is_first", lambda: False)
    metrics.write_units(tmp_path, {"pose/error": ERROR})
    assert not (tmp_path / metrics.UNITS).exists()


def test_poses_without_image_and_label_are_evaluated_untrained_too(tmp_path):
    """Both needed ``image`` and ``label``."""
    poses = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)

    def init(key, batch):
        return TrainState(
            jnp.int32(0), {"a": {"w": jnp.ones(3)}}, {"a": 0.0}, {"a": ()}
        )

    def step(state, batch, key):
        stats = {"a": 0.5 * state.stats["a"] + 0.5 * batch["pose"].mean()}
        return state._replace(step=state.step + 1, stats=stats), {}

    source = ArraySource({"pose": poses})
    spec = state_init.make_spec(source, batch_size=4, max_bad_records=0)
    mesh = meshes.make_mesh(meshes.MeshConfig(data=1))
    state = state_init.make_untrained(
        Task(init, step, {}),
        source,
        spec,
        mesh,
        batches=pipeline.batches,
        seed=0,
        num_steps=3,
    )
    assert int(state.step) == 0
    assert float(state.stats["a"]) != 0

    def error(state):
        value = float(np.abs(poses @ np.asarray(state.params["a"]["w"])).mean())
        return EvalResult({"error": Metric(value, "m", False)}, {})

    lines = []
    evaluation.run({"pose": error}, state, tmp_path, lines.append)
    want = np.abs(poses.sum(axis=1)).mean()
    assert lines == [f"pose: error {want:#.4g} m  (0 s)"]
