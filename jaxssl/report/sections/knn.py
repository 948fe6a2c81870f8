"""Classification by the k nearest neighbours in feature space."""

import re
from collections.abc import Mapping

from jaxssl.report import figures
from jaxssl.report.section import Inputs, Section, command, shares

TITLE = "Neighbours"
EVALUATIONS = ("knn",)

_KINDS = {"": "held-out", "loo_": "leave-one-out"}


def make(inputs: Inputs) -> Section | None:
    """Show nearest-neighbour accuracy over k, held-out and leave-one-out."""
    run = inputs.run
    ours = shares(run, "knn")
    base = shares(run, "knn", random_init=True)
    if not _by_k(ours):
        return None
    rows = [
        (f"{owner}, {_KINDS[kind]}", values)
        for owner, numbers in (("this run", ours), ("random init", base))
        for kind, values in _by_k(numbers).items()
    ]
    lines = [
        figures.Line(name, list(values), [100.0 * value for value in values.values()])
        for name, values in rows
    ]
    context = {
        "svg": figures.neighbours(lines),
        "ks": sorted({k for _, values in rows for k in values}),
        "rows": rows,
        "random_missing": "" if _by_k(base) else command(run, "evaluate", "knn"),
    }
    return Section("knn", TITLE, context, EVALUATIONS)


def _by_k(numbers: Mapping[str, float]) -> dict[str, dict[int, float]]:
    """Return accuracies by kind and k of ``k5``, ``loo_k5`` and the like."""
    by_kind: dict[str, dict[int, float]] = {}
    for kind in _KINDS:
        for name, value in numbers.items():
            if match := re.fullmatch(rf"{kind}k(\d+)", name):
                by_kind.setdefault(kind, {})[int(match[1])] = value
    return {kind: dict(sorted(values.items())) for kind, values in by_kind.items()}
