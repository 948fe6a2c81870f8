"""Three tasks that are unlike chapters 4 and 8, each through the whole command line.

A GAN that steps its players one after the other, clips, and float poses: train, crash
and resume, 8 devices, evaluate, report. Nothing of jaxssl knows that they exist.
"""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli import main
from jaxssl.distributed import mesh as meshes
from jaxssl.run import config_file
from jaxssl.train import setup, state_init

TOYS = Path(__file__).parent / "toys"
EACH_TOY = pytest.mark.parametrize("name", ["gan", "clips", "poses"])


def train(name, workdir, *overrides):
    words = [f"--config={TOYS / name}.py", f"--workdir={workdir}", *overrides]
    return main(["train", *words])


@pytest.fixture(scope="module", params=["gan", "clips", "poses"])
def finished(request, tmp_path_factory):
    """Return a toy's name and the folder of its run on 8 devices, evaluated."""
    workdir = tmp_path_factory.mktemp(request.param)
    assert train(request.param, workdir) == 0
    assert main(["evaluate", f"--workdir={workdir}"]) == 0
    return request.param, workdir


def restore(name, workdir):
    chosen = setup.set_up(config_file.load(str(TOYS / f"{name}.py")))
    mesh = meshes.make_mesh(meshes.MeshConfig(data=1))
    abstract = state_init.make_abstract(chosen.experiment.task, chosen.spec(), mesh)
    return checkpoints.restore(workdir, 8, abstract)


def test_a_run_that_crashed_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
    name, whole = finished
    write, saved = manifest.write, []

    def die_in_the_third_save(*arguments):
        saved.append(arguments)
        if len(saved) == 3:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "write", die_in_the_third_save)
        assert train(name, tmp_path) == 130
    assert checkpoints.steps(tmp_path)[-1] == 4
    assert train(name, tmp_path) == 0
    ours, theirs = restore(name, whole), restore(name, tmp_path)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_one_device_learns_the_same(finished, tmp_path):
    name, whole = finished
    assert train(name, tmp_path, "--config.mesh.data=1") == 0
    pairs = [
        (json.loads(a), json.loads(b))
        for a, b in zip(
            (whole / "metrics.jsonl").read_text().splitlines(),
            (tmp_path / "metrics.jsonl").read_text().splitlines(),
            strict=True,
        )
    ]
    for spread, alone in pairs:
        for key in alone:
            if key.startswith("loss/"):
                np.testing.assert_allclose(spread[key], alone[key], rtol=1e-3)


def test_its_evaluation_has_units_and_the_untrained_network(finished):
    name, workdir = finished
    file = {"gan": "samples", "clips": "linear_probe", "poses": "pose"}[name]
    unit = {"gan": "grey levels", "clips": "share", "poses": "m"}[name]
    for folder in (workdir / "evals", workdir / "evals" / "random_init"):
        metrics = json.loads((folder / f"{file}.json").read_text())["metrics"]
        assert {metric["unit"] for metric in metrics.values()} == {unit}
    untrained = json.loads(
        (workdir / "evals" / "random_init" / f"{file}.json").read_text()
    )
    assert untrained["step"] == 0


def test_its_report_shows_what_it_has_and_asks_for_nothing_else(finished):
    name, workdir = finished
    assert main(["report", f"--workdir={workdir}"]) == 0
    page = (workdir / "report.html").read_text()
    text = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.DOTALL)
    assert "not run:" not in text
    assert "STL-10" not in text
    expected = {"gan": "grey levels", "clips": "motion", "poses": "mpjpe"}[name]
    assert expected in text
    if name == "poses":
        assert "%" not in text.split("mpjpe")[1][:200]


def test_filling_statistics_leaves_averages_and_history_alone():
    """Those of an untrained network; only what a forward pass moves may move."""
    chosen = setup.set_up(config_file.load(str(TOYS / "gan.py")))
    task, spec = chosen.experiment.task, chosen.spec()
    mesh = meshes.make_mesh(meshes.MeshConfig(data=1))
    abstract = state_init.make_abstract(task, spec, mesh)
    fresh = state_init.init(task, spec, abstract, seed=chosen.seed)
    untrained = state_init.make_untrained(
        task,
        chosen.experiment.train_set,
        spec,
        mesh,
        batches=chosen.batches,
        seed=chosen.seed,
        num_steps=3,
    )
    assert jax.tree.leaves(fresh.extra)
    for a, b in zip(jax.tree.leaves(fresh), jax.tree.leaves(untrained), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
