"""``jaxssl verify devices``: the same step on one device and on many."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from jaxssl.errors import ChildFailedError, ExitCode, UserError
from jaxssl.run import config_file
from jaxssl.train.process_settings import use_compilation_cache
from jaxssl.train.setup import set_up
from jaxssl.verify import device_equivalence

PATIENCE_SECONDS = 3600
"""So long may the steps take on several processes, compilation included."""

COUNT = "JAX_NUM_CPU_DEVICES"

POLL_SECONDS = 0.05
QUIET = (None, ExitCode.DONE, ExitCode.PEER_LOST)
"""What a process does that has no failure of its own to tell: runs, or ended so."""


class Child(NamedTuple):
    """A process that was started.

    Attributes:
      process: itself.
      told: the file that has its standard error.
    """

    process: subprocess.Popen
    told: Path


Found = tuple[int, str, dict[str, float]]
"""A step, the name of a mesh, and the differences from one device."""


def read_counts(words: Sequence[str], flag: str) -> list[int]:
    """Read numbers from a flag; 1 is the reference and needs no saying.

    Raises:
      UserError: a word is no number above 0.
    """
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            raise UserError(f"--{flag} has {word!r}; give numbers, as in 1,2,4,8.")
    return sorted({int(word) for word in words} - {1})


def read_setting(spec: str, words: Sequence[str]) -> device_equivalence.Setting:
    """Build what a config describes.

    Raises:
      UserError: it cannot be built.
    """
    setup = set_up(config_file.load(spec, words))
    return device_equivalence.Setting(
        task=setup.experiment.task,
        train_set=setup.experiment.train_set,
        init_from=setup.experiment.init_from,
        heads=setup.experiment.heads,
        batches=setup.batches,
        spec=setup.spec(),
        batch_size=setup.train.batch_size,
        seed=setup.seed,
        layout=setup.mesh,
    )


def verify(
    spec: str,
    words: Sequence[str],
    *,
    devices: Sequence[int],
    processes: Sequence[int],
    steps: int,
    say: Callable[[str], object] = print,
) -> int:
    """Compare each step on one simulated device with those on more.

    Args:
      spec: ``FILE`` or ``FILE:variant``.
      words: overrides.
      devices: how many.
      processes: how many, each with one device.
      steps: of training; each starts from the state that one device reached.
      say: takes one line for a person.

    Returns:
      The exit code: DONE, or DIFFERENT.

    Raises:
      UserError: the config cannot be read, or a mesh does not fit it.
      FailedError: a process ended as it should not.
    """
    config_file.load(spec, words)  # A wrong word is told before jax looks for devices.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", max(devices, default=1))
    use_compilation_cache()
    setting = read_setting(spec, words)
    say(
        f"{steps} steps of {setting.batch_size} rows; largest relative differences "
        "from one device"
    )
    say(_line("", {group: group for group in device_equivalence.TOLERANCES}))
    with tempfile.TemporaryDirectory(prefix="jaxssl-verify-") as scratch:
        place = Path(scratch)
        found = _show(
            device_equivalence.compare_devices(setting, devices, steps, place), say
        )
        for count in processes:
            found += _show(_run_processes(spec, words, count, place), say)
    allowed = device_equivalence.allow(_worst(found).get(device_equivalence.NUDGED, {}))
    say(_line("tolerance", {g: f"{value:.1e}" for g, value in allowed.items()}))
    beyond = [
        f"step {step} on {name}: {group} differs by {value:.1e}, beyond "
        f"{allowed[group]:.1e}"
        for step, name, different in found
        for group, value in different.items()
        if name != device_equivalence.NUDGED and value > allowed[group]
    ]
    if beyond:
        say(f"first difference: {beyond[0]}")
        return ExitCode.DIFFERENT
    say("equal up to rounding")
    return ExitCode.DONE


def _run_processes(
    spec: str, words: Sequence[str], count: int, folder: Path
) -> list[Found]:
    """Repeat the steps of ``folder`` on processes that talk to each other.

    Raises:
      FailedError: one of them failed, or took too long.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    how = {
        "config": spec,
        "folder": str(folder),
        "name": f"{count} processes",
        "result": str(folder / f"processes-{count}.json"),
        "seconds": PATIENCE_SECONDS,
    }
    plain = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", COUNT)}
    command = [sys.executable, "-m", "jaxssl.cli.member"]
    children = []
    try:
        for i in range(count):
            told = folder / f"process-{count}-{i}.err"
            place = json.dumps(how | {"place": [coordinator, count, i]})
            with told.open("w") as file:  # A pipe that nobody empties would block it.
                process = subprocess.Popen(
                    [*command, place, *words],
                    env=plain,
                    stdout=subprocess.DEVNULL,
                    stderr=file,
                )
            children.append(Child(process, told))
        wait(children)
    finally:
        for child in children:
            child.process.kill()
            child.process.wait()
    found = json.loads(Path(how["result"]).read_text())
    return [(step, how["name"], one) for step, one in enumerate(found, start=1)]


def wait(children: Sequence[Child], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until all have ended well, or the first one has failed by itself.

    One that ends because another is lost has less to say than that one, which may need
    longer to end.

    Args:
      children: processes that talk to each other.
      seconds: how long to wait.

    Raises:
      FailedError: one failed, or took too long; has its code and last line.
    """
    deadline = time.monotonic() + seconds
    while True:
        codes = [child.process.poll() for child in children]
        failed = [i for i, code in enumerate(codes) if code not in QUIET]
        if failed or None not in codes:
            break
        if time.monotonic() > deadline:
            name = f"process {codes.index(None)} of {len(children)}"
            raise ChildFailedError(
                ExitCode.BUG, f"{name} took more than {seconds:g} s."
            )
        time.sleep(POLL_SECONDS)
    for i in failed or [i for i, code in enumerate(codes) if code]:
        lines = children[i].told.read_text(errors="replace").strip().splitlines()
        raise ChildFailedError(
            max(codes[i] or 0, ExitCode.BUG),
            f"process {i} of {len(children)} ended with {codes[i]}: "
            f"{lines[-1] if lines else 'it said nothing'}",
        )


def _show(found: Iterable[Found], say: Callable[[str], object]) -> list[Found]:
    """Print a line for each mesh, and return all."""
    kept = list(found)
    for name, seen in _worst(kept).items():
        say(_line(name, {group: f"{value:.1e}" for group, value in seen.items()}))
    return kept


def _worst(found: Iterable[Found]) -> dict[str, dict[str, float]]:
    """Return the largest difference of each group, by mesh."""
    worst: dict[str, dict[str, float]] = {}
    for _, name, different in found:
        seen = worst.setdefault(name, {})
        for group, value in different.items():
            seen[group] = max(seen.get(group, 0.0), value)
    return worst


def _line(name: str, cells: dict[str, str]) -> str:
    words = [cells.get(group, "-") for group in device_equivalence.TOLERANCES]
    return f"{name:<17}" + "".join(f"{word:>12}" for word in words)
