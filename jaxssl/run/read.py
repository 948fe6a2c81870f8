"""Read a workdir: the one place that knows how a run's files look.

A workdir holds ``config.json``, ``run.json``, ``metrics.jsonl``, ``metric_units.json``
and ``evals/``. Only ``config.json`` must be there: half a run can be read, too.
"""

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from jaxssl.errors import UserError
from jaxssl.run import evaluation, metrics, workdir
from jaxssl.types import SHARE, Metric

OLD_SHARES = frozenset(
    {
        "accuracy", "attributes", "few_shot", "knn", "linear_classifiers",
        "linear_probe", "predictions", "pretext", "retrieval", "shortcut", "test",
        "train",
    }
)  # fmt: skip
"""Evaluations of version 0.1. Their files have no units: each number is a share."""

OLD_GROUPS = ("probe/", "test/", "train/")
"""Metrics that version 0.1 logged during training without a unit: they are shares."""

LOGGED = {
    "speed/images_per_second": "images/s",
    "speed/input_wait_share": SHARE,
    "speed/elapsed_seconds": "s",
}
"""Units of what `jaxssl.run.metrics` adds to each record."""


class Series(NamedTuple):
    """One metric over training.

    Attributes:
      steps: (n,), rising.
      values: (n,), in ``unit``.
      unit: as in `Metric`; empty for a number without a unit.
    """

    steps: np.ndarray
    values: np.ndarray
    unit: str = ""


class Evaluation(NamedTuple):
    """One ``evals/<name>.json`` with the arrays of ``evals/<name>.npz``.

    Attributes:
      step: training step of the evaluated state; None if the file does not say.
      seconds: how long the evaluation took; None if the file does not say.
      metrics: numbers by name.
      arrays: images and matrices by name.
      problem: why a part could not be read; empty if all is well.
      changed: settings that differ from the run's config, as ``eval.first=20``.
    """

    step: int | None
    seconds: float | None
    metrics: dict[str, Metric]
    arrays: dict[str, np.ndarray]
    problem: str
    changed: tuple[str, ...] = ()


class Run(NamedTuple):
    """All that one workdir holds.

    Attributes:
      path: the workdir as the user named it.
      config_file: the config file that was trained, "" if unknown.
      variant: the config's variant ("paper", "released"), "" without one.
      config: the resolved config, nested.
      info: ``run.json``; empty if it is missing.
      series: what was logged during training, by name, as ``loss/classifier``.
      evals: evaluations of the trained state by name.
      random_init: evaluations of the untrained network by name.
      notes: what could not be read, one line each.
    """

    path: Path
    config_file: str
    variant: str
    config: Mapping[str, Any]
    info: Mapping[str, Any]
    series: dict[str, Series]
    evals: dict[str, Evaluation]
    random_init: dict[str, Evaluation]
    notes: tuple[str, ...]

    def setting(self, path: str) -> Any:
        """Return what the config has at a dotted path; None if it has nothing there."""
        value: Any = self.config
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def last_step(self) -> int:
        """Return the last step of the log; 0 if there is no log."""
        return max((int(s.steps[-1]) for s in self.series.values()), default=0)


def read(folder: Path) -> Run:
    """Read a finished or partial workdir.

    Args:
      folder: workdir that ``jaxssl train`` wrote, of this version or of 0.1.

    Returns:
      What the folder holds; ``notes`` names what could not be read.

    Raises:
      UserError: there is no such folder, or it holds no readable ``config.json``.
    """
    if not folder.is_dir():
        raise UserError(
            f"workdir {folder} is not a folder; give the --workdir of jaxssl train."
        )
    saved = load_object(
        folder / workdir.CONFIG, f"is {folder} a workdir? `jaxssl train` writes it"
    )
    config = saved.get("config")
    notes: list[str] = []
    evals = folder / evaluation.FOLDER
    untrained = evals / evaluation.RANDOM_INIT
    return Run(
        path=folder,
        config_file=str(saved.get("config_file") or ""),
        variant=str(saved.get("variant") or ""),
        config=config if isinstance(config, dict) else {},
        series=_read_series(folder, notes),
        info=_read_object(folder / workdir.RUN, notes),
        evals=_read_evaluations(evals, "", notes),
        random_init=_read_evaluations(untrained, f"{untrained.name}/", notes),
        notes=tuple(notes),
    )


