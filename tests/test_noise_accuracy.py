"""What chapter 8 must reach at CPU size; thresholds from earlier trials."""

import json
from pathlib import Path

import pytest

from jaxssl import cli

CONFIG = Path(__file__).parent.parent / "configs/classify_fashion_mnist.py"


def measure(folder, variant, *overrides):
    """Train a variant with seed 0; return test accuracy and fit of the labels."""
    workdir = folder / variant.replace(",", "_")
    # On the eight devices of these tests a step would cost eight small ones.
    words = [f"--config={CONFIG}:{variant}", f"--workdir={workdir}"]
    words += ["--config.mesh.data=1", *overrides]
    assert cli.main(["train", *words]) == 0
    ask = [f"--workdir={workdir}", "--evals=test,train", "--norandom_init"]
    assert cli.main(["evaluate", *ask]) == 0
    test, train = (
        json.loads((workdir / "evals" / f"{name}.json").read_text())["metrics"]
        for name in ("test", "train")
    )
    return test["accuracy"]["value"], train["labels"]["value"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "over_sgd", "over_ghost"),
    [("mlp", 0.18, 0.06), ("mlp_plain", 0.13, 0.05)],
)
def test_bilevel_learning_resists_wrong_labels(network, over_sgd, over_ghost, tmp_path):
    sgd, sgd_fit = measure(tmp_path, f"{network},sgd")
    ghost, _ = measure(tmp_path, f"{network},ghost")
    bilevel, bilevel_fit = measure(tmp_path, f"{network},bilevel")
    assert bilevel >= 0.77
    assert bilevel - sgd >= over_sgd
    assert bilevel - ghost >= over_ghost
    assert bilevel_fit <= 0.55
    if network == "mlp":
        assert sgd_fit >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["ghost", "bilevel"])
def test_a_short_run_learns_something(learner, tmp_path):
    """The quick one: an epoch on the small preset."""
    cut = ["num_steps=60", "log_every=30", "eval_every=60", "save_every=60"]
    words = [f"--config.train.{c}" for c in cut] + ["--config.data.num_train=2000"]
    test, _ = measure(tmp_path, f"mlp,{learner}", *words)
    assert test > 0.4
