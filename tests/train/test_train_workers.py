"""Processes that read for a trainer: what becomes of both when one of them is hurt."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from jaxssl.errors import ExitCode
from tests.train import processes

pytestmark = pytest.mark.slow
SECONDS = 30
"""A fault has to be known by then."""

LONG = ("--config.train.num_steps=1000000", "--config.train.save_every=1000000")
QUIET = ("--config.train.eval_every=1000000", "--config.train.log_every=50")


@pytest.fixture
def start(tmp_path, cache_folder):
    """Train with workers until steps are made; nothing outlives the test."""
    began = []

    def run(count, *words, **variables):
        command = [
            *(*processes.TRAIN, f"--config={processes.TINY}"),
            *(f"--workdir={tmp_path / 'run'}", *LONG, *QUIET, "--hang_seconds=8"),
            *(f"--config.train.num_workers={count}", *words),
        ]
        env = processes.environment(cache_folder, **variables)
        started = processes.launch(tmp_path / "output", "one", command, env)
        began.append((started, workers := []))
        processes.wait_for(started.out, "input wait")
        below = processes.children(started.process.pid)
        workers += [pid for pid in below if "--multiprocessing-fork" in _command(pid)]
        assert len(workers) == count
        return started, workers

    yield run
    for started, workers in began:
        for pid in (started.process.pid, *filter(processes.is_alive, workers)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        started.process.wait()


def _command(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def _end(started):
    """Return the exit code and what it said, in time.

    Python itself tells, last, of memory that Grain's queues had shared.
    """
    try:
        code = started.process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    lines = started.err.read_text().splitlines()
    return code, [line for line in lines if "resource_tracker" not in line]


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_is_killed_ends_the_run(start, faults, count):
    started, workers = start(count)
    os.kill(workers[-1], signal.SIGKILL)
    code, (line,) = _end(started)
    assert code == ExitCode.PEER_LOST
    assert "a process that reads data was ended by signal 9; if memory ran out" in line
    assert processes.outlive(workers) == []
    faults.record("F11", injected=1, survived=1)


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_is_frozen_ends_the_run(start, faults, count):
    started, workers = start(count)
    os.kill(workers[-1], signal.SIGSTOP)
    code, lines = _end(started)
    assert code == ExitCode.HANG, lines
    assert "reading the batch of the next one" in lines[0]
    assert processes.outlive(workers) == []
    faults.record("F11", injected=1, survived=1)


@pytest.mark.parametrize("count", [1, 2])
def test_a_worker_that_fails_says_why(start, faults, count):
    started, workers = start(count, TINY_STALL="200:never")
    code, lines = _end(started)
    assert (code, lines[0]) == (ExitCode.MISTAKE, "jaxssl: the disk is gone")
    assert processes.outlive(workers) == []
    faults.record("F11", injected=1, survived=1)


@pytest.mark.parametrize("count", [1, 2])
def test_workers_end_with_a_trainer_that_is_killed(start, faults, count):
    started, workers = start(count)
    started.process.kill()
    assert processes.outlive(workers) == []
    faults.record("F11", injected=1, survived=1)
