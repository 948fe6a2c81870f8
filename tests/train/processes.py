"""Start the real command in several processes and see how each of them ends."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

TINY = Path(__file__).parent / "tiny.py"
TRAIN = (sys.executable, "-m", "jaxssl.cli", "train")
PATIENCE = 240
"""Seconds after which a process counts as hung; the machine may be busy."""

QUICK = ("--join_seconds=120", "--peer_seconds=10")
"""Shorter than the defaults, and long enough for a busy machine."""


class Done(NamedTuple):
    """How a process ended.

    Attributes:
      code: its exit code; negative for a signal.
      out: what it wrote to standard output.
      err: what it wrote to standard error.
      seconds: when it ended, after the first of all processes was started.
    """

    code: int
    out: str
    err: str
    seconds: float

    @property
    def line(self):
        """The last line of standard error."""
        return (self.err.splitlines() or [""])[-1]


class Started(NamedTuple):
    """A process that runs.

    Attributes:
      process: itself.
      out: the file that has its standard output.
      err: the file that has its standard error.
      began: when the first of all was started.
    """

    process: subprocess.Popen
    out: Path
    err: Path
    began: float


def environment(cache, **changes):
    """Return an environment of one CPU device, with compiled programs in ``cache``."""
    return {**os.environ, "JAX_PLATFORMS": "cpu", "JAXSSL_CACHE": str(cache), **changes}


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def launch(folder, name, command, env, began=None):
    """Start one process whose output goes to files that can be read meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("w") as to_out, err.open("w") as to_err:
        process = subprocess.Popen(command, env=env, stdout=to_out, stderr=to_err)
    return Started(process, out, err, began or time.monotonic())


def start(workdir, count, *words, cache, faults=None, late=None, **shared):
    """Start ``count`` processes of one run.

    Args:
      workdir: the run's folder.
      count: how many.
      *words: added to each command.
      cache: compiled programs.
      faults: process to variables of its environment.
      late: process to seconds that it starts later.
      **shared: variables for all.

    Returns:
      A list of ``Started``.
    """
    coordinator = f"127.0.0.1:{free_port()}"
    began, started = time.monotonic(), {}
    for i in sorted(range(count), key=lambda i: (late or {}).get(i, 0)):
        time.sleep(max(0, began + (late or {}).get(i, 0) - time.monotonic()))
        command = [
            *(*TRAIN, f"--config={TINY}", f"--workdir={workdir}"),
            *(f"--coordinator={coordinator}", f"--num_processes={count}"),
            *(f"--process_id={i}", "--config.mesh.data=-1", *QUICK, *words),
        ]
        env = environment(cache, **shared, **(faults or {}).get(i, {}))
        folder = workdir.with_name(f"{workdir.name}-output")
        started[i] = launch(folder, f"{time.monotonic():.3f}-{i}", command, env, began)
    return [started[i] for i in range(count)]


def finish(started):
    """Wait for all; kill whatever does not end, and say so.

    Returns:
      A list of ``Done``.
    """
    done = [None] * len(started)
    deadline = time.monotonic() + PATIENCE
    while None in done and time.monotonic() < deadline:
        for i, each in enumerate(started):
            if done[i] is None and each.process.poll() is not None:
                done[i] = _describe(each)
        time.sleep(0.05)
    for i, each in enumerate(started):
        if done[i] is None:
            each.process.kill()
            each.process.wait()
            killed = _describe(each)
            done[i] = killed._replace(err=f"{killed.err}\nHUNG")
    return done


def _describe(each):
    seconds = time.monotonic() - each.began
    text = each.out.read_text(), each.err.read_text()
    return Done(each.process.returncode, *text, seconds)


def run(workdir, count, *words, **options):
    """Start and finish."""
    return finish(start(workdir, count, *words, **options))


def wait_for(path, text="", seconds=PATIENCE):
    """Wait until a file is there and holds a text."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.002)
    raise AssertionError(f"{path} never held {text!r}")


def is_alive(pid):
    """Say whether a process runs; one that ended and waits for its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def outlive(pids, seconds=30):
    """Return those of some processes that still run after so long."""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return [pid for pid in pids if is_alive(pid)]


def children(pid):
    """Return the processes below one, at any depth."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    pids, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        pids += below
        todo += below
    return pids
