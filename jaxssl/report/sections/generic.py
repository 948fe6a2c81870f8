"""Any evaluation as a table and grids of its images; the head of such a page."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.numbers import metric, number, split
from jaxssl.report.section import Section, Summary, command
from jaxssl.run.read import Evaluation, Run

_TILES = 4
_BETTER = {True: "higher", False: "lower", None: ""}


def make(run: Run, name: str, others: Mapping[str, Run]) -> Section:
    """Show all that an evaluation found.

    Args:
      run: a run with that evaluation.
      name: of the evaluation.
      others: runs whose numbers stand beside those of ``run``, by their names.

    Returns:
      The section: each metric with its spread, what guessing reaches and which
      direction is better, and each array of images.
    """
    owners = {"This run": run.evals, "Random init": run.random_init}
    owners |= {other: others[other].evals for other in others}
    columns = {owner: evals[name] for owner, evals in owners.items() if name in evals}
    keys = dict.fromkeys(key for e in columns.values() for key in e.metrics)
    context = {
        "heading": name.replace("_", " "),
        "step": run.evals[name].step,
        "owners": list(columns),
        "rows": {k: [e.metrics.get(k) for e in columns.values()] for k in keys},
        "better": _BETTER,
        "grids": _grids({o: columns[o] for o in columns if o not in others}),
    }
    anchor = f"evaluation-{re.sub(r'[^a-zA-Z0-9]+', '-', name)}"
    return Section(
        anchor, context["heading"], context, (name,), template="generic.html"
    )


def summarize(run: Run) -> Summary:
    """Name the first numbers of a run whose sections make no claim of their own."""
    metrics = [
        (name, key, value)
        for name, evaluation in run.evals.items()
        for key, value in evaluation.metrics.items()
    ][:_TILES]
    claim = ", ".join(
        f"{_label(name, key)} {metric(value)}" for name, key, value in metrics
    )
    steps = [e.step for e in run.evals.values() if e.step is not None]
    when = f"After {max(steps):,} steps: " if steps else ""
    unmeasured = "What this run learned has not been measured yet."
    asks = not run.evals and isinstance(run.setting("eval"), Mapping)
    return Summary(
        title="What the run reached",
        claim=f"{when}{claim}." if claim else unmeasured,
        tiles=[
            (*split(value.value, value.unit), _explain(run, name, key))
            for name, key, value in metrics
        ],
        lacks="The evaluation of the trained state",
        command=command(run, "evaluate") if asks else "",
    )


def _label(name: str, key: str) -> str:
    """Name a metric; ``fid`` of the evaluation ``fid`` is one word."""
    return (key if name == key else f"{name} {key}").replace("_", " ")


def _explain(run: Run, name: str, key: str) -> str:
    value = run.evals[name].metrics[key]
    better = _BETTER[value.higher_is_better]
    parts = [_label(name, key), f"{better} is better" if better else ""]
    if value.chance is not None:
        parts.append(f"chance {number(value.chance, value.unit)}")
    if name in run.random_init and key in run.random_init[name].metrics:
        parts.append(f"untrained {metric(run.random_init[name].metrics[key])}")
    return ", ".join(filter(None, parts))


def _grids(columns: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """Lay out each array of images, of the trained and the untrained network."""
    grids = []
    for key in dict.fromkeys(key for e in columns.values() for key in e.arrays):
        arrays = {owner: e.arrays.get(key) for owner, e in columns.items()}
        images = {o: x for o, x in arrays.items() if x is not None and _are_images(x)}
        if images:
            grids.append(
                {
                    "name": key.replace("_", " "),
                    "sides": {
                        owner: figures.png(figures.image_grid(x), longest=1024)
                        for owner, x in images.items()
                    },
                    "small": figures.is_small(next(iter(images.values()))),
                }
            )
    return grids


def _are_images(array: np.ndarray) -> bool:
    """Whether an array is uint8 (n, h, w, c) or (n, m, h, w, c) of grey or colour."""
    shaped = array.ndim in (4, 5) and array.shape[-1] in (1, 3)
    return shaped and array.dtype == np.uint8 and array.size > 0
