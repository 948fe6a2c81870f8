"""Faults of one of several processes: all end with the right code, or continue."""

import os
import random
import signal
import time

import jax
import numpy as np
import pytest

from jaxssl.checkpoint import store as checkpoints
from tests.train import processes

pytestmark = pytest.mark.slow

EVERY = "--config.train.eval_every=1"
RESTART = {3, 5, 75}


@pytest.fixture(scope="module")
def pair(run, tmp_path_factory):
    """The workdir of an undisturbed run of two processes."""
    workdir = tmp_path_factory.mktemp("pair") / "run"
    assert [d.code for d in run(workdir, 2)] == [0, 0]
    return workdir


@pytest.fixture
def as_if_nothing(run, pair, newest, bits):
    """Repeat the command; its result must equal that of the undisturbed run."""

    def check(workdir):
        done = run(workdir, 2)
        assert [d.code for d in done] == [0, 0], done
        assert bits(newest(workdir)) == bits(newest(pair))

    return check


# --- F13: a process is lost, or seems to be


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("fault", ["TINY_KILL", "TINY_FREEZE"])
def test_a_process_that_dies_or_freezes(
    run, as_if_nothing, cache_folder, tmp_path, fault, victim, faults
):
    workdir = tmp_path / "run"
    value = "9:0" if fault == "TINY_KILL" else "9"
    hurt = {victim: {fault: value}}
    started = processes.start(workdir, 2, EVERY, cache=cache_folder, faults=hurt)
    other = processes.finish([started[1 - victim]])[0]
    started[victim].process.kill()
    processes.finish([started[victim]])
    assert other.code == 3, other
    assert other.line.startswith("jaxssl: ")
    as_if_nothing(workdir)
    faults.record("F13", injected=1, survived=1)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_stuck_is_named(run, as_if_nothing, tmp_path, victim, faults):
    workdir = tmp_path / "run"
    hurt = {victim: {"TINY_STALL": "12:900"}}
    done = run(workdir, 2, "--hang_seconds=5", faults=hurt)
    assert {d.code for d in done} <= {3, 5}
    hung = [d for d in done if d.code == 5]
    assert hung
    assert any(f"process {victim} is behind" in d.line for d in done), done
    assert any("no progress for" in d.line for d in hung)
    written = [*workdir.glob("hang-*.json")]
    assert written
    assert any("MainThread" in path.read_text() for path in written)
    as_if_nothing(workdir)
    faults.record("F13", injected=1, survived=1)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_slow_process_is_waited_for(
    run, pair, newest, bits, tmp_path, victim, faults
):
    workdir = tmp_path / "run"
    hurt = {victim: {"TINY_STALL": "12:8"}}
    done = run(workdir, 2, faults=hurt)
    assert [d.code for d in done] == [0, 0]
    assert done[0].seconds > 8
    assert bits(newest(workdir)) == bits(newest(pair))
    faults.record("F13", injected=1, survived=1)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_slow_evaluation_is_waited_for_before_a_save(run, tmp_path, victim, faults):
    """The evaluation takes longer than Orbax waits and than a step may take."""
    flags = ("--config.train.eval_every=20", "--hang_seconds=6")
    hurt = {victim: {"TINY_PACE": "9"}}
    done = run(tmp_path / "run", 2, *flags, faults=hurt, TINY_BARRIER="4")
    assert [d.code for d in done] == [0, 0], done
    assert done[0].seconds > 18
    faults.record("F13", injected=1, survived=1)


@pytest.mark.parametrize("victim", [0, 1])
def test_one_that_is_stuck_before_a_save_is_not_waited_for(run, tmp_path, victim):
    flags = ("--config.train.save_every=1", "--hang_seconds=5")
    done = run(tmp_path / "run", 2, *flags, faults={victim: {"TINY_STALL": "12:900"}})
    assert {d.code for d in done} <= {3, 5}
    lines = [d.line for d in done if d.code == 5]
    assert any("reading the batch of the next one" in line for line in lines), done


@pytest.mark.parametrize("victim", [0, 1])
def test_a_late_process_is_waited_for(
    run, pair, newest, bits, tmp_path, victim, faults
):
    workdir = tmp_path / "run"
    done = run(workdir, 2, late={victim: 6})
    assert [d.code for d in done] == [0, 0]
    assert bits(newest(workdir)) == bits(newest(pair))
    faults.record("F13", injected=1, survived=1)


@pytest.mark.parametrize("there", [0, 1])
def test_a_process_that_never_comes(cache_folder, tmp_path, there, faults):
    command = [
        *(*processes.TRAIN, f"--config={processes.TINY}"),
        *(f"--workdir={tmp_path / 'run'}", "--num_processes=2"),
        f"--coordinator=127.0.0.1:{processes.free_port()}",
        *(f"--process_id={there}", "--join_seconds=5"),
    ]
    env = processes.environment(cache_folder)
    started = processes.launch(tmp_path / "output", "alone", command, env)
    done = processes.finish([started])[0]
    assert done.code == 3
    assert "not all were there within 5 s" in done.line
    assert not (tmp_path / "run").exists()
    faults.record("F13", injected=1, survived=1)


