"""Restart what can go on, and nothing else; leave no process behind."""

import os
import signal
import subprocess
import sys

import pytest

from jaxssl import cli
from jaxssl.cli import supervise
from tests.train import processes

SCRIPT = """
import os, pathlib, signal, subprocess, sys, time
work = pathlib.Path(sys.argv[1].partition("=")[2])
count = work / "count"
start = int(count.read_text()) if count.exists() else 0
count.write_text(str(start + 1))
codes = sys.argv[2].split(",")
word = codes[min(start, len(codes) - 1)]
if word.endswith("+"):  # A step was saved.
    (work / "checkpoints" / str(start + 1)).mkdir(parents=True)
    (work / "checkpoints" / str(start + 1) / "jaxssl_manifest.json").touch()
    word = word[:-1]
if word == "wait":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
    (work / "ready").touch()
    time.sleep(600)
if int(word) < 0:
    os.kill(os.getpid(), -int(word))
sys.exit(int(word))
"""


def words(workdir, codes, *flags):
    child = [sys.executable, "-c", SCRIPT, f"--workdir={workdir}", codes]
    return ["supervise", "--wait_seconds=0", *flags, "--", *child]


@pytest.mark.parametrize(
    ("codes", "code", "starts"),
    [
        ("0", 0, 1),
        ("3,5,75,0", 0, 4),
        ("-9,0", 0, 2),
        ("-6,0", 0, 2),
        ("-15,0", 0, 2),
        ("1,0", 1, 1),
        ("2,0", 2, 1),
        ("6,0", 6, 1),
        ("7,0", 7, 1),
        ("74,0", 74, 1),
        ("-11,0", 139, 1),
        ("3", 3, 4),
        ("3+,3,3,3,0", 0, 5),
        ("3+,3+,3+,3+,3+,0", 0, 6),
        ("3+,3,3,3,3,0", 3, 5),
    ],
)
def test_codes_that_are_started_again(tmp_path, capfd, codes, code, starts):
    assert cli.main(words(tmp_path, codes)) == code
    assert (tmp_path / "count").read_text() == str(starts)
    lines = starts - 1 + (code in supervise.RESTART)  # The last says that it gives up.
    assert capfd.readouterr().err.count("supervise: ") == lines


def test_retries_are_counted_without_a_new_step(tmp_path, capfd):
    assert cli.main(words(tmp_path, "5", "--retries=1")) == 5
    assert (tmp_path / "count").read_text() == "2"
    err = capfd.readouterr().err
    assert "code 5 again; no new step in 2 starts; giving up" in err


def test_waits_grow():
    waits = [supervise.seconds_before(tries, 5) for tries in (0, 1, 2, 3, 4, 20)]
    assert waits == [5, 5, 10, 20, 40, supervise.LONGEST_WAIT]


@pytest.fixture
def waiting(tmp_path):
    """A supervisor whose child waits, with a worker of its own."""
    command = [sys.executable, "-m", "jaxssl.cli", *words(tmp_path, "wait")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    processes.wait_for(tmp_path / "ready")
    below = processes.children(process.pid)
    assert len(below) == 2
    yield process, below
    process.kill()
    process.communicate()


def test_sigterm_is_passed_on_and_ends_it(waiting, tmp_path):
    process, below = waiting
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 75
    assert processes.outlive(below) == []
    assert (tmp_path / "count").read_text() == "1"


def test_each_signal_is_delivered_once():
    """A signal comes while one that came before the child's start is sent."""
    got, waiting = [], [signal.SIGINT]

    class Child(subprocess.Popen):
        def __init__(self):
            pass

        def send_signal(self, sig):
            got.append(sig)
            if sig == signal.SIGINT:
                waiting.append(signal.SIGTERM)
                supervise._deliver(child, waiting)

    child = []
    supervise._deliver(child, waiting)
    assert waiting == [signal.SIGINT]
    child.append(Child())
    supervise._deliver(child, waiting)
    assert got == [signal.SIGINT, signal.SIGTERM]
    assert waiting == []


def test_a_killed_supervisor_leaves_no_trainer(waiting, faults):
    process, below = waiting
    process.kill()
    assert processes.outlive(below[:1]) == []
    for pid in below[1:]:  # What the child itself left is not the supervisor's.
        os.kill(pid, signal.SIGKILL)
    faults.record("F11", injected=1, survived=1)


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["supervise"], "the command is missing"),
        (["supervise", "--", "jaxssl", "train"], "the command has no --workdir"),
        (["supervise", "--", "a", f"--workdir={__file__}"], "is a file; give a folder"),
        (
            ["supervise", "--", "no-such-program", "--workdir=runs/a"],
            "no-such-program cannot be started",
        ),
        (["supervise", "--retries=-1", "--", "a"], "retries"),
        (["supervise", "--config=a"], "--config is not a flag of supervise"),
    ],
)
def test_mistakes_are_told(argv, line, capsys):
    assert cli.main(argv) == 2
    assert line in capsys.readouterr().err
