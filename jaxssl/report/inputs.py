"""Read what a run left in its workdir; whatever is missing stays missing.

A workdir holds ``config.json``, ``run.json``, ``metrics.jsonl`` and ``evals/``. Only
``config.json`` must be there: a report of half a run is still a report.
"""

import json
import re
import shlex
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from jaxssl.errors import UserError

_TAP = re.compile(r"(conv|stage)\d+")


class Evaluation(NamedTuple):
    """One ``evals/<name>.json`` with the arrays beside it.

    Attributes:
      step: training step of the evaluated state; None if the file does not say.
      seconds: how long the evaluation took; None if the file does not say.
      scalars: numbers by name; accuracies are in [0, 1].
      arrays: pictures and matrices by name; empty if there is no ``.npz``.
      problem: why a file could not be read; empty if all is well.
    """

    step: int | None
    seconds: float | None
    scalars: dict[str, float]
    arrays: dict[str, np.ndarray]
    problem: str


class Series(NamedTuple):
    """One metric over training: ``steps`` rising, ``values`` of equal length."""

    steps: np.ndarray
    values: np.ndarray


class Run(NamedTuple):
    """All that one workdir tells.

    Attributes:
      path: the workdir as the user named it.
      config_file: the config file that was trained, "" if unknown.
      variant: the config's variant ("paper", "released"), "" if it has none.
      config: the resolved config, nested.
      info: ``run.json``; empty if it is missing.
      metrics: series by name, ``loss/classifier``.
      notes: what was found unreadable, one line each.
      evals: evaluations of the trained state by name.
      random_init: the same of the untrained network.
    """

    path: Path
    config_file: str
    variant: str
    config: Mapping[str, Any]
    info: Mapping[str, Any]
    metrics: dict[str, Series]
    notes: tuple[str, ...]
    evals: dict[str, Evaluation]
    random_init: dict[str, Evaluation]


class Baseline(NamedTuple):
    """Accuracies to compare with: another run, or a stored measurement.

    Attributes:
      name: how the row is called.
      source: where the numbers come from, in words.
      accuracies: in [0, 1], by layer or by what was measured.
      spread: standard deviation over seeds, likewise; empty for one seed.
    """

    name: str
    source: str
    accuracies: dict[str, float]
    spread: dict[str, float]


def read(workdir: Path) -> Run:
    """Read a finished or partial workdir.

    Args:
      workdir: folder that ``jaxssl train`` wrote.

    Returns:
      Everything found. Unreadable parts are named in ``notes`` or in ``problem``.

    Raises:
      UserError: there is no such folder, or it holds no readable ``config.json``.
    """
    if not workdir.is_dir():
        raise UserError(
            f"workdir {workdir} is not a folder; give the --workdir of jaxssl train."
        )
    saved = _config(workdir)
    info, notes = _run_record(workdir / "run.json")
    metrics, bad_lines = _metrics(workdir / "metrics.jsonl")
    if bad_lines:
        notes = (*notes, f"metrics.jsonl: {bad_lines} unreadable line(s) left out")
    config = saved.get("config")
    return Run(
        path=workdir,
        config_file=str(saved.get("config_file") or ""),
        variant=str(saved.get("variant") or ""),
        config=config if isinstance(config, dict) else {},
        info=info,
        metrics=metrics,
        notes=notes,
        evals=_evaluations(workdir / "evals"),
        random_init=_evaluations(workdir / "evals" / "random_init"),
    )


def command(run: Run, verb: str, *evals: str) -> str:
    """Return the command line that makes a missing piece of ``run``.

    Args:
      run: the run that lacks it.
      verb: "train" or "evaluate".
      *evals: the evaluations that are missing; none for all.
    """
    words = ["jaxssl", verb]
    if verb == "train":
        variant = f":{run.variant}" if run.variant else ""
        words.append(f"--config={run.config_file or 'CONFIG'}{variant}")
    words.append(f"--workdir={run.path}")
    return shlex.join([*words, f"--evals={','.join(evals)}"] if evals else words)


def layers(scalars: Mapping[str, float]) -> dict[str, float]:
    """Keep the per-layer accuracies (``conv1`` ... or ``stage1`` ...), in order."""
    names = sorted((name for name in scalars if _TAP.fullmatch(name)), key=natural)
    return {name: scalars[name] for name in names}


