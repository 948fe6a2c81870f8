"""``jaxssl verify devices``: compare the same step on one device and on many."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from jaxssl.config import section
from jaxssl.config.checks import shown
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import ChildFailedError, ExitCode, UserError
from jaxssl.run import config_file
from jaxssl.text import Say
from jaxssl.train.config import TrainConfig
from jaxssl.train.process_settings import use_compilation_cache
from jaxssl.train.setup import set_up
from jaxssl.verify import device_equivalence
from jaxssl.verify.device_equivalence import Comparison

# Seconds that all steps on several processes may take, compilation included.
PROCESS_SECONDS = 3600

# Seconds between two looks at the processes.
POLL_SECONDS = 0.05

# Variables that would give a process more than its one CPU device.
DEVICE_VARIABLES = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")

# Exit codes of a process without a failure of its own: still running (None), done, or
# ended because another process was lost.
NOT_AT_FAULT = (None, ExitCode.DONE, ExitCode.PEER_LOST)


class Child(NamedTuple):
    """A process that was started.

    Attributes:
      process: the process.
      stderr: the file with its standard error.
    """

    process: subprocess.Popen
    stderr: Path


def read_counts(values: Sequence[str], flag: str) -> list[int]:
    """Read numbers of devices from a flag; 1 is left out, as it is the reference.

    Raises:
      UserError: a value is no number above 0.
    """
    for value in values:
        if not re.fullmatch(r"0*[1-9]\d{0,8}", value, re.ASCII):
            raise UserError(
                f"--{flag} has {shown(value)}; give numbers, as in 1,2,4,8."
            )
    return sorted({int(value) for value in values} - {1})


def verify(
    spec: str,
    overrides: Sequence[str],
    *,
    devices: Sequence[int],
    processes: Sequence[int],
    steps: int,
    say: Say = print,
) -> int:
    """Compare each step on one simulated device with the same step on more.

    Args:
      spec: ``FILE`` or ``FILE:variant``.
      overrides: arguments such as ``--config.seed=1``.
      devices: numbers of devices.
      processes: numbers of processes with one device each.
      steps: number of steps; each starts from the state that one device reached.
      say: takes one line for a person.

    Returns:
      The exit code: DONE, or DIFFERENT.

    Raises:
      UserError: the config cannot be read, or a mesh does not fit it.
      ChildFailedError: a process failed or took too long.
    """
    recipe = config_file.load(spec, overrides)  # Before jax looks for devices.
    _check_counts(recipe, [*devices, *processes])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(devices, default=1))
    use_compilation_cache()
    setup = set_up(recipe)
    say(
        f"{steps} steps of {setup.train.batch_size} rows; largest relative differences "
        "from one device"
    )
    say(_line("", {group: group for group in device_equivalence.TOLERANCES}))
    with tempfile.TemporaryDirectory(prefix="jaxssl-verify-") as scratch:
        folder = Path(scratch)
        comparisons = _show(
            device_equivalence.compare_devices(setup, devices, steps, folder), say
        )
        for count in processes:
            comparisons += _show(_run_processes(spec, overrides, count, folder), say)
    return _judge(comparisons, say)


def _check_counts(recipe: config_file.Recipe, counts: Sequence[int]) -> None:
    """Raise unless each device gets a row; simulated devices take memory, too."""
    train = section.read(TrainConfig, recipe.config, "train")
    mesh = section.read(meshes.MeshConfig, recipe.config, "mesh")
    most = train.batch_size * mesh.model
    if counts and max(counts) > most:
        raise UserError(
            f"--devices and --processes ask for {max(counts)}; with train.batch_size "
            f"{train.batch_size} and mesh.model {mesh.model} give at most {most}."
        )


def _judge(comparisons: Sequence[Comparison], say: Say) -> int:
    """Say whether all differences are within the tolerances; return the exit code."""
    nudged = _worst(comparisons).get(device_equivalence.NUDGED, {})
    tolerances = device_equivalence.allow(nudged)
    say(_line("tolerance", {g: f"{value:.1e}" for g, value in tolerances.items()}))
    for step, mesh, differences in comparisons:
        for group, value in differences.items():
            if mesh != device_equivalence.NUDGED and value > tolerances[group]:
                say(
                    f"first difference: step {step} on {mesh}: {group} differs by "
                    f"{value:.1e}, beyond {tolerances[group]:.1e}"
                )
                return ExitCode.DIFFERENT
    say("equal up to rounding")
    return ExitCode.DONE


def _run_processes(
    spec: str, overrides: Sequence[str], count: int, folder: Path
) -> list[Comparison]:
    """Repeat the steps of ``folder`` on processes that talk to each other.

    Raises:
      ChildFailedError: one of them failed, or took too long.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
    result = folder / f"processes-{count}.json"
    job = {
        "config": spec,
        "folder": str(folder),
        "result": str(result),
        "seconds": PROCESS_SECONDS,
    }
    env = {k: v for k, v in os.environ.items() if k not in DEVICE_VARIABLES}
    children = []
    try:
        for i in range(count):
            argument = json.dumps(job | {"place": [coordinator, count, i]})
            stderr = folder / f"process-{count}-{i}.err"
            with stderr.open("w") as file:  # An unread pipe would fill and block.
                process = subprocess.Popen(
                    [sys.executable, "-m", "jaxssl.cli.member", argument, *overrides],
                    env=env,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                )
            children.append(Child(process, stderr))
        wait(children)
    finally:
        for child in children:
            child.process.kill()
            child.process.wait()
    return [
        Comparison(step, f"{count} processes", differences)
        for step, differences in enumerate(json.loads(result.read_text()), start=1)
    ]


