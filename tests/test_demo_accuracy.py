"""What the demo must reach, over three seeds; thresholds from earlier trials."""

import json
import statistics
from pathlib import Path

import pytest

from jaxssl import cli

CONFIG = Path(__file__).parent.parent / "configs/transformations_fashion_on_photos.py"
SEEDS = (0, 1, 2)
ALONE = "--config.mesh.data=1"
"""On the eight devices of these tests a step would cost eight small ones."""


def run(workdir, variant, seed, evals, *overrides):
    words = [f"--config={CONFIG}:{variant}", f"--workdir={workdir}", ALONE]
    assert cli.main(["train", *words, f"--config.seed={seed}", *overrides]) == 0
    assert cli.main(["evaluate", f"--workdir={workdir}", f"--evals={evals}"]) == 0


def read_values(workdir, name, *folders):
    path = workdir.joinpath("evals", *folders, f"{name}.json")
    metrics = json.loads(path.read_text())["metrics"]
    return {metric: fields["value"] for metric, fields in metrics.items()}


@pytest.mark.slow
def test_features_beat_random_ones_for_every_seed(tmp_path):
    gaps = {"conv4": [], "conv5": []}
    for seed in SEEDS:
        workdir = tmp_path / f"seed{seed}"
        run(workdir, "rot_warp", seed, "linear_probe,pretext")
        trained = read_values(workdir, "linear_probe")
        random = read_values(workdir, "linear_probe", "random_init")
        assert 0.34 <= random["conv4"] <= 0.50
        assert 0.30 <= random["conv5"] <= 0.47
        assert trained["conv4"] >= 0.56
        assert trained["conv5"] >= 0.53
        for endpoint, least in (("conv4", 0.11), ("conv5", 0.10)):
            gaps[endpoint].append(trained[endpoint] - random[endpoint])
            assert gaps[endpoint][-1] >= least, (endpoint, seed)
        assert 0.60 <= read_values(workdir, "pretext")["accuracy"] <= 0.95
    for endpoint, found in gaps.items():
        assert statistics.fmean(found) >= 0.13, endpoint


@pytest.mark.slow
def test_rotations_are_read_off_the_garments(tmp_path):
    steps = "--config.train.num_steps=800"
    run(tmp_path / "rot", "rot", 0, "shortcut,pretext", steps)
    found = read_values(tmp_path / "rot", "shortcut")
    assert found["grey"] >= 0.75
    assert found["background_only"] <= 0.45
    assert 0.65 <= read_values(tmp_path / "rot", "pretext")["accuracy"] <= 0.95


@pytest.mark.slow
def test_the_loss_falls(tmp_path):
    """The quick one: forty steps of its rotations at half its width."""
    words = [f"--config={CONFIG}:rot", f"--workdir={tmp_path}", ALONE]
    words += ["--config.train.batch_size=16", "--config.model.width=0.125"]
    cut = ["num_steps=39", "log_every=13", "eval_every=1000", "save_every=39"]
    assert cli.main(["train", *words, *(f"--config.train.{c}" for c in cut)]) == 0
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    losses = [
        x["loss/classifier"] for x in map(json.loads, lines) if "loss/classifier" in x
    ]
    assert len(losses) == 3
    assert losses[2] < losses[0] - 0.03
