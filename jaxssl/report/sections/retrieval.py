"""Queries with their nearest neighbours, of the trained and the untrained network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.section import Inputs, Section
from jaxssl.run.read import Evaluation

TITLE = "Examples of neighbours"
EVALUATIONS = ("retrieval",)

_QUERIES, _NEIGHBOURS = 8, 6
_ARRAYS = ("query_images", "neighbor_images", "query_labels", "neighbor_labels")


def make(inputs: Inputs) -> Section | None:
    """Show queries with their nearest neighbours, trained beside untrained."""
    run = inputs.run
    owners = {"This run": run.evals, "Random init": run.random_init}
    sides = {
        owner: _strips(evals["retrieval"])
        for owner, evals in owners.items()
        if "retrieval" in evals and set(_ARRAYS) <= set(evals["retrieval"].arrays)
    }
    if "This run" not in sides:
        return None
    small = figures.is_small(run.evals["retrieval"].arrays["query_images"])
    name = run.evals["retrieval"].arrays.get("database")
    database = "the training set (version 0.1)" if name is None else str(name)
    context = {"sides": sides, "small": small, "database": database}
    return Section("retrieval", TITLE, context, EVALUATIONS)


def _strips(evaluation: Evaluation) -> dict[str, Any]:
    """Return a row for each query: its image, its label and its neighbours."""
    images, neighbors, labels, neighbor_labels = (
        evaluation.arrays[name][:_QUERIES] for name in _ARRAYS
    )
    neighbor_labels = neighbor_labels[:, :_NEIGHBOURS]
    same = neighbor_labels == labels[:, None]
    names = evaluation.arrays.get("class_names", ())
    rows = [
        {
            "query": figures.png(image),
            "label": _class_name(names, labels[i]),
            "strip": [
                (figures.png(neighbors[i, j]), _class_name(names, label), same[i, j])
                for j, label in enumerate(neighbor_labels[i])
            ],
        }
        for i, image in enumerate(images)
    ]
    precision = evaluation.metrics.get("precision")
    return {"rows": rows, "same": same, "precision": precision}


def _class_name(names: Sequence[str] | np.ndarray, label: np.integer) -> str:
    index = int(label)
    return str(names[index]) if 0 <= index < len(names) else f"class {index}"
