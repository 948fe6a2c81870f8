"""Queries with their nearest neighbours, of the trained and the untrained network."""

from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.section import Inputs, Section, command
from jaxssl.run.read import Evaluation

TITLE = "Examples of neighbours"
EVALUATIONS = ("retrieval",)

_QUERIES, _NEIGHBOURS = 8, 6
_ARRAYS = ("query_images", "neighbor_images", "query_labels", "neighbor_labels")


def make(inputs: Inputs) -> Section | None:
    """Show queries with their nearest neighbours, trained beside untrained."""
    run = inputs.run
    owners = {"This run": run.evals, "Random init": run.random_init}
    sides = [
        {"name": name, **_strips(evals["retrieval"])}
        for name, evals in owners.items()
        if "retrieval" in evals
        and all(array in evals["retrieval"].arrays for array in _ARRAYS)
    ]
    if not sides or sides[0]["name"] != "This run":
        return None
    context = {
        "sides": sides,
        "random_missing": "" if sides[1:] else command(run, "evaluate", "retrieval"),
        "small": figures.is_small(run.evals["retrieval"].arrays["query_images"]),
    }
    return Section("retrieval", TITLE, context, EVALUATIONS)


def _strips(evaluation: Evaluation) -> dict[str, Any]:
    arrays = evaluation.arrays
    names = arrays.get("class_names")
    right, total, rows = 0, 0, []
    labels, neighbors = arrays["query_labels"], arrays["neighbor_labels"]
    for i in range(min(_QUERIES, len(labels))):
        strip = []
        for j in range(min(_NEIGHBOURS, neighbors.shape[1])):
            same = int(neighbors[i, j]) == int(labels[i])
            image = figures.png(arrays["neighbor_images"][i, j])
            strip.append((image, _name(names, neighbors[i, j]), same))
            right, total = right + same, total + 1
        query = figures.png(arrays["query_images"][i])
        rows.append({"query": query, "label": _name(names, labels[i]), "strip": strip})
    precision = evaluation.metrics.get("precision")
    return {
        "rows": rows,
        "right": right,
        "total": total,
        "precision": precision.value if precision else None,
    }


def _name(names: np.ndarray | None, label: Any) -> str:
    index = int(label)
    if names is None or not 0 <= index < len(names):
        return f"class {index}"
    return str(names[index])
