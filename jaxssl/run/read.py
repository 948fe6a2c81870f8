"""Read a workdir: the one place that knows how a run's files look.

A workdir holds ``config.json``, ``run.json``, ``metrics.jsonl``, ``metric_units.json``
and ``evals/``. Only ``config.json`` must be there: half a run can be read, too.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxssl import safe_files
from jaxssl.errors import UserError
from jaxssl.run import evaluation, metrics, workdir
from jaxssl.safe_files import UnreadableFile, is_count, is_number
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
    path = folder / workdir.CONFIG
    saved = load_object(path, f"is {folder} a workdir? `jaxssl train` writes it")
    notes: list[str] = []
    config = _keep_finite(saved.get("config"), path.name, notes)
    if not isinstance(config, dict):
        notes.append(f"{path.name} has no settings")
    evals = folder / evaluation.FOLDER
    untrained = evals / evaluation.RANDOM_INIT
    return Run(
        path=folder,
        config_file=str(saved.get("config_file") or ""),
        variant=str(saved.get("variant") or ""),
        config=config if isinstance(config, dict) else {},
        series=_read_series(folder, notes),
        info=_keep_finite(
            _read_object(folder / workdir.RUN, notes), workdir.RUN, notes
        ),
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
    try:
        return safe_files.read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {advice}.") from None
    except UnreadableFile as error:
        raise UserError(
            f"{path} is not a readable JSON object, it {error}; {advice}."
        ) from error


def _read_object(path: Path, notes: list[str]) -> Mapping[str, Any]:
    """Return a JSON object that may be missing."""
    try:
        return safe_files.read_json(path)
    except FileNotFoundError:
        pass
    except UnreadableFile as error:
        notes.append(f"{path.name} is unreadable: it {error}")
    return {}


def _keep_finite(value: Any, name: str, notes: list[str]) -> Any:
    """Return a JSON value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {
            key: _keep_finite(item, f"{name}: {key}", notes)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_keep_finite(item, name, notes) for item in value]
    if isinstance(value, int | float) and not (
        isinstance(value, bool) or is_number(value)
    ):
        notes.append(f"{name} is no finite number")
        return None
    return value


def _read_series(folder: Path, notes: list[str]) -> dict[str, Series]:
    """Read the log; a step that was logged twice (after a resume) counts once."""
    values: dict[str, dict[int, float]] = {}
    try:
        records, num_bad = metrics.read_counted(folder)
    except UnreadableFile as error:
        records, num_bad = [], 0
        notes.append(f"{metrics.JSONL} is unreadable: it {error}")
    if num_bad:
        notes.append(f"{metrics.JSONL}: {num_bad} unreadable line(s) left out")
    for record in records:
        for name, value in record.items():
            if name == "step" or value is None:  # null stands for NaN.
                continue
            if is_number(value):
                values.setdefault(name, {})[record["step"]] = float(value)
            else:
                step = record["step"]
                notes.append(f"{metrics.JSONL}: {name} of step {step} is no number")
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
    paths = [*folder.iterdir()] if folder.is_dir() else []
    names = sorted({path.stem for path in paths if path.suffix in (".json", ".npz")})
    evaluations = {name: _read_evaluation(folder, name) for name in names}
    for name, stored in evaluations.items():
        if stored.problem:
            notes.append(f"{prefix}{name}: {stored.problem}")
    return evaluations


def _read_evaluation(folder: Path, name: str) -> Evaluation:
    problems: list[str] = []
    body: Mapping[str, Any] = {}
    try:
        body = safe_files.read_json(folder / f"{name}.json")
    except FileNotFoundError:
        problems.append(f"{name}.json is missing")
    except UnreadableFile as error:
        problems.append(f"{name}.json is unreadable: it {error}")
    arrays = _read_arrays(folder / f"{name}.npz", problems)
    step, seconds = body.get("step"), body.get("seconds")
    changed = body.get("changed")
    return Evaluation(
        step=step if is_count(step) else None,
        seconds=float(seconds) if is_number(seconds) and seconds >= 0 else None,
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
        if metric := _read_metric(fields):
            numbers[key] = metric
        else:
            problems.append(f"{key} has no number")
    if not isinstance(stored, dict):
        problems.append("its metrics are no JSON object")
    return numbers


def _read_metric(fields: Any) -> Metric | None:
    """Return a metric as `evaluation.to_json` wrote it; None if it has no number."""
    if not isinstance(fields, dict) or not is_number(fields.get("value")):
        return None
    higher = fields.get("higher_is_better")
    chance, spread = (fields.get(name) for name in ("chance", "spread"))
    return Metric(
        fields["value"],
        str(fields.get("unit", "")),
        higher if isinstance(higher, bool) else None,
        chance if is_number(chance) else None,
        spread if is_number(spread) else None,
    )


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
    """Return the arrays of an archive whose elements are numbers or strings."""
    arrays = {}
    try:
        arrays = safe_files.read_npz(path)
    except FileNotFoundError:
        problems.append(f"{path.name} is missing")
    except UnreadableFile as error:
        problems.append(f"{path.name} is unreadable: it {error}")
    kept = {name: x for name, x in arrays.items() if x.dtype.kind in "biufU"}
    if others := arrays.keys() - kept.keys():
        problems.append(f"{path.name}: {', '.join(sorted(others))} left out")
    return kept
