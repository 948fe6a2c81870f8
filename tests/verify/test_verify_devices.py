"""``jaxssl verify devices``: it passes, and a step that depends on its mesh fails."""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.cli import main
from jaxssl.errors import ChildFailedError, ExitCode
from jaxssl.types import Task, TrainState
from jaxssl.verify import device_equivalence, devices
from tests.small import SMALL
from tests.tasks import TASKS

CONFIGS = Path(__file__).parent.parent.parent / "configs"
TINY = Path(__file__).parent.parent / "train" / "tiny.py"

TELLTALE = """\
import sys
sys.path.append({folder!r})
import tiny
from tiny import get_config

def build(config):
    experiment, traced = tiny.build(config), []

    def step(state, batch, key):
        traced.append(1)  # Each mesh traces a program of its own.
        new, metrics = experiment.task.step(state, batch, key)
        metrics["loss/classifier"] *= 1 + 0.01 * len(traced)
        return new, metrics

    return experiment._replace(task=experiment.task._replace(step=step))
"""


@pytest.fixture
def verify():
    """Run the command as a process of its own."""

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "jaxssl.cli", "verify", "devices", *words],
            capture_output=True,
            text=True,
            timeout=3000,
        )

    return run


def test_a_step_needs_no_certain_number_of_devices(verify):
    done = verify(f"--config={TINY}", "--config.mesh.data=-1", "--processes=2")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    meshes = ("2 devices", "4 devices", "8 devices", "2 processes")
    for name in (*meshes, "1 device, nudged", "tolerance"):
        assert f"\n{name}" in done.stdout
    assert done.stdout.endswith("equal up to rounding\n")


def test_a_step_that_knows_its_mesh_is_noticed(verify, tmp_path):
    config = tmp_path / "telltale.py"
    config.write_text(TELLTALE.format(folder=str(TINY.parent)))
    done = verify(f"--config={config}", "--devices=1,2")
    assert done.returncode == ExitCode.DIFFERENT
    assert "first difference: step 1 on 2 devices: loss differs by " in done.stdout


def test_a_batch_must_divide(verify):
    words = ["--config.train.batch_size=6", "--devices=4"]
    done = verify(f"--config={TINY}", *words)
    assert done.returncode == ExitCode.MISTAKE
    assert "batch_size is 6" in done.stderr


@pytest.mark.parametrize("word", ["0", "two", "-1"])
def test_devices_are_numbers(word, capsys):
    code = main(["verify", "devices", f"--config={TINY}", f"--devices=2,{word}"])
    assert code == ExitCode.MISTAKE
    assert f"--devices has '{word}'" in capsys.readouterr().err


@pytest.fixture
def children(tmp_path):
    """Start shell scripts instead of processes that take steps together."""
    started = []

    def run(*scripts):
        for i, script in enumerate(scripts):
            stderr = tmp_path / f"{i}.err"
            with stderr.open("w") as file:
                process = subprocess.Popen(["sh", "-c", script], stderr=file)
            started.append(devices.Child(process, stderr))
        return started

    yield run
    for child in started:
        child.process.kill()
        child.process.wait()


def test_the_line_of_the_process_that_failed_by_itself_is_shown(children):
    """It ends later than the one that lost it, and writes more than a pipe holds."""
    lost = "echo 'jaxssl: connection closed' >&2; exit 3"
    much = "head -c 200000 /dev/zero | tr '\\0' 'x' >&2; echo >&2"
    mistake = f"sleep 0.5; {much}; echo 'jaxssl: no file' >&2; exit 2"
    with pytest.raises(
        ChildFailedError, match=r"1 of 3 ended with 2: jaxssl: no f"
    ) as caught:
        devices.wait(children(lost, mistake, "sleep 60"), seconds=30.0)
    assert caught.value.exit_code == ExitCode.MISTAKE


def test_processes_that_end_well_or_too_late(children):
    devices.wait(children("exit 0", "sleep 0.2"))
    with pytest.raises(ChildFailedError, match=r"process 2 of 3 took more than 0.1 s"):
        devices.wait(children("sleep 60"), seconds=0.1)


def test_a_lost_process_is_named_where_none_failed_by_itself(children):
    with pytest.raises(ChildFailedError, match=r"1 of 2 ended with 3: it said nothing"):
        devices.wait(children("exit 0", "exit 3"))


@pytest.mark.slow
def test_dropout_masks_and_batch_norm_are_those_of_the_global_batch(verify):
    """An MLP with both, at mini-batches of 8 rows: one a device."""
    config = CONFIGS / "classify_fashion_mnist.py:mlp,sgd"
    words = ["--config.model.dropout=0.5", "--config.train.batch_size=8"]
    words += ["--config.model.features=(16, 16)", "--config.data.num_train=100"]
    done = verify(f"--config={config}", "--devices=8", "--steps=2", *words)
    assert done.returncode == 0, done.stdout + done.stderr


