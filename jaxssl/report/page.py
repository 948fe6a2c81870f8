"""Write a workdir's report: one HTML file that needs nothing else, not even a network.

The page is built from files alone; it never touches the model. ``jaxssl report`` calls
``write``.
"""

import itertools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from jaxssl.errors import UserError
from jaxssl.report import inputs, labels, results, story, weights

FILE_NAME = "report.html"

FEATURES = ("run", "curves", "features", "neighbours", "checks")
"""Templates of the page about features, in order."""

LABELS = ("labels", "weights", "curves", "run")
"""Templates of the page about learning from labels."""

FEATURE_SECTIONS = {
    "run": "What was run",
    "curves": "Training",
    "task": "The task",
    "probe": "Linear probes",
    "knn": "Neighbours",
    "filters": "Filters",
    "shortcut": "Shortcut check",
    "thesis": "Beside the thesis",
}
"""Sections of the page about features: their ids, and their names in the contents."""

LABEL_SECTIONS = {
    "labels": "Test, fit and memory",
    "weights": "Weights",
    "curves": "Training",
    "run": "What was run",
}


def write(
    workdir: Path,
    *,
    baselines: Mapping[str, Path] = {},
    stored: Sequence[Path] = (),
) -> Path:
    """Write the report of a finished or partial workdir.

    What has not been run is named with the command that runs it. Equal inputs give an
    equal file.

    Args:
      workdir: folder that ``jaxssl train`` and ``jaxssl evaluate`` wrote.
      baselines: row name to another workdir whose linear probe, or accuracies of
        chapter 8, are shown beside this one's ("supervised", "SGD").
      stored: JSON results measured elsewhere, shown as such
        (``inputs.stored_rows`` tells the form).

    Returns:
      Path of ``report.html`` in ``workdir``.

    Raises:
      UserError: a workdir is missing, has no ``config.json`` or cannot be written to;
        a stored result is missing or malformed.
    """
    run = inputs.read(workdir)
    others = {name: inputs.read(path) for name, path in baselines.items()}
    describe = _labels if labels.applies(run) else _features
    context = describe(run, others, stored)
    target = workdir / FILE_NAME
    _write_atomically(target, _render(run, context))
    return target


def _features(
    run: inputs.Run, others: Mapping[str, inputs.Run], stored: Sequence[Path]
) -> dict[str, Any]:
    """Say what the features of a run are worth (chapter 4)."""
    compared = [*inputs.run_baselines(others), *inputs.stored_baselines(stored)]
    return {
        "parts": [f"{name}.html" for name in FEATURES],
        "contents": FEATURE_SECTIONS,
        "summary": story.summary(run),
        "curves": story.curves(run),
        "has_task": results.has_task(run),
        "gallery": results.gallery(run),
        "confusion": results.confusion(run),
        "probe": results.probe(run, compared),
        "knn": results.knn(run),
        "retrieval": results.retrieval(run),
        "filters": results.filters(run),
        "shortcut": results.shortcut(run),
        "others": results.others(run),
        "thesis": results.beside_thesis(run, others),
    }


def _labels(
    run: inputs.Run, others: Mapping[str, inputs.Run], stored: Sequence[Path]
) -> dict[str, Any]:
    """Say what a run made of its labels (chapter 8)."""
    shown = weights.section(run)
    parts = [name for name in LABELS if shown or name != "weights"]
    told = "The loss and the accuracy are those of the labels as they were given."
    return {
        "parts": [f"{name}.html" for name in parts],
        "contents": {name: LABEL_SECTIONS[name] for name in parts},
        "summary": labels.summary(run),
        "label_curves": labels.curves(run, others),
        "table": labels.table(run, others, stored),
        "weights": shown,
        "curves": story.curves(run, leave_out=labels.GROUPS, told=told),
        "others": results.others(run, labels.EVALS, untrained=False),
    }


def _render(run: inputs.Run, context: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["signed"] = story.signed
    environment.filters["number"] = _number
    problems = [
        f"{folder}{name}: {evaluation.problem}"
        for folder, evals in (("", run.evals), ("random_init/", run.random_init))
        for name, evaluation in evals.items()
        if evaluation.problem
    ]
    shared: dict[str, Any] = {
        "title": run.path.resolve().name,
        "problems": [*run.notes, *problems],
        "figure_number": itertools.count(1).__next__,
        "table_number": itertools.count(1).__next__,
        "facts": story.facts(run),
    }
    return environment.get_template("template.html").render({**shared, **context})


def _percent(value: float | None) -> str:
    """Write a share in [0, 1] as ``61.5``; nothing as a dash."""
    return "\N{EN DASH}" if value is None else f"{100.0 * value:.1f}"


def _number(value: float | None, is_share: bool) -> str:
    """Write a share in %, any other number with four digits."""
    return _percent(value) if is_share or value is None else f"{value:.4g}"


def _write_atomically(target: Path, text: str) -> None:
    """Replace ``target`` at once, so that no reader sees half a page."""
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".report-")
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}.") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        os.replace(name, target)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"cannot write {target}: {error.strerror}.") from None