def wait(children: Sequence[Child], seconds: float = PROCESS_SECONDS) -> None:
    """Wait until all processes have ended, or one has failed.

    When one process fails, the others end because they lost it. Their exit codes do not
    say why. The exit code of the failed process does, but it may end later than they.

    Args:
      children: processes that talk to each other.
      seconds: how long to wait.

    Raises:
      ChildFailedError: one failed, or took too long; has its code and last line.
    """
    deadline = time.monotonic() + seconds
    while True:
        codes = [child.process.poll() for child in children]
        failed = [i for i, code in enumerate(codes) if code not in NOT_AT_FAULT]
        if failed or None not in codes:
            break
        if time.monotonic() > deadline:
            name = f"process {codes.index(None)} of {len(children)}"
            raise ChildFailedError(
                ExitCode.BUG, f"{name} took more than {seconds:g} s."
            )
        time.sleep(POLL_SECONDS)
    for i in failed or [i for i, code in enumerate(codes) if code]:
        lines = children[i].stderr.read_text(errors="replace").strip().splitlines()
        raise ChildFailedError(
            max(codes[i] or 0, ExitCode.BUG),
            f"process {i} of {len(children)} ended with {codes[i]}: "
            f"{lines[-1] if lines else 'it said nothing'}",
        )


def _show(comparisons: Iterable[Comparison], say: Say) -> list[Comparison]:
    """Print a line for each mesh, and return all comparisons."""
    comparisons = list(comparisons)
    for mesh, worst in _worst(comparisons).items():
        say(_line(mesh, {group: f"{value:.1e}" for group, value in worst.items()}))
    return comparisons


def _worst(comparisons: Iterable[Comparison]) -> dict[str, dict[str, float]]:
    """Return the largest difference of each group, by mesh."""
    by_mesh: dict[str, dict[str, float]] = {}
    for _, mesh, differences in comparisons:
        worst = by_mesh.setdefault(mesh, {})
        for group, value in differences.items():
            worst[group] = max(worst.get(group, 0.0), value)
    return by_mesh


def _line(name: str, cells: dict[str, str]) -> str:
    """Return a line of the table; a group that a mesh does not have is "-"."""
    columns = [cells.get(group, "-") for group in device_equivalence.TOLERANCES]
    return f"{name:<17}" + "".join(f"{column:>11}" for column in columns)
