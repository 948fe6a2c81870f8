"""The benchmark scripts run end to end, with PyTorch and without it."""

import importlib.util
import re
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script as its command does, in this process; return what it prints."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(script, *words):
        monkeypatch.setattr("sys.argv", [script, *words])
        runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.slow  # It compiles steps of two sizes.
def test_train_step_compares_with_pytorch_or_says_that_it_is_missing(run):
    printed = run("train_step.py", "--size=tiny", "--rounds=1", "--seconds=0.01")
    assert "| jaxssl |" in printed
    assert "| C, forward + backward |" in printed
    if importlib.util.find_spec("torch") is None:
        assert "PyTorch is not installed: pip install 'jaxssl[bench]'" in printed
        assert "not run" in printed
    else:
        assert "losses of 2 steps agree" in printed
        assert "times as fast as PyTorch" in printed


@pytest.mark.slow
def test_input_compares_the_loader_with_the_step(run):
    printed = run("input.py", "--size=tiny", "--rounds=1")
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("|")]
    assert [row[1].strip() for row in rows[2:]] == [
        "fashion_on_photos, in memory",
        "npz",
        "folder of JPEG, 96 px",
    ]
    assert all(float(row[2].replace(",", "")) > 0 for row in rows[2:])


def test_bilevel_compares_the_strategies_with_plain_sgd(run):
    printed = run(
        "bilevel.py", "--nets=tiny", "--k=3", "--size=2", "--rounds=1", "--seconds=0.01"
    )
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("|")]
    names = ["big batch", "accumulated", "scan", "loop", "vmap", "jvp", "auto"]
    assert [row[2].strip() for row in rows[2:]] == names
    assert all(float(row[4]) > 0 for row in rows[2:])


@pytest.mark.slow
def test_ops_compares_both_forms_in_and_out_of_loops(run):
    printed = run("ops.py", "--only=max pool 2x2, 32", "--rounds=1", "--seconds=0.01")
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len(rows[2]) == len(rows[0]) == 7
    for cell in rows[2][2:6]:
        stock, ours, ratio = map(float, re.findall(r"[\d.]+", cell))
        assert stock / ours == pytest.approx(ratio, abs=0.1 + 0.05 * ratio)


def test_checkpoint_compares_with_orbax_alone(run):
    printed = run("checkpoint.py", "--megabytes=1", "--rounds=1", "--size=tiny")
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("|")]
    assert [row[1].strip() for row in rows[2:]] == [
        "save",
        "save, Orbax alone",
        "restore",
        "restore, Orbax alone",
        "checksums",
    ]
    assert all(float(row[2]) >= 0 for row in rows[2:])
    assert re.search(r"a save holds its loop up for \d+ ms: [\d.]+ % of 100", printed)


@pytest.mark.slow  # It compiles two whole steps; no default test runs this script.
def test_the_sharded_step_is_compared_with_the_plain_one(run):
    printed = run("sharded.py", "--size=tiny demo", "--rounds=1", "--seconds=0.01")
    assert "| on a mesh |" in printed
    assert re.search(r"ratio: wall \d+\.\d+, CPU \d+\.\d+", printed)
