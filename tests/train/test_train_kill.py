"""Kill the real command and repeat it: the result is that of an undisturbed run."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxssl.checkpoint import store as checkpoints

TINY = Path(__file__).parent / "tiny.py"


@pytest.fixture(scope="module")
def command():
    """Run ``jaxssl train`` of the tiny config as a process of its own."""

    def run(workdir, *words, **environment):
        return subprocess.run(
            [
                *(sys.executable, "-m", "jaxssl.cli", "train", f"--config={TINY}"),
                *(f"--workdir={workdir}", "--config.train.eval_every=1", *words),
            ],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    done = command(workdir)
    assert (done.returncode, done.stderr) == (0, "")
    assert "step 20/20" in done.stdout
    return workdir


def _records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if not k.startswith("speed/")}
        for line in lines
    ]


@pytest.mark.slow
def test_five_kills_change_nothing(command, whole, newest, bits, tmp_path, faults):
    rng = random.Random(7)
    kills = sorted(rng.sample(range(1, 20), 5))
    for step in kills:
        done = command(tmp_path, TINY_KILL=f"{step}:{rng.uniform(0, 0.01):.4f}")
        assert done.returncode in (-signal.SIGKILL, 0)
    done = command(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert checkpoints.steps(tmp_path) == checkpoints.steps(whole)
    assert bits(newest(tmp_path)) == bits(newest(whole)), f"killed at {kills}"
    assert _records(tmp_path) == _records(whole)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"12", "16", "20"}
    faults.record("F2", injected=5, survived=5)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("seed", range(5))
def test_three_kills_and_more_change_nothing(
    command, whole, newest, bits, tmp_path, seed, workers, faults
):
    """With and without workers, which are killed with their trainer."""
    rng = random.Random(seed)
    words = [f"--config.train.num_workers={workers}"]
    kills = sorted(rng.sample(range(1, 20), 3 + seed % 2))
    for step in kills:
        done = command(tmp_path, *words, TINY_KILL=f"{step}:{rng.uniform(0, 0.02):.4f}")
        assert done.returncode in (-signal.SIGKILL, 0)
    assert command(tmp_path, *words).returncode == 0
    assert bits(newest(tmp_path)) == bits(newest(whole)), f"killed at {kills}"
    assert _records(tmp_path) == _records(whole)
    faults.record("F2", injected=len(kills), survived=len(kills))


def test_sigterm_saves_and_the_command_goes_on(
    command, whole, newest, bits, tmp_path, faults
):
    done = command(tmp_path, TINY_TERM="7")
    assert done.returncode == 75
    assert done.stderr == (
        "jaxssl: SIGTERM received: saved step 7. "
        "Repeat the same command to go on from there.\n"
    )
    assert checkpoints.steps(tmp_path) == [4, 7]
    done = command(tmp_path)
    assert done.returncode == 0
    assert "going on after step 7" in done.stdout
    assert bits(newest(tmp_path)) == bits(newest(whole))
    faults.record("F14", injected=1, survived=1)


@pytest.mark.slow
def test_kills_in_the_middle_of_saves(command, whole, newest, bits, tmp_path, faults):
    """Every step is saved and the kill comes at any moment of a save, twenty times."""
    rng = random.Random(11)
    step = 1
    for number in range(20):
        words = ["--config.train.save_every=1"]
        delay = rng.uniform(0, 0.15)
        command(tmp_path, *words, TINY_KILL=f"{step}:{delay:.4f}")
        kept = checkpoints.steps(tmp_path)
        step = max([step, *kept]) if number % 2 else max([1, *kept[:-1]])
        step = min(step + 1, 19)
    assert command(tmp_path).returncode == 0
    assert bits(newest(tmp_path)) == bits(newest(whole))
    faults.record("F1", injected=20, survived=20)