@pytest.mark.parametrize("there", [0, 1])
def test_ctrl_c_ends_who_waits_for_the_others(cache_folder, tmp_path, there):
    coordinator = f"127.0.0.1:{processes.free_port()}"
    command = [
        *(*processes.TRAIN, f"--config={processes.TINY}"),
        *(f"--workdir={tmp_path / 'run'}", "--num_processes=2"),
        *(f"--coordinator={coordinator}", f"--process_id={there}"),
    ]
    env = processes.environment(cache_folder)
    started = processes.launch(tmp_path / "output", "alone", command, env)
    processes.wait_for(started.out, "waiting for the others")
    time.sleep(3)
    started.process.send_signal(signal.SIGINT)
    done = processes.finish([started])[0]
    assert done.code == -signal.SIGINT
    assert done.seconds < 60


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_fails_says_why_to_the_others(
    run, as_if_nothing, tmp_path, victim, faults
):
    workdir = tmp_path / "run"
    done = run(workdir, 2, faults={victim: {"TINY_STALL": "12:never"}})
    assert done[victim].code == 2
    assert "jaxssl: the disk is gone" in done[victim].err.splitlines()
    other = done[1 - victim]
    assert other.code in (
        3,
        5,
    )  # It may find that nothing goes on before the other ends.
    if victim == 1:  # With process 0 the service is gone, which could tell.
        assert "process 1 left: UserError: the disk is gone" in other.line
    as_if_nothing(workdir)
    faults.record("F13", injected=1, survived=1)


# --- F14: SIGTERM


def check_stopped(done, workdir, as_if_nothing):
    assert [d.code for d in done] == [75] * len(done), done
    saved = checkpoints.steps(workdir)[-1]
    assert all(f"received: saved step {saved}." in d.line for d in done)
    as_if_nothing(workdir)
    return saved


@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)])
def test_sigterm_while_evaluating(run, as_if_nothing, tmp_path, victims, faults):
    workdir = tmp_path / "run"
    hurt = {i: {"TINY_TERM": "3"} for i in victims}
    done = run(workdir, 2, EVERY, faults=hurt, TINY_PACE="0.1")
    assert 3 <= check_stopped(done, workdir, as_if_nothing) < 20
    faults.record("F14", injected=1, survived=1)


