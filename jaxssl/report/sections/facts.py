"""What was run, on what, and the command that repeats it."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxssl import trees
from jaxssl.report.section import Inputs, Section, command
from jaxssl.run.read import Run
from jaxssl.text import format_seconds

_ELSEWHERE = ("command", "config", "config_file", "host", "earlier", "git")
"""Keys of ``run.json`` that have a row of their own, or no place on a public page."""


def make(inputs: Inputs) -> Section:
    """Gather the facts of a run."""
    run = inputs.run
    given = run.info.get("command") or command(run, "train")
    variant = f", variant {run.variant}" if run.variant else ""
    rows = [("Config", (run.config_file or "unknown") + variant)]
    rows += _settings(run) + _durations(run) + _circumstances(run.info)
    rows += [
        (key.replace("_", " ").capitalize(), _plain(value))
        for key, value in run.info.items()
        if key not in _ELSEWHERE and value is not None
    ]
    devices = run.info.get("devices")
    context = {
        "again": shlex.join(map(str, given)) if isinstance(given, list) else given,
        "processes": devices.get("processes", 1) if isinstance(devices, dict) else 1,
        "rows": rows,
        "run": run,
        "config": {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in trees.flatten(run.config).items()
        },
    }
    return Section("facts", "What was run", context)


def _circumstances(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    git = info.get("git")
    if isinstance(git, dict):
        edited = " with uncommitted changes" if git.get("dirty") else ""
        rows.append(("Source", f"git {str(git.get('commit'))[:12]}{edited}"))
    if info.get("earlier"):
        rows.append(("Restarts", str(len(info["earlier"]))))
    return rows


def _settings(run: Run) -> list[tuple[str, str]]:
    """Pick the settings that a reader asks for first."""
    wanted = {"data.name": "Data set", "seed": "Seed", "train.batch_size": "Batch size"}
    settings = {name: run.setting(key) for key, name in wanted.items()}
    rows = [(k, _plain(value)) for k, value in settings.items() if value is not None]
    if run.series:
        last, total = run.last_step(), run.setting("train.num_steps")
        steps = f"{last:,}"
        if isinstance(total, int):
            steps += f" of {total:,}{', unfinished' if last < total else ''}"
        rows.append(("Steps", steps))
    return rows


def _durations(run: Run) -> list[tuple[str, str]]:
    rows = []
    speed = run.series.get("speed/images_per_second")
    batch = run.setting("train.batch_size")
    if speed and isinstance(batch, int) and (speed.values > 0).all():
        intervals = np.diff(speed.steps, prepend=0)
        seconds = float((intervals * batch / speed.values).sum())
        rows.append(("Time in training steps", format_seconds(seconds)))
    spent = [e.seconds for e in run.evals.values() if e.seconds is not None]
    if spent:
        rows.append(("Time in evaluations", format_seconds(sum(spent))))
    return rows


def _plain(value: Any) -> str:
    """Write a JSON value for a reader: ``jax 0.10.2, numpy 2.4``."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return value if isinstance(value, str) else json.dumps(value)
