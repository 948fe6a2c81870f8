"""Several processes, one run: they get the same result, or end with the reason."""

import json
import signal

import numpy as np
import pytest

from jaxssl.checkpoint import store as checkpoints
from tests.train import processes

EVERY = "--config.train.eval_every=1"


@pytest.fixture(scope="module")
def pair(run, tmp_path_factory):
    """An undisturbed run of two processes."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    done = run(workdir, 2)
    assert [d.code for d in done] == [0, 0], done
    return workdir, done


def means(workdir):
    """Return the metrics of each log step, without the measured times."""
    lines = [
        json.loads(s) for s in (workdir / "metrics.jsonl").read_text().splitlines()
    ]
    return [
        {k: v for k, v in line.items() if not k.startswith("speed/")}
        for line in lines
        if "loss/classifier" in line
    ]


def assert_close(a, b):
    """Compare two lists of what ``bits`` returns, up to rounding."""
    for (kind, shape, x), other in zip(a, b, strict=True):
        assert other[:2] == (kind, shape)
        pair = (np.frombuffer(text, kind) for text in (x, other[2]))
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-5)


def test_two_processes_are_one_run(pair, fit, newest, bits, tmp_path):
    workdir, (first, second) = pair
    alone = fit(tmp_path / "alone")
    assert_close(bits(newest(workdir)), bits(alone))
    for own, theirs in zip(means(workdir), means(tmp_path / "alone"), strict=True):
        assert own == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    # Process 0 shows the lines; each process keeps its own log.
    assert "step 20/20" in first.out
    assert "step 20/20" not in second.out
    logs = [(workdir / "logs" / f"process_{i}.log").read_text() for i in (0, 1)]
    assert all("step 20/20" in text for text in logs)
    assert all(text.endswith(" ended\n") for text in logs)
    launch = json.loads((workdir / "run.json").read_text())
    assert launch["devices"]["processes"] == 2
    assert "--num_processes=2" in launch["command"]
    assert "--process_id=0" in launch["command"]
    assert len([*(workdir / "tb").iterdir()]) == 1
    names = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert names == {"12", "16", "20"}


def test_a_signal_to_one_saves_the_same_step_on_all(
    run, pair, newest, bits, tmp_path, cache_folder, faults
):
    """Process 1 gets the signal in an evaluation; the same command then continues."""
    workdir = tmp_path / "run"
    term = {1: {"TINY_TERM": "3"}}
    done = run(workdir, 2, EVERY, faults=term, TINY_PACE="0.1")
    saved = checkpoints.steps(workdir)[-1]
    assert 3 <= saved < 20
    assert [d.code for d in done] == [75, 75]
    message = f"SIGTERM on process 1 received: saved step {saved}. Repeat"
    assert all(f"jaxssl: {message}" in d.line for d in done)
    for log in (workdir / "logs").iterdir():
        assert (
            f" ended by PreemptedError: {message}" in log.read_text().splitlines()[-1]
        )
    again = run(workdir, 2, EVERY)
    assert [d.code for d in again] == [0, 0]
    assert f"going on after step {saved}" in again[0].out
    assert bits(newest(workdir)) == bits(newest(pair[0]))
    faults.record("F14", injected=1, survived=1)


def test_a_killed_process_ends_the_other_with_a_line(run, tmp_path, faults):
    """`test_process_faults` tests that the same commands continue afterwards."""
    kill = {1: {"TINY_KILL": "9:0"}}
    first, second = run(tmp_path / "run", 2, EVERY, faults=kill)
    assert second.code == -signal.SIGKILL
    assert first.code == 3
    assert first.line.startswith("jaxssl: another process is lost")
    assert (
        "Repeat all commands; a run goes on from its newest checkpoint." in first.line
    )
    log = (tmp_path / "run" / "logs" / "process_0.log").read_text()
    assert f" ended by PeerLostError: {first.line.removeprefix('jaxssl: ')}\n" in log
    assert checkpoints.steps(tmp_path / "run")[0] == 4
    faults.record("F13", injected=1, survived=1)


def test_a_process_without_its_data_is_named(run, tmp_path):
    """The data set was not copied to one of the hosts."""
    first, second = run(tmp_path / "run", 2, faults={1: {"TINY_MISSING": "1"}})
    assert (first.code, second.code) == (2, 2)
    assert first.line == "jaxssl: process 1: there is no data set shades here"
    assert second.line == "jaxssl: there is no data set shades here"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            [f"--config.optim.learning_rate={rate}" for rate in (0.01, 0.02)],
            "optim.learning_rate is 0.01 on process 0 and 0.02 on process 1",
        ),
        (
            ["--num_processes=2", "--num_processes=3"],
            "--num_processes is 2 on process 0 and 3 on process 1",
        ),
    ],
)
def test_processes_that_differ_do_not_train(run, tmp_path, faults, flags, message):
    workdir = tmp_path / "run"
    cache = tmp_path / "cache"
    coordinator = f"127.0.0.1:{processes.free_port()}"
    started = []
    for i, flag in enumerate(flags):
        command = [
            *(*processes.TRAIN, f"--config={processes.TINY}", f"--workdir={workdir}"),
            *(f"--coordinator={coordinator}", "--num_processes=2", f"--process_id={i}"),
            *("--config.mesh.data=-1", flag),
        ]
        env = processes.environment(cache)
        started.append(processes.launch(tmp_path / "output", str(i), command, env))
    done = processes.finish(started)
    assert [d.code for d in done] == [7, 7]
    assert all(message in d.line for d in done)
    assert not workdir.exists()
    faults.record("F7", injected=1, survived=1)
