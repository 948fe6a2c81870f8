"""``jaxssl verify resume`` through real processes: it passes, and it can fail."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jaxssl.cli import main
from jaxssl.errors import ExitCode
from jaxssl.verify import recording, resume
from tests.small import SMALL

ROOT = Path(__file__).parent.parent.parent
CONFIGS = ROOT / "configs"
TINY = Path(__file__).parent.parent / "train" / "tiny.py"

BROKEN = """\
import os, sys
sys.path.append({folder!r})
import tiny
from tiny import get_config

def build(config):
    experiment = tiny.build(config)
    {change}
"""


@pytest.fixture
def verify(capsys):
    """Run the command here; each start of the run is a process of its own."""

    def run(*words):
        code = main(["verify", "resume", *words])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, out, err)

    return run


def test_a_killed_run_is_equal_and_both_runs_are_kept(verify, tmp_path):
    workdir = tmp_path / "both"
    words = ["--kills=2", "--seed=1", f"--workdir={workdir}"]
    done = verify(f"--config={TINY}", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "equal bit for bit after 2 kills" in done.stdout
    assert "DIFFERS" not in done.stdout
    starts = recording.read_starts(workdir / "killed.batches.jsonl")
    assert len(starts) == 3
    assert done.stdout.count("in the save after") >= 1
    # The kills were real: batches of a later start were read before.
    read = [step for start in starts for step, _ in start.batches]
    assert len(read) > len(set(read)) == 20
    again = verify(f"--config={TINY}", *words)
    assert again.returncode == ExitCode.MISTAKE
    assert "is not empty" in again.stderr


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            "noise = float(os.getpid())\n"
            "    task = tiny.make_task(noise=noise)\n"
            "    return experiment._replace(task=task)",
            "/classifier/",
        ),
        pytest.param(
            "rng = np.random.default_rng(os.getpid())\n"
            "    rows = rng.integers(24, size=(6, 8))\n"
            "    order = lambda step: rows[step]\n"
            "    return experiment._replace(order=order)",
            "first difference: start 0, batch of step 0: other rows",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["state", "data"],
)
def test_a_run_that_does_not_resume_exactly_is_noticed(verify, tmp_path, change, line):
    config = tmp_path / "broken.py"
    text = BROKEN.format(folder=str(TINY.parent), change=change)
    config.write_text(f"import numpy as np\n{text}")
    done = verify(f"--config={config}", "--steps=6", "--kills=1")
    assert done.returncode == ExitCode.DIFFERENT
    assert line in done.stdout
    assert "DIFFERS" in done.stdout


def test_the_error_of_a_start_is_passed_on(verify):
    done = verify(f"--config={TINY}", "--config.train.batch_size=1000")
    assert done.returncode == ExitCode.MISTAKE
    assert "batch_size is 1000" in done.stderr
    assert done.stderr.count("\n") == 1


# --- The parts


def record(folder, name, lines):
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return recording.read_starts(path)


def whole_run(folder):
    steps = [{"step": i, "sha256": f"rows {i}"} for i in range(4)]
    return record(folder, "whole", [{"start": 0}, *steps])


@pytest.mark.parametrize(
    ("lines", "repeated", "difference"),
    [
        ([(0, 0), (0, 1), None, (1, 1), (1, 2), (1, 3)], 1, None),
        ([(0, 0), (0, 1), None, (1, 1), (1, 2)], 1, "step 3 was never read"),
        ([(0, 0), None, (2, 2), (2, 3)], 0, "step 1 was never read"),
        ([(0, 0), (0, 2)], 0, "start 0, batch of step 2: step 1 should"),
    ],
)
def test_batches_are_compared(tmp_path, lines, repeated, difference):
    body, previous = [], None
    for line in lines:
        if line is not None:
            if previous is None:
                body.append({"start": line[0]})
            body.append({"step": line[1], "sha256": f"rows {line[1]}"})
        previous = line
    other = record(tmp_path, "other", body)
    count, words = recording.compare_batches(whole_run(tmp_path), other)
    assert count == repeated
    assert words is None if difference is None else difference in words


def test_the_digest_sees_values_names_types_and_shapes():
    plain = {"image": np.zeros((2, 3), np.uint8), "id": np.arange(2, dtype=np.int32)}
    others = [
        {**plain, "id": np.arange(1, 3, dtype=np.int32)},
        {**plain, "image": np.zeros((3, 2), np.uint8)},
        {**plain, "image": np.zeros((2, 3), np.int8)},
        {"image": plain["image"], "label": plain["id"]},
    ]
    assert recording.digest(plain) == recording.digest(dict(reversed(plain.items())))
    assert len({recording.digest(batch) for batch in [plain, *others]}) == 5


def test_kills_leave_room_for_those_that_follow():
    class Train:
        num_steps, save_every = 20, 4

    pair = resume.RunPair([], Train, Path(), print)
    assert list(resume._steps_to_kill(pair, 0, 3)) == list(range(1, 7))
    assert list(resume._steps_to_kill(pair, 12, 1)) == list(range(12, 19))
    assert list(resume._steps_to_kill(pair, 19, 3)) == []


@pytest.mark.slow
@pytest.mark.parametrize("config", SMALL)
def test_every_config_resumes_exactly(verify, config, faults):
    words = ["--steps=8", "--kills=3", *SMALL[config]]
    done = verify(f"--config={CONFIGS / config}", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal bit for bit" in done.stdout
    faults.record("F2", injected=1, survived=1)
