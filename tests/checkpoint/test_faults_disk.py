"""Kills inside of saves, damaged checkpoints, and disks that fail or are slow."""

import errno
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from jaxssl import errors
from jaxssl.checkpoint import disk_errors, listing, manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.types import EvalResult
from tests.train import saver

SAVER = Path(saver.__file__)


def _quiet(line):
    del line


def _abstract():
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        saver.make_state(1),
    )


def _tree(folder):
    return {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def _kill_in_a_save(workdir, delay):
    """Kill a process ``delay`` seconds after its first save; return the steps saved."""
    child = subprocess.Popen(
        [sys.executable, str(SAVER), str(workdir)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    try:
        lines = [child.stdout.readline()]
        time.sleep(delay)
    finally:
        child.kill()
    # A kill may cut the last line short; a whole one ends with a newline.
    lines += child.communicate()[0].splitlines(keepends=True)
    return [int(line) for line in lines if line.strip().isdigit() and line[-1] == "\n"]


@pytest.mark.slow
def test_fifty_kills_inside_of_saves(tmp_path, bits, faults):
    rng, kills, phases = random.Random(5), 50, set()
    for _ in range(kills):
        acknowledged = _kill_in_a_save(tmp_path, rng.uniform(0.0, 0.25))[-1]
        phases.add(checkpoints.find_unfinished(tmp_path) is None)
        step, damage = checkpoints.find_newest(tmp_path)
        assert damage == {}
        assert step in (acknowledged, acknowledged + 1)
        state = checkpoints.restore_newest(tmp_path, _abstract(), _quiet)
        assert bits(state) == bits(saver.make_state(step))
    assert phases == {True, False}  # Between saves, and inside of one.
    with checkpoints.open_store(tmp_path, keep=2) as store:
        checkpoints.save(store, saver.make_state(step + 1))
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {str(step), str(step + 1)}
    faults.record("F1", injected=kills, survived=kills)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("saved")
    with checkpoints.open_store(workdir, keep=3) as store:
        for step in (1, 2, 3):
            checkpoints.save(store, saver.make_state(step))
    return workdir


def _flip(path, rng):
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _cut(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def _zero(path, rng):
    data = path.read_bytes()
    start = rng.randrange(len(data))
    zeroed = data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :]
    path.write_bytes(zeroed if zeroed != data else data + b"\0")


def _remove(path, rng):
    del rng
    path.unlink()


def _add(path, rng):
    path.with_name(f"more{rng.randrange(100)}").write_bytes(b"x")


HARMS = (_flip, _flip, _flip, _flip, _cut, _zero, _remove, _add)


@pytest.mark.slow
def test_two_hundred_damages_of_all_kinds_of_files(saved, tmp_path, bits, faults):
    """Half of them flip bits of array data, which Orbax does not notice."""
    rng, count, silent = random.Random(3), 208, 0
    names = sorted(
        p.relative_to(saved)
        for p in (saved / "checkpoints" / "3").rglob("*")
        if p.is_file() and p.stat().st_size
    )
    data = [name for name in names if "d" in name.parts]
    assert len(names) >= 8
    flipped = 0
    for number in range(count):
        harm = HARMS[number % len(HARMS)]
        chosen = data if harm is _flip else names
        run = tmp_path / str(number)
        shutil.copytree(saved, run)
        harm(run / chosen[number // len(HARMS) % len(chosen)], rng)
        flipped += harm is _flip
        lines = []
        state = checkpoints.restore_newest(run, _abstract(), lines.append)
        assert bits(state) == bits(saver.make_state(2))
        silent += not (lines and lines[0].startswith("CHECKPOINT 3 IS DAMAGED"))
        assert (run / "checkpoints" / "3.corrupt").is_dir()
        shutil.rmtree(run)
    assert flipped >= 100
    faults.record("F3", injected=count, survived=count, silent=silent)


@pytest.mark.parametrize("harm", [_flip, _cut, _zero, _remove, _add])
def test_all_checkpoints_damaged_stop_and_stay(saved, tmp_path, harm, faults):
    run, rng = shutil.copytree(saved, tmp_path / "run"), random.Random(1)
    for step in (1, 2, 3):
        files = (run / "checkpoints" / str(step)).rglob("d/*")
        harm(max(files, key=lambda p: p.stat().st_size), rng)
    before = _tree(run)
    with pytest.raises(errors.NoValidCheckpointError, match=r"3 \(.*2 \(.*1 \("):
        checkpoints.restore_newest(run, _abstract(), _quiet)
    assert _tree(run) == before
    faults.record("F4", injected=1, survived=1)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 6])
def test_a_disk_that_fails(fit, tmp_path, monkeypatch, bits, number, faults):
    """One file and all later files raise EIO; the same command then continues."""
    whole, calls, real = fit(tmp_path / "whole"), [], os.fsync

    def fail(handle):
        calls.append(handle)
        if len(calls) > 2 * number:  # A file and its folder.
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(errors.StorageError, match="Input/output error"):
            fit(cut)
    assert listing.verify_text(cut)[1]
    assert bits(fit(cut)) == bits(whole)
    faults.record("F5", injected=1, survived=1)


@pytest.fixture
def unreadable(monkeypatch):
    """Let reads of the files below some folders fail, as bad sectors do."""

    def spoil(*folders, number=errno.EIO):
        real = manifest._hash_block

        def read(path, start):
            if any(path.is_relative_to(folder) for folder in folders):
                raise OSError(number, os.strerror(number))
            return real(path, start)

        monkeypatch.setattr(manifest, "_hash_block", read)

    return spoil


def test_a_bad_sector_is_taken_for_damage(saved, tmp_path, unreadable, bits, faults):
    run, lines = shutil.copytree(saved, tmp_path / "run"), []
    unreadable(run / "checkpoints" / "3")
    text, good = listing.verify_text(run)
    assert not good
    assert "3  DAMAGED: it cannot be read (Input/output error)" in text
    assert disk_errors.kept_text(run) == "Step 2 is kept"
    state = checkpoints.restore_newest(run, _abstract(), lines.append)
    assert bits(state) == bits(saver.make_state(2))
    assert "3 IS DAMAGED: it cannot be read (Input/output error)" in lines[0]
    assert checkpoints.steps(run) == [1, 2]
    faults.record("F5", injected=1, survived=1)


@pytest.mark.parametrize(
    ("steps", "number"),
    [((1, 2, 3), errno.EIO), ((3,), errno.ESTALE), ((3,), errno.ENOTCONN)],
)
def test_a_disk_that_is_gone_renames_nothing(
    saved, tmp_path, unreadable, steps, number, faults
):
    run = shutil.copytree(saved, tmp_path / "run")
    unreadable(*(run / "checkpoints" / str(step) for step in steps), number=number)
    message = rf"{os.strerror(number)}\. Which step is kept could not be read"
    with pytest.raises(errors.StorageError, match=message), disk_errors.watch(run):
        checkpoints.restore_newest(run, _abstract(), _quiet)
    assert checkpoints.steps(run) == [1, 2, 3]
    faults.record("F5", injected=1, survived=1)


def test_what_is_kept_is_told_beside_any_error(saved, tmp_path):
    run = shutil.copytree(saved, tmp_path / "run")
    for path in run.glob(f"checkpoints/*/{manifest.NAME}"):
        path.unlink()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(errors.StorageError, match="No checkpoint is left that can"):
        with disk_errors.watch(run):
            raise full


def test_a_slow_disk_delays_saves_and_not_steps(fit, tmp_path, monkeypatch, faults):
    """Every manifest takes a second; the steps between two saves go on meanwhile."""
    real, during = manifest.write, []

    def slow(*arguments):
        time.sleep(1.0)
        real(*arguments)

    def watch(state):
        during.append((int(state.step), (tmp_path / "checkpoints/saving").exists()))
        return EvalResult({}, {})

    monkeypatch.setattr(manifest, "write", slow)
    fit(tmp_path, evals={"watch": watch}, c={"eval_every": 1, "save_every": 10})
    # The save of step 10 was still under way while later steps were made.
    assert [step for step, saving in during if saving and step > 10]
    assert checkpoints.steps(tmp_path) == [10, 20]
    assert listing.verify_text(tmp_path)[1]
    faults.record("F5", injected=2, survived=2)
