"""The papers of a run: ``config.json``, ``run.json``, and the lock of its folder."""

import contextlib
import datetime
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jaxssl
from jaxssl import atomic_write, errors, text, trees
from jaxssl.distributed import coordination
from jaxssl.errors import UserError
from jaxssl.run import compatibility, config_file, process_log
from jaxssl.run.config_file import Recipe

CONFIG = "config.json"
RUN = "run.json"
LOCK = ".lock"
SHARED_SECONDS = 30
"""A network disk shows a new file to other hosts after some seconds."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
"""Those that decide what a step computes and how it is kept."""

COMPARED = {
    "versions": compatibility.SOFTWARE,
    "git": compatibility.SOFTWARE,
    "devices": compatibility.ROUNDING,
}
"""Parts of ``run.json`` that are told if they change, and what that means."""


def check(
    workdir: Path,
    wanted: Recipe,
    *,
    has_checkpoint: bool,
    fingerprint: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """Raise if ``workdir`` is not free for this run; nothing is written.

    A run that has no checkpoint yet has nothing to lose, so there all may change.

    Args:
      workdir: the run's folder; may not exist yet.
      wanted: what is about to be trained.
      has_checkpoint: whether the run has one; a damaged one counts.
      fingerprint: of the training set; empty where it is not known yet.
      defaults: see `compatibility.compare`; None where they are not known yet.

    Returns:
      One line for each setting that differs from the last start and may.

    Raises:
      UserError: it is a file, or holds something else.
      DriftError: it holds another run's config, or a run on other data.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is a file; give a folder.")
    if not (workdir / CONFIG).exists():
        _check_empty(workdir)
        return []
    changes = compatibility.compare(read(workdir), wanted, defaults)
    known = _read_launch(workdir).get("data_fingerprint")
    other_data = []
    if fingerprint and known and fingerprint != known:
        other_data = [f"the training set's fingerprint was {known}, now {fingerprint}"]
    if not has_checkpoint:
        return [*changes.refused, *changes.allowed, *other_data]
    if changes.refused:
        raise errors.DriftError(
            f"{workdir} holds a run with another config: "
            f"{text.shorten(changes.refused)}. "
            "Give the old values back, or another --workdir."
        )
    if other_data:
        raise errors.DriftError(
            f"{workdir} holds a run on other data: {other_data[0]}. "
            "Bring the old files back, or give another --workdir."
        )
    return changes.allowed


def check_all(
    workdir: Path,
    wanted: Recipe | None,
    *,
    has_checkpoint: bool,
    fingerprint: str,
    defaults: Mapping[str, Any],
) -> None:
    """Raise on every process if `check` does, or if they are about to train unlike.

    Args:
      workdir: the run's folder; may not exist yet.
      wanted: what this process is about to train; without one nothing is on record.
      has_checkpoint: see `check`.
      fingerprint: of its training set.
      defaults: see `check`.

    Raises:
      UserError: see `check`.
      DriftError: see `check`; or names the process and the setting that differ.
    """
    if coordination.count() > 1:
        coordination.compare(_describe_all(wanted, fingerprint))
    if wanted is not None:
        check_here = functools.partial(
            check,
            has_checkpoint=has_checkpoint,
            fingerprint=fingerprint,
            defaults=defaults,
        )
        coordination.decide("check", lambda: check_here(workdir, wanted))


def _describe_all(wanted: Recipe | None, fingerprint: str) -> dict[str, Any]:
    """Return what has to be the same on all processes, by name."""
    told: dict[str, Any] = {"data": fingerprint, "code": _describe_code()}
    told |= _versions()
    if wanted is not None:
        told["variant"] = wanted.variant
        told["config file"] = _describe_files(_loaded_from(wanted.file))
        told |= trees.flatten(config_file.to_plain(wanted.config))
    return told


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _describe_code() -> str:
    """Return a digest of the package's source."""
    return _describe_files(Path(jaxssl.__file__).parent.rglob("*.py"))


def _loaded_from(config: Path) -> Iterator[Path]:
    """Yield a config file and what it imports from its folder, as others do."""
    yield config
    for module in [*sys.modules.values()]:
        path = getattr(module, "__file__", None)
        if path and Path(path) != config and Path(path).parent == config.parent:
            yield Path(path)


def _describe_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.parent.name}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def check_shared(workdir: Path) -> None:
    """Raise on every process unless all see the same folder, locked by process 0.

    Raises:
      UserError: names the processes that see another one.
    """
    if coordination.count() == 1:
        return
    held = coordination.decide("holder", (workdir / LOCK).read_text)

    def check(seen: list[tuple[str, str]]) -> None:
        apart = [i for i, (_, text) in enumerate(seen) if text != held]
        if apart:
            first = f"process {apart[0]}" + " and others" * (len(apart) > 1)
            raise UserError(
                f"--workdir: {seen[apart[0]][0]} on {first} is another folder than "
                f"{seen[0][0]} on process 0; give one on a disk that all of them share."
            )

    mine = str(workdir.absolute()), _await(workdir / LOCK, held)
    coordination.gather("shared", mine, check)


