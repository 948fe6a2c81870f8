"""A disk that refuses: one clear line, nothing lost, the same command continues."""

import errno
import os
import re
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxssl import errors
from jaxssl.checkpoint import disk_errors, listing
from jaxssl.checkpoint import store as checkpoints
from jaxssl.run import metrics, tensorboard
from jaxssl.types import EvalResult

TINY = Path(__file__).parent.parent / "train" / "tiny.py"
STATE = "--config.model.width=400"  # An array of 77 kB, and two of Adam's.


@pytest.fixture
def limit_files():
    """Let the kernel refuse files above a size until the end of the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size=None):
        soft = before[0] if size is None else size
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))

    yield limit
    limit()


def _command(*arguments, blocks=None, **environment):
    """Run the real command; no file may be longer than ``blocks`` times 512 bytes."""
    environment |= {"JAXSSL_CACHE": ""}
    limit = ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh"] if blocks else []
    return subprocess.run(
        [*limit, sys.executable, "-m", "jaxssl.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_command_says_one_line_and_keeps_the_good_steps(tmp_path, faults):
    arguments = ["train", f"--config={TINY}", f"--workdir={tmp_path}", STATE]
    arguments += ["--config.train.eval_every=1"]
    assert _command(*arguments, TINY_TERM="7").returncode == 75
    done = _command(*arguments, blocks=60)
    assert done.returncode == 74
    # Threads of Orbax that fail on the full disk may write tracebacks around the line.
    (line,) = re.findall("jaxssl: the disk refused .*", done.stderr)
    assert "File too large. Step 7 is kept; raise the limit" in line
    assert checkpoints.steps(tmp_path) == [4, 7]
    assert listing.verify_text(tmp_path)[1]
    assert _command(*arguments).returncode == 0
    assert checkpoints.steps(tmp_path) == [12, 16, 20]
    assert listing.verify_text(tmp_path)[1]
    faults.record("F5", injected=1, survived=1)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 7, 12])
def test_whichever_file_it_is(fit, tmp_path, monkeypatch, bits, number, faults):
    """config.json, run.json and metric_units.json come first, then two a save."""
    whole, calls, real = fit(tmp_path / "whole"), [], os.replace

    def refuse(old, new):
        calls.append(new)
        if len(calls) > number:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(new))
        real(old, new)

    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(errors.StorageError, match="quota exceeded") as caught:
            fit(cut)
    assert str(calls[number]) in str(caught.value)
    kept = [4 * (i + 1) for i in range(max(0, number - 3) // 2)]
    kept_line = f"Step {kept[-1]} is kept" if kept else "No checkpoint is there yet"
    assert kept_line in str(caught.value)
    # Orbax removes the oldest before the newest has its manifest.
    assert checkpoints.steps(cut) == kept[-2 - (number < 12) :]
    assert listing.verify_text(cut)[1]
    assert not list(cut.glob(".*.json.*"))
    assert bits(fit(cut)) == bits(whole)
    faults.record("F5", injected=1, survived=1)


def test_a_disk_that_gets_full(fit, limit_files, tmp_path, bits, faults):
    """The kernel refuses a file in the middle of a run and at the next start."""
    whole, run = fit(tmp_path / "whole"), tmp_path / "run"

    def fill(state):
        if int(state.step) == 9:
            while (run / "checkpoints" / "saving").exists():
                time.sleep(0.01)
            limit_files(64)
        return EvalResult({}, {})

    with pytest.raises(errors.StorageError, match="File too large"):
        fit(run, evals={"fill": fill}, c={"eval_every": 1, "log_every": 1})
    assert checkpoints.steps(run) == [4, 8]
    assert listing.verify_text(run)[1]
    with pytest.raises(errors.StorageError, match=r"Step 8 is kept; raise the limit"):
        fit(run, c={"log_every": 1})
    limit_files()
    assert bits(fit(run)) == bits(whole)
    records = [r["step"] for r in metrics.read(run) if "data/bad_records" in r]
    assert records == sorted(set(records))
    faults.record("F5", injected=1, survived=1)


def test_a_disk_that_became_read_only(fit, tmp_path, monkeypatch, bits, faults):
    first, real = fit(tmp_path), os.open

    def refuse(path, flags, *args, **options):
        inside = isinstance(path, Path) and path.is_relative_to(tmp_path)
        if inside and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(errors.StorageError, match=r"Read-only .* Step 20 is kept"):
            fit(tmp_path)
    assert bits(fit(tmp_path)) == bits(first)
    faults.record("F5", injected=1, survived=1)


def test_a_full_board_is_an_error_and_no_wait(tmp_path, monkeypatch, faults):
    """The queue of `tensorboardX.SummaryWriter` would wait for a dead thread."""
    monkeypatch.setattr(tensorboard.time, "time", lambda: 1.0)
    name = f"events.out.tfevents.1.{socket.gethostname()}.{os.getpid()}"
    (tmp_path / name).symlink_to("/dev/full")  # Refuses every byte, like a full disk.

    def write_much():
        with tensorboard.open_board(tmp_path, first_step=0) as events:
            for step in range(2000):
                tensorboard.write(events, step, {"x" * 400: 1.0})

    with pytest.raises(OSError, match="No space left"):
        write_much()
    faults.record("F5", injected=1, survived=1)


def test_what_is_no_refusal_passes(tmp_path):
    message = "RESOURCE_EXHAUSTED: Failed to write 8 bytes [os_error_code='28']"
    with pytest.raises(errors.StorageError, match=f"{tmp_path}: No space left"):
        with disk_errors.watch(tmp_path):
            raise ValueError(message)
    for error in (
        FileNotFoundError(errno.ENOENT, "no such file"),
        ValueError("28"),
        OSError("without a number"),
    ):
        with pytest.raises(type(error)) as caught, disk_errors.watch(tmp_path):
            raise error
        assert caught.value is error
