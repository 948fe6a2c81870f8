"""A run without progress is ended; long phases do not count as a hang."""

import json
import time

import jax
import pytest

from jaxssl import atomic_write
from jaxssl.distributed import coordination, peers, watchdog
from tests.train import processes


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def advance(seconds):
        now[0] += seconds

    return advance


def test_the_limit_follows_the_median_step(clock):
    dog = watchdog.Watchdog(60)
    assert dog.limit() == watchdog.LONG_SECONDS  # Restoring, compiling.
    dog.note("reading")
    assert dog.limit() == watchdog.FIRST_SECONDS
    for step, seconds in enumerate((2.0, 30.0, 8.0, 9.0), start=1):
        dog.note("computing", step=step)
        clock(seconds)
    assert dog.limit() == 20 * 8.0
    dog.note("computing", step=5)
    assert dog.limit() == 20 * 8.5
    quick = watchdog.Watchdog(60)
    for step in range(1, 5):
        quick.note("computing", step=step)
        clock(0.1)
    assert quick.limit() == 60


def test_what_is_long_on_purpose_is_no_part_of_a_step(clock):
    dog = watchdog.Watchdog(1)
    for step in range(1, 6):
        dog.note("computing", step=step)
        clock(3.0)
        dog.note("evaluating", long=True)
        assert dog.limit() == watchdog.LONG_SECONDS
        clock(500.0)
        dog.note("saving", long=True)
        clock(500.0)
    dog.note("computing", step=6)
    assert dog.limit() == pytest.approx(20 * 3.0)


@pytest.fixture
def pair(monkeypatch, tmp_path):
    """Return a watchdog, the note of another process, a clock, and the hangs seen."""
    dog, other, hangs = watchdog.Watchdog(60), {"long": False}, []
    monkeypatch.setattr(coordination, "count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 0)
    monkeypatch.setattr(peers, "note", lambda content: None)
    monkeypatch.setattr(peers, "read_notes", lambda: {0: dog.describe(), 1: other})
    monkeypatch.setattr(watchdog, "_end_hang", lambda *_: hangs.append(dog.doing))

    def wait(seconds):
        for _ in range(seconds):
            watchdog._check_progress(dog, 1.0, tmp_path)

    for step in (1, 2):
        dog.note("computing it", step=step)
        wait(1)
    return dog, other, wait, hangs


@pytest.mark.parametrize("more", [120, 59, 30, 7100])
def test_the_limit_begins_when_nobody_takes_long(pair, more):
    """Process 1 evaluates for ``more`` seconds and then computes for 50 seconds."""
    dog, other, wait, hangs = pair
    dog.note("waiting for the devices")
    other["long"] = True
    wait(more)
    other["long"] = False
    wait(50)
    assert hangs == []
    wait(20)
    assert hangs


def test_all_that_hang_in_a_save_end(pair):
    dog, other, wait, hangs = pair
    other["long"] = True
    dog.note("saving", long=True)
    wait(watchdog.LONG_SECONDS)
    assert hangs == []
    wait(1)
    assert hangs == ["saving"]


def test_a_step_on_time_does_not_ask_the_others(pair, monkeypatch):
    dog, _, wait, hangs = pair
    asked = []
    monkeypatch.setattr(peers, "read_notes", lambda: asked.append(1) or {})
    for step in range(3, 9):
        dog.note("computing it", step=step)
        wait(6)
    assert (asked, hangs) == ([], [])


@pytest.mark.parametrize(("seconds", "written"), [(0.0, True), (1.0, False)])
def test_a_disk_that_hangs_gets_no_last_words(tmp_path, monkeypatch, seconds, written):
    monkeypatch.setattr(watchdog, "WRITE_SECONDS", 0.3)
    real = atomic_write.write

    def write(path, data):
        time.sleep(seconds)
        real(path, data)

    monkeypatch.setattr(atomic_write, "write", write)
    path = tmp_path / "hang-0.json"
    assert watchdog._write_in_time(path, b"{}") is written
    assert path.exists() is written
    assert not watchdog._write_in_time(tmp_path / "no" / "hang-0.json", b"{}")


def test_notes_are_never_twice_the_same():
    dog = watchdog.Watchdog(1)
    dog.note("computing", step=3)
    first, second = dog.describe(), dog.describe()
    assert first != second
    assert {**first, "tick": 0} == {**second, "tick": 0}
    assert (first["step"], first["doing"], first["long"]) == (3, "computing", False)


def test_a_stuck_read_ends_the_run_and_a_slow_evaluation_does_not(
    tmp_path, cache_folder, faults
):
    workdir = tmp_path / "run"
    command = [
        *(*processes.TRAIN, f"--config={processes.TINY}", f"--workdir={workdir}"),
        *("--hang_seconds=3", "--config.train.eval_every=99"),
    ]
    stall = {"TINY_STALL": "14:900", "TINY_PACE": "4.5"}
    env = processes.environment(cache_folder, **stall)
    started = processes.launch(tmp_path / "output", "one", command, env)
    done = processes.finish([started])[0]
    assert done.code == 5, done
    assert "eval at step 0" in done.out
    assert "no progress for" in done.line
    assert "reading the batch of the next one" in done.line
    report = json.loads((workdir / "hang-0.json").read_text())
    assert report["doing"] == "reading the batch of the next one"
    assert report["idle_seconds"] >= report["limit_seconds"] >= 3
    assert any("take" in line for stack in report["stacks"].values() for line in stack)
    assert "loop.py" in "".join(report["stacks"]["MainThread"])
    faults.record("F13", injected=1, survived=1)