def load_object(path: Path, advice: str) -> dict[str, Any]:
    """Return the JSON object of a file that must be there.

    Args:
      path: the file.
      advice: what to do if the file is missing or broken.

    Raises:
      UserError: the file is missing or holds no JSON object.
    """
    value = _load(path)
    if value is None:
        reason = "is not a readable JSON object" if path.exists() else "is missing"
        raise UserError(f"{path} {reason}; {advice}.")
    return value


def _load(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file; None if the file is missing or broken."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_object(path: Path, notes: list[str]) -> Mapping[str, Any]:
    """Return a JSON object that may be missing."""
    value = _load(path)
    if value is None and path.exists():
        notes.append(f"{path.name} is unreadable")
    return value or {}


def _read_series(folder: Path, notes: list[str]) -> dict[str, Series]:
    """Read the log; a step that was logged twice (after a resume) counts once."""
    records, path = metrics.read(folder), folder / metrics.JSONL
    num_lines = len(path.read_bytes().splitlines()) if path.exists() else 0
    if num_lines > len(records):
        bad_lines = num_lines - len(records)
        notes.append(f"{path.name}: {bad_lines} unreadable line(s) left out")
    values: dict[str, dict[int, float]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and is_number(value):
                values.setdefault(name, {})[int(record["step"] or 0)] = float(value)
    units = _read_units(folder / metrics.UNITS, values, notes)
    return {
        name: Series(
            np.array(sorted(points)),
            np.array([points[step] for step in sorted(points)], np.float64),
            units.get(name, ""),
        )
        for name, points in values.items()
    }


def _read_units(path: Path, names: Iterable[str], notes: list[str]) -> dict[str, str]:
    """Return units by name: as stored, or as the contract of `jaxssl.types` has it."""
    shares = "acc/" if path.exists() else ("acc/", *OLD_GROUPS)
    units = {name: SHARE for name in names if name.startswith(shares)}
    stored = _read_object(path, notes)
    return units | LOGGED | {name: str(unit) for name, unit in stored.items()}


def _read_evaluations(
    folder: Path, prefix: str, notes: list[str]
) -> dict[str, Evaluation]:
    paths = [*folder.glob("*.json"), *folder.glob("*.npz")]
    names = sorted({path.stem for path in paths})
    evaluations = {name: _read_evaluation(folder, name) for name in names}
    for name, stored in evaluations.items():
        if stored.problem:
            notes.append(f"{prefix}{name}: {stored.problem}")
    return evaluations


def _read_evaluation(folder: Path, name: str) -> Evaluation:
    problems: list[str] = []
    path = folder / f"{name}.json"
    if not path.exists():
        problems.append(f"{path.name} is missing")
    body = _read_object(path, problems)
    arrays = _read_arrays(folder / f"{name}.npz", problems)
    step, seconds = body.get("step"), body.get("seconds")
    changed = body.get("changed")
    return Evaluation(
        step=int(step) if is_number(step) else None,
        seconds=float(seconds) if is_number(seconds) else None,
        metrics=_read_metrics(name, body, problems),
        arrays=arrays,
        problem="; ".join(problems),
        changed=tuple(
            str(word).removeprefix("--config.")
            for word in (changed if isinstance(changed, list) else ())
        ),
    )


def _read_metrics(
    name: str, body: Mapping[str, Any], problems: list[str]
) -> dict[str, Metric]:
    if "metrics" not in body:
        return _read_old_metrics(name, body.get("scalars"))
    numbers, stored = {}, body["metrics"]
    for key, fields in stored.items() if isinstance(stored, dict) else ():
        if isinstance(fields, dict) and is_number(fields.get("value")):
            known = {name: fields[name] for name in Metric._fields if name in fields}
            numbers[key] = Metric(**known)
        else:
            problems.append(f"{key} has no number")
    return numbers


def _read_old_metrics(name: str, scalars: Any) -> dict[str, Metric]:
    """Read numbers as version 0.1 wrote them: ``x_sd`` is the spread of ``x``."""
    numbers = scalars if isinstance(scalars, dict) else {}
    numbers = {key: float(v) for key, v in numbers.items() if is_number(v)}
    unit = SHARE if name in OLD_SHARES else ""
    return {
        key: Metric(value, unit, spread=numbers.get(f"{key}_sd"))
        for key, value in numbers.items()
        if not (key.endswith("_sd") and key[:-3] in numbers)
    }


def _read_arrays(path: Path, problems: list[str]) -> dict[str, np.ndarray]:
    if not path.exists():
        problems.append(f"{path.name} is missing")
        return {}
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            data = np.load(file, allow_pickle=False)
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        problems.append(f"{path.name} is unreadable")
        return {}
