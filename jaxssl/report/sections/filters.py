"""The filters of the first layer before and after training."""

from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.section import Inputs, Section, command

TITLE = "Filters"
EVALUATIONS = ("filters",)


def make(inputs: Inputs) -> Section | None:
    """Show the first layer's filters before and after training."""
    run = inputs.run
    kernels = {
        title: next(iter(evals["filters"].arrays.items()))
        for title, evals in (
            ("Before training", run.random_init),
            ("After training", run.evals),
        )
        if "filters" in evals and evals["filters"].arrays
    }
    if "After training" not in kernels:
        return None
    missing = command(run, "evaluate", "filters")
    context = {
        "layer": kernels["After training"][0],
        "sides": [(title, _grid(kernel)) for title, (_, kernel) in kernels.items()],
        "random_missing": "" if "Before training" in kernels else missing,
    }
    return Section("filters", TITLE, context, EVALUATIONS)


def _grid(kernel: np.ndarray) -> dict[str, Any]:
    size = "\N{MULTIPLICATION SIGN}".join(str(side) for side in kernel.shape[:2])
    image = figures.png(figures.filter_grid(kernel), longest=1024)
    return {"image": image, "count": kernel.shape[-1], "size": size}
