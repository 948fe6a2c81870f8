"""The filters of the first layer before and after training."""

from jaxssl.report import figures
from jaxssl.report.section import Inputs, Section

TITLE = "Filters"
EVALUATIONS = ("filters",)


def make(inputs: Inputs) -> Section | None:
    """Show the first layer's filters before and after training."""
    run = inputs.run
    times = {"Before training": run.random_init, "After training": run.evals}
    kernels = {
        time: kernel
        for time, evals in times.items()
        if "filters" in evals
        for kernel in list(evals["filters"].arrays.values())[:1]
    }
    if "After training" not in kernels:
        return None
    height, width, _, count = kernels["After training"].shape
    context = {
        "layer": next(iter(run.evals["filters"].arrays)),
        "filters": f"{count} of {height}\N{MULTIPLICATION SIGN}{width} pixels",
        "images": {
            time: figures.png(figures.filter_grid(kernel), longest=1024)
            for time, kernel in kernels.items()
        },
    }
    return Section("filters", TITLE, context, EVALUATIONS)