@pytest.mark.parametrize("victims", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("moment", ["compiling", "saving"])
def test_sigterm_at_other_moments(
    as_if_nothing, tmp_path, cache_folder, moment, victims, faults
):
    workdir = tmp_path / "run"
    cache = "" if moment == "compiling" else cache_folder
    started = processes.start(workdir, 2, EVERY, cache=cache, TINY_PACE="0.1")
    if moment == "compiling":
        processes.wait_for(started[0].out, "compiling")
    else:
        processes.wait_for(workdir / "checkpoints" / "saving")
    for victim in victims:
        started[victim].process.send_signal(signal.SIGTERM)
    assert moment == "compiling" or (workdir / "checkpoints" / "saving").exists()
    saved = check_stopped(processes.finish(started), workdir, as_if_nothing)
    assert saved == 1 if moment == "compiling" else 4 <= saved < 20
    faults.record("F14", injected=1, survived=1)


def test_a_second_sigterm_ends_at_once(tmp_path, cache_folder, faults):
    workdir = tmp_path / "run"
    started = processes.start(workdir, 2, EVERY, cache=cache_folder, TINY_PACE="12")
    processes.wait_for(started[0].out, "eval at step 1")
    for seconds in (5.2, 0):
        started[0].process.send_signal(signal.SIGTERM)
        time.sleep(seconds)
    first, second = processes.finish(started)
    assert first.code == 128 + signal.SIGTERM
    assert second.code == 3
    faults.record("F14", injected=1, survived=1)


def test_a_sigterm_that_is_sent_twice_saves(
    as_if_nothing, tmp_path, cache_folder, faults
):
    workdir = tmp_path / "run"
    started = processes.start(workdir, 2, EVERY, cache=cache_folder, TINY_PACE="0.5")
    processes.wait_for(started[0].out, "eval at step 1")
    for _ in range(2):
        started[0].process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    check_stopped(processes.finish(started), workdir, as_if_nothing)
    faults.record("F14", injected=1, survived=1)


# --- F15: another number of processes


@pytest.mark.parametrize(
    ("before", "after"), [(1, 2), (2, 1), (2, 4), (4, 2), (1, 4), (4, 1)]
)
def test_another_number_of_processes_goes_on(
    run, pair, newest, tmp_path, before, after, faults
):
    workdir = tmp_path / "run"
    hurt = {0: {"TINY_TERM": "8"}}
    done = run(workdir, before, EVERY, faults=hurt, TINY_PACE="0.1")
    assert {d.code for d in done} == {75}
    done = run(workdir, after)
    assert {d.code for d in done} == {0}
    line = f"devices.processes was {before}, now {after} (from here on equal up to"
    assert line in done[0].out
    for a, b in zip(
        jax.tree.leaves(newest(workdir)), jax.tree.leaves(newest(pair)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    faults.record("F15", injected=1, survived=1)


# --- F16: two runs in one folder


def test_a_folder_is_trained_by_one_run_at_a_time(tmp_path, cache_folder, run, faults):
    workdir = tmp_path / "run"
    started = processes.start(workdir, 2, EVERY, cache=cache_folder, TINY_PACE="1.5")
    processes.wait_for(started[0].out, "eval at step 0")
    others = run(workdir, 2)
    assert [d.code for d in others] == [2, 2]
    assert all("is being trained by process" in d.line for d in others)
    assert [d.code for d in processes.finish(started)] == [0, 0]
    faults.record("F16", injected=1, survived=1)


def test_folders_that_are_not_shared_are_noticed(tmp_path, cache_folder):
    """Each process has its own folder, as on hosts without a common disk."""
    coordinator, started = f"127.0.0.1:{processes.free_port()}", []
    for i in (0, 1):
        workdir = tmp_path / f"host{i}" / "run"
        command = [
            *(*processes.TRAIN, f"--config={processes.TINY}", f"--workdir={workdir}"),
            *(f"--coordinator={coordinator}", "--num_processes=2", f"--process_id={i}"),
            "--config.mesh.data=-1",
        ]
        env = processes.environment(cache_folder)
        started.append(processes.launch(tmp_path / "output", str(i), command, env))
    done = processes.finish(started)
    assert [d.code for d in done] == [2, 2]
    assert all(
        f"--workdir: {tmp_path}/host1/run on process 1 is another folder than "
        f"{tmp_path}/host0/run on process 0; give one" in d.line
        for d in done
    )


# --- F18: a chain of faults under a supervisor


def newest_step(workdir):
    return max(checkpoints.steps(workdir), default=0)


def train_children(supervisors):
    """Return the trainer of each supervisor, once both trainers have started."""
    deadline = time.monotonic() + processes.PATIENCE
    while time.monotonic() < deadline:
        trainers = [processes.children(each.process.pid) for each in supervisors]
        if all(trainers):
            return [below[0] for below in trainers]
        time.sleep(0.05)
    raise AssertionError("the supervisors have no trainers")


def wait_for_step(workdir, step):
    deadline = time.monotonic() + processes.PATIENCE
    while time.monotonic() < deadline:
        if newest_step(workdir) >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} was never saved")


def damage_newest(workdir, rng):
    folder = workdir / "checkpoints" / str(newest_step(workdir))
    files = [p for p in folder.rglob("*") if p.is_file() and p.stat().st_size]
    path = rng.choice(sorted(files))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_chain_of_faults_ends_as_if_nothing_had_been(
    pair, newest, bits, tmp_path, cache_folder, seed, faults
):
    """Five faults in a run of two supervised processes, each after a new save."""
    workdir, rng = tmp_path / "run", random.Random(seed)
    coordinator = f"127.0.0.1:{processes.free_port()}"
    supervisors = []
    for i in (0, 1):
        command = [
            *(*processes.TRAIN[:-1], "supervise", "--wait_seconds=1", "--", "jaxssl"),
            *("train", f"--config={processes.TINY}", f"--workdir={workdir}"),
            *(f"--coordinator={coordinator}", "--num_processes=2", f"--process_id={i}"),
            *("--config.mesh.data=-1", *processes.QUICK, EVERY),
            "--config.train.save_every=2",
        ]
        env = processes.environment(cache_folder, TINY_PACE="0.6")
        supervisors.append(processes.launch(tmp_path / "out", str(i), command, env))
    planned = ["kill", "term", "freeze", "damage", rng.choice(["kill", "term"])]
    rng.shuffle(planned)
    for number, fault in enumerate(planned, start=1):
        wait_for_step(workdir, 2 * number)
        victim = rng.choice(train_children(supervisors))
        if fault == "damage":
            damage_newest(workdir, rng)
        if fault == "freeze":
            os.kill(victim, signal.SIGSTOP)
            time.sleep(14)  # The other one has given up by then.
            os.kill(victim, signal.SIGCONT)
        else:
            kinds = {"term": signal.SIGTERM}
            os.kill(victim, kinds.get(fault, signal.SIGKILL))
        time.sleep(1)
    done = processes.finish(supervisors)
    assert [d.code for d in done] == [0, 0], (planned, done)
    assert bits(newest(workdir)) == bits(newest(pair))
    faults.record("F18", injected=5, survived=5)
