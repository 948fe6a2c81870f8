"""What ``run.json`` says of one start: command, software and hardware."""

import datetime
import importlib.metadata
import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import jaxssl
from jaxssl import trees
from jaxssl.run import compatibility

# Packages that decide what a step computes and how a checkpoint is stored.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")

# Parts of ``run.json`` whose changes are reported, with the meaning of a change.
COMPARED = {
    "versions": compatibility.SOFTWARE,
    "git": compatibility.SOFTWARE,
    "devices": compatibility.ROUNDING,
}


def read_versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a step computes."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def describe(command: Sequence[str]) -> dict[str, Any]:
    """Return the software and the hardware with which this process runs."""
    devices = jax.devices()
    return {
        "command": list(command),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "jaxssl": jaxssl.__version__,
            "python": platform.python_version(),
            **read_versions(),
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
    """Return the commit of the package's source, and whether the source was edited.

    Returns:
      None if the source is not under version control, as in an installed package.
    """
    folder = Path(jaxssl.__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        changed = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None


def compare(last: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each change of software or hardware; all are allowed."""
    before, after = (
        trees.flatten({part: launch.get(part) for part in COMPARED})
        for launch in (last, now)
    )
    lines = compatibility.differ(before, after)
    return [f"{line} ({COMPARED[name.split('.')[0]]})" for name, line in lines.items()]