def natural(name: str) -> tuple[str, int]:
    """Return what sorts ``rot90`` before ``rot180``."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)


def run_baselines(runs: Mapping[str, Run]) -> list[Baseline]:
    """Take the linear probes of other runs.

    Args:
      runs: row name to run.

    Returns:
      One baseline a run; ``accuracies`` is empty where the probe has not been run.
    """
    found = []
    for name, run in runs.items():
        probe = run.evals.get("linear_probe")
        numbers = layers(probe.scalars) if probe else {}
        missing = f"not run: {command(run, 'evaluate', 'linear_probe')}"
        source = f"measured in {run.path}" if numbers else missing
        found.append(Baseline(name, source, numbers, {}))
    return found


def stored_baselines(files: Sequence[Path]) -> list[Baseline]:
    """Read linear probes that were measured elsewhere.

    Args:
      files: JSON files; `stored_rows` tells the form, with the key ``linear_probe``.

    Returns:
      One baseline a row, labelled "stored, measured on ...".

    Raises:
      UserError: a file is missing or is not such a JSON file.
    """
    found = []
    for row in stored_rows(files, "linear_probe"):
        means, spread = measured(row, "linear_probe")
        found.append(Baseline(row["name"], row["source"], layers(means), spread))
    return found


def stored_rows(files: Sequence[Path], key: str) -> list[dict[str, Any]]:
    """Read the rows that hold a measurement of one kind.

    A file is one row or ``{"rows": [row, ...]}``. A row has ``name`` and the
    measurement (name to a number in [0, 1], or to ``[mean, standard deviation]``) and
    says where it comes from: ``measured_on``, or ``hardware`` and ``date``. Keys of the
    file serve rows that lack them.

    Args:
      files: JSON files.
      key: of the measurement; rows without it are left out.

    Returns:
      The rows, their ``source`` being "stored, measured on ...".

    Raises:
      UserError: a file is missing or is not such a JSON file.
    """
    found = []
    for path in files:
        value = _json(path)
        if not isinstance(value, dict):
            wrong = "is not a readable JSON object" if path.exists() else "is missing"
            raise UserError(
                f"stored result {path} {wrong}; give a file of experiments/results."
            )
        rows = value.get("rows", [value])
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and isinstance(row.get(key), dict):
                whole = {**value, **row}
                name = str(whole.get("name") or path.stem)
                found.append({**whole, "name": name, "source": _source(whole, path)})
    return found


def measured(
    row: Mapping[str, Any], key: str
) -> tuple[dict[str, float], dict[str, float]]:
    """Split a stored row's means from their standard deviations.

    Args:
      row: from `stored_rows`.
      key: the same key.

    Returns:
      Both by name. One seed has no spread.
    """
    means, spread = {}, {}
    for name, value in row[key].items():
        pair = value if isinstance(value, list) else [value]
        if pair and all(_is_number(v) for v in pair):
            means[name] = float(pair[0])
            if len(pair) > 1 and _num_seeds(row) != 1:
                spread[name] = float(pair[1])
    return means, spread


def _num_seeds(row: Mapping[str, Any]) -> int:
    """Count the seeds of a stored row; 0 if it does not tell."""
    seeds = row.get("seeds")
    return len(seeds) if isinstance(seeds, list) else 0


def _source(row: Mapping[str, Any], path: Path) -> str:
    where = row.get("measured_on") or ", ".join(
        str(row[key]) for key in ("hardware", "date") if row.get(key)
    )
    source = f"stored, measured on {where}" if where else f"stored in {path.name}"
    seeds = _num_seeds(row)
    return source + (f", {seeds} seed{'s' if seeds > 1 else ''}" if seeds else "")


def _config(workdir: Path) -> Mapping[str, Any]:
    path = workdir / "config.json"
    value = _json(path)
    if isinstance(value, dict):
        return value
    reason = "is not a readable JSON object" if path.exists() else "is missing"
    raise UserError(
        f"{path} {reason}; is {workdir} a workdir? `jaxssl train` writes it."
    )


def _run_record(path: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    value = _json(path)
    if isinstance(value, dict):
        return value, ()
    return {}, ("run.json: unreadable",) if path.exists() else ()


def _metrics(path: Path) -> tuple[dict[str, Series], int]:
    """Read the lines; a step that was logged twice (after a resume) counts once."""
    rows: dict[int, dict[str, float]] = {}
    bad = 0
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    for line in filter(None, lines):
        try:
            row = json.loads(line)
            step = row.pop("step")
        except (ValueError, AttributeError, KeyError, TypeError):
            bad += 1
            continue
        if not _is_number(step):
            bad += 1
            continue
        numbers = {str(k): float(v) for k, v in row.items() if _is_number(v)}
        rows.setdefault(int(step), {}).update(numbers)
    names = dict.fromkeys(name for row in rows.values() for name in row)
    series = {}
    for name in names:
        steps = [step for step in sorted(rows) if name in rows[step]]
        values = [rows[step][name] for step in steps]
        series[name] = Series(np.array(steps), np.array(values, np.float64))
    return series, bad


def _evaluations(folder: Path) -> dict[str, Evaluation]:
    names = {p.stem for p in folder.glob("*.json")} | {
        p.stem for p in folder.glob("*.npz")
    }
    return {name: _evaluation(folder, name) for name in sorted(names)}


def _evaluation(folder: Path, name: str) -> Evaluation:
    problems = []
    path = folder / f"{name}.json"
    value = _json(path)
    if not isinstance(value, dict):
        if path.exists():
            problems.append(f"{path.name} is unreadable")
        value = {}
    arrays, problem = _arrays(folder / f"{name}.npz")
    if problem:
        problems.append(problem)
    scalars = value.get("scalars")
    scalars = scalars if isinstance(scalars, dict) else {}
    step, seconds = value.get("step"), value.get("seconds")
    return Evaluation(
        step=int(step) if _is_number(step) else None,
        seconds=float(seconds) if _is_number(seconds) else None,
        scalars={k: float(v) for k, v in scalars.items() if _is_number(v)},
        arrays=arrays,
        problem="; ".join(problems),
    )


def _arrays(path: Path) -> tuple[dict[str, np.ndarray], str]:
    if not path.exists():
        return {}, ""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file):
            file.seek(0)
            data = np.load(file, allow_pickle=False)
            return {name: data[name] for name in data.files}, ""
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return {}, f"{path.name} is unreadable"


def _json(path: Path) -> Any:
    """Return the parsed file; None if it is missing or broken."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
