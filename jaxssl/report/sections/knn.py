"""Classification by the k nearest neighbours in feature space."""

import re
from collections.abc import Mapping

from jaxssl.report import figures, stored
from jaxssl.report.section import Inputs, Section, command, shares

TITLE = "Neighbours"
EVALUATIONS = ("knn",)


def make(inputs: Inputs) -> Section | None:
    """Show nearest-neighbour accuracy over k, held-out and leave-one-out."""
    run = inputs.run
    ours, base = shares(run, "knn"), shares(run, "knn", random_init=True)
    rows = [
        stored.measured(
            f"{owner}, {kind}",
            _by_k(numbers, prefix),
            source="",
            command=command(run, "evaluate", "knn"),
        )
        for kind, prefix in (("held-out", "k"), ("leave-one-out", "loo_k"))
        for owner, numbers in (("this run", ours), ("random init", base))
        if _by_k(ours, prefix)
    ]
    if not rows:
        return None
    columns = {k: f"k = {k}" for k in sorted({k for r in rows for k in r.accuracies})}
    drawing = figures.compare(
        rows, columns, name="knn", title="Nearest-neighbour accuracy over k"
    )
    context = {"svg": drawing, "columns": columns, "rows": rows}
    return Section("knn", TITLE, context, EVALUATIONS)


def _by_k(numbers: Mapping[str, float], prefix: str) -> dict[int, float]:
    """Return accuracies by k of names such as ``k5`` or ``loo_k5``."""
    matches = {name: re.fullmatch(rf"{prefix}(\d+)", name) for name in numbers}
    return {int(match[1]): numbers[name] for name, match in matches.items() if match}
