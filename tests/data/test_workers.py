"""Processes that read: what the reader hears of them, and that none outlives it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import readers
from tests.train import processes

ROOT = Path(readers.__file__).parent.parent.parent


@pytest.fixture
def start():
    started = []

    def run(what):
        child = subprocess.Popen(
            [sys.executable, readers.__file__, what],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        workers = [int(word) for word in child.stdout.readline().split()]
        started.append((child, workers))
        return child, workers

    yield run
    for child, workers in started:
        child.kill()
        for pid in filter(
            processes.is_alive, workers
        ):  # They would keep the pipes open.
            os.kill(pid, signal.SIGKILL)
        child.communicate()


@pytest.mark.parametrize(
    ("what", "told"),
    [
        pytest.param("raise", "a bug on purpose", marks=pytest.mark.slow),
        ("kill", "terminated unexpectedly"),
    ],
)
def test_a_worker_that_fails_ends_the_reader(start, faults, what, told):
    child, workers = start(what)
    assert len(workers) == 2
    _, err = child.communicate(timeout=120)
    assert child.returncode == 1
    assert told in err
    assert processes.outlive(workers) == []
    faults.record("F11", injected=1, survived=1)


def test_workers_end_with_a_reader_that_is_killed(start, faults):
    child, workers = start("wait")
    assert len(workers) == 2
    assert all(map(processes.is_alive, workers))
    child.kill()
    assert processes.outlive(workers) == []
    faults.record("F11", injected=1, survived=1)