# --- Parts


def test_comparison_is_relative_and_takes_the_worst():
    ours = {"loss/a": 2.0, "acc/a": 0.5} | {f"gradient/x/{i}": 1.0 for i in range(8)}
    theirs = ours | {"loss/a": 2.002, "acc/a": 0.4, "gradient/x/3": 2.0}
    differences = device_equivalence.compare(ours, theirs)
    assert differences["loss"] == pytest.approx(1e-3)
    assert differences["metrics"] == pytest.approx(0.1)
    assert differences["gradient"] == pytest.approx(8**-0.5)
    assert sorted(differences) == ["gradient", "loss", "metrics"]
    theirs |= {"gradient/x/0": float("nan")}
    assert device_equivalence.compare(ours, theirs)["gradient"] == float("inf")


def test_nudges_change_last_digits_alone():
    state = [np.array(3, np.int32), np.float32([[1.5, -2e-9, 0.0]] * 500)]
    count, moved = device_equivalence.nudge(state, 1)
    assert (count, moved.dtype) == (3, np.float32)
    np.testing.assert_allclose(moved, state[1], rtol=5e-6, atol=0)
    assert 0.6 < (moved != state[1])[:, :2].mean() < 0.73
    assert not np.array_equal(device_equivalence.nudge(state, 2)[1], moved)


def test_differences_of_nudges_are_allowed_up_to_a_tenth():
    plain = device_equivalence.TOLERANCES
    assert device_equivalence.allow({}) == plain
    assert device_equivalence.allow({"loss": 1.0, "gradient": 1e-4}) == plain
    nudged = {"gradient": 5e-3, "update": 0.5, "extra": 0.02}
    tolerances = device_equivalence.allow(nudged)
    assert tolerances == plain | {"gradient": 0.02, "update": 0.1, "extra": 0.08}


def test_digests_estimate_distances():
    rng = np.random.default_rng(0)
    project = jax.jit(device_equivalence._project)
    estimates = []
    for _ in range(20):
        a, b, da, db = (
            np.float32(rng.normal(size=shape)) for shape in [(30, 40), 500] * 2
        )
        one, other = (
            np.array(project({"a": a + t * da, "b": b + t * db}))
            for t in np.float32([0, 0.1])
        )
        estimates.append(np.linalg.norm(one - other) / np.linalg.norm(one))
    assert np.median(estimates) == pytest.approx(0.1, rel=0.2)
    # The order of the numbers counts, too.
    mirrored = np.array(project({"a": a[::-1], "b": b}))
    assert np.linalg.norm(one - mirrored) > 0.3 * np.linalg.norm(one)


def test_digests_are_those_of_gradients_updates_and_statistics():
    task, batch = TASKS["classify/ghost"](lambda _: optax.sgd(0.5), batch_size=8)
    state = jax.jit(task.init)(jax.random.key(0), batch)
    new, metrics = jax.jit(device_equivalence.digested(task).step)(
        state, batch, jax.random.key(1)
    )
    gradient, update = (
        np.array([metrics[f"{group}/classifier/{i}"] for i in range(8)])
        for group in ("gradient", "update")
    )
    np.testing.assert_allclose(update, -0.5 * gradient, rtol=1e-3, atol=1e-5)
    assert abs(float(metrics["statistics/classifier/0"])) > 0
    assert int(new.step) == 1


def test_digests_of_the_extra_state_are_those_of_its_floats():
    """Averaged weights that move by a tenth of the update, and a buffer of images."""
    weights = {"w": jnp.float32([1.0, 2.0, 4.0]), "b": jnp.float32(3.0)}
    extra = {"net": weights, "history": jnp.zeros((2, 2), jnp.uint8)}
    state = TrainState(jnp.int32(0), {"net": weights}, {"net": {}}, {}, extra)

    def step(state, batch, key):
        moved = jax.tree.map(lambda x: 2 * x, state.params["net"])
        average = jax.tree.map(lambda x: 1.1 * x, state.extra["net"])
        extra = {"net": average, "history": state.extra["history"] + 1}
        new = state._replace(step=state.step + 1, params={"net": moved}, extra=extra)
        return new, {"loss/net": jnp.float32(0)}

    digested = device_equivalence.digested(Task(None, step, {}))
    _, metrics = digested.step(state, {}, jax.random.key(0))
    groups = {name.rpartition("/")[0] for name in metrics}
    assert groups == {"loss", "update/net", "extra/net"}
    update, extra = (
        np.array([metrics[f"{group}/net/{i}"] for i in range(8)])
        for group in ("update", "extra")
    )
    assert np.linalg.norm(extra) > 0
    np.testing.assert_allclose(extra, 0.1 * update, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("config", SMALL)
def test_every_config_needs_no_certain_devices(verify, config):
    words = ["--devices=8", "--steps=2", *SMALL[config]]
    done = verify(f"--config={CONFIGS / config}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