def _await(path: Path, text: str) -> str:
    """Return what a file holds, once it is ``text`` or some seconds have passed."""
    for _ in range(SHARED_SECONDS):
        found = path.read_text() if path.exists() else ""
        if found == text:
            break
        time.sleep(1.0)
    return found


def _read_launch(workdir: Path) -> dict[str, Any]:
    path = workdir / RUN
    try:
        return json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}; remove it.") from error


def _check_empty(workdir: Path) -> None:
    names = [path.name for path in workdir.iterdir()] if workdir.is_dir() else []
    # A crash may leave the beginning of a config.json under a name of its own, and
    # logs of many processes and stacks of a hang may be there before there is one.
    ours = (LOCK, f".{CONFIG}.", process_log.FOLDER, "hang-")
    if [name for name in names if not name.startswith(ours)]:
        raise UserError(
            f"--workdir: {workdir} is not empty and holds no {CONFIG}, so it is no run "
            "of jaxssl; give a new or empty folder."
        )


def read(workdir: Path) -> Recipe:
    """Read the recipe of a run.

    Raises:
      UserError: the folder holds no run, or its ``config.json`` is damaged.
    """
    path = workdir / CONFIG
    if not path.is_file():
        raise UserError(
            f"--workdir: {workdir} holds no run (no {CONFIG}); "
            f"train one first: jaxssl train --config=FILE --workdir={workdir}"
        )
    try:
        return config_file.loads(path.read_bytes())
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged: {error!r}.") from error


def write(
    workdir: Path,
    wanted: Recipe,
    command: Sequence[str],
    *,
    has_checkpoint: bool,
    fingerprint: str = "",
    defaults: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write ``config.json`` and ``run.json``.

    Args:
      workdir: the run's folder, locked by this process.
      wanted: what is trained.
      command: the words that started it.
      has_checkpoint: see `check`.
      fingerprint: of the training set.
      defaults: see `check`.

    Returns:
      One line for each thing that is not as at the last start: settings, software,
      devices.

    Raises:
      DriftError: see `check`.
    """
    changes = check(
        workdir,
        wanted,
        has_checkpoint=has_checkpoint,
        fingerprint=fingerprint,
        defaults=defaults,
    )
    launch = {**describe_launch(command), "data_fingerprint": fingerprint}
    if last := _read_launch(workdir):
        if has_checkpoint:
            changes += _compare_launches(last, launch)
        launch["earlier"] = [*last.pop("earlier", []), last]
    atomic_write.write(workdir / CONFIG, config_file.dumps(wanted))
    data = (json.dumps(launch, indent=2) + "\n").encode()
    atomic_write.write(workdir / RUN, data)
    return changes


def _compare_launches(last: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say which software or hardware is another one; nothing of it is refused."""
    before, after = (
        trees.flatten({part: launch.get(part) for part in COMPARED})
        for launch in (last, now)
    )
    told = compatibility.differ(before, after)
    return [f"{line} ({COMPARED[name.split('.')[0]]})" for name, line in told.items()]


def describe_launch(command: Sequence[str]) -> dict[str, Any]:
    """Say with which software and hardware this process runs."""
    devices = jax.devices()
    return {
        "command": list(command),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "jaxssl": jaxssl.__version__,
            "python": platform.python_version(),
            **_versions(),
        },
        "git": describe_git(),
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "count": len(devices),
            "processes": jax.process_count(),
            "cpus": os.cpu_count(),
        },
        "host": socket.gethostname(),
        "earlier": [],
    }


def describe_git() -> Mapping[str, Any] | None:
    """Return the commit of the package's source and whether it was edited since.

    Returns:
      None if the package is installed, not run from a checkout.
    """
    folder = Path(jaxssl.__file__).parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Hold the run's folder; the lock ends with the process, however it ends.

    Raises:
      UserError: the folder cannot be made, or another trainer holds it.
      OSError: the disk is full, or cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / LOCK).open("a+")
    except OSError as error:
        if error.errno in errors.DISK_ADVICE:
            raise
        raise UserError(f"--workdir: cannot write to {workdir}: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(
                f"--workdir: {workdir} is being trained by {holder}; wait for it, "
                "stop it, or give another --workdir."
            ) from None
        except OSError as error:
            if error.errno in errors.DISK_ADVICE:
                raise
            raise UserError(
                f"--workdir: the disk of {workdir} has no locks ({error.strerror}); "
                "mount it with them (docs/pods.md), or give a folder on another disk."
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield
