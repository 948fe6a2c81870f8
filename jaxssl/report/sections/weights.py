"""How bilevel learning weighted its mini-batches: over steps, and by wrong labels."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxssl.report import figures
from jaxssl.report.section import Inputs, Section
from jaxssl.report.sections.curves import panel
from jaxssl.run.read import Run, Series
from jaxssl.types import SHARE

TITLE = "Weights"
EVALUATIONS = ()

_BIN = re.compile(r"weights/bin\d\d")
_COLUMNS = 80

_PANELS = {
    "negative": ("Negative weights", "Their gradients are ascended.", SHARE),
    "cosine": (
        "Agreement with the validation gradient",
        "Cosine, the mean over mini-batches; 0 where they have nothing in common.",
        "",
    ),
    "skipped": ("Steps without weights", "All gradients were orthogonal.", SHARE),
}
"""Title, text and unit of the chart of each metric ``bilevel/<name>``."""

LEAST = 2e-3
"""Share of the weights below which a cell stays empty."""


def make(inputs: Inputs) -> Section | None:
    """Show the weights of a run; None where its learner logs none."""
    run = inputs.run
    steps, fractions = _histograms(run.series)
    if not len(steps):
        return None
    mean = _plain_mean(run)
    context = {
        "svg": heat_map(steps, fractions, level=mean),
        "most": float(_merge(steps, fractions)[1].max()),
        "least": LEAST,
        "mean": mean,
        "panels": _panels(run.series, mean),
        "by_layer": run.setting("learner.weights") == "layer",
    }
    return Section("weights", TITLE, context, groups=("bilevel", "weights"))


def heat_map(steps: np.ndarray, shares: np.ndarray, *, level: float | None) -> Markup:
    """Draw the histogram of weights over steps, and the last one beside it.

    Weights above zero have one colour, those below another; the more weights a cell
    holds, the fuller it is.

    Args:
      steps: (n,), rising; where each interval of the log ends.
      shares: (bins, n) of the weights in [0, 1], in bins evenly over [-1, 1].
      level: the weight that a plain mean gives, drawn as a dotted line; None for none.

    Returns:
      An ``<svg>`` element.
    """
    heights = np.linspace(-1.0, 1.0, len(shares) + 1)
    edges, columns = _merge(steps, shares)
    figure = Figure(figsize=figures.MIDDLE, layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(4.5, 1.0))
    heat, bars = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    for part, title in ((heat, "weight"), (bars, "last, %")):
        figures.plain(part)
        part.grid(visible=False)
        part.set_ylim(*_visible(heights, columns))
        part.set_title(title, loc="left", fontsize=9, color=figures.MUTED, pad=8)
        part.axhline(0.0, color=figures.MUTED, lw=1.0, zorder=4)
        if level is not None:
            part.axhline(level, color=figures.INK, lw=1.0, ls=(0, (1, 2)), zorder=5)
    _cells(heat, edges, heights, columns)
    heat.set_xlim(0.0, edges[-1])
    figures.label_steps(heat)
    bars.barh(
        heights[:-1], 100.0 * shares[:, -1], height=np.diff(heights), align="edge",
        color=[_hue(low) for low in heights[:-1]], alpha=0.75,
    )  # fmt: skip
    bars.tick_params(labelleft=False)
    bars.xaxis.set_major_locator(MaxNLocator(2))
    return figures.svg(figure, name="weights", title="Histogram of weights over steps")


def _histograms(metrics: Mapping[str, Series]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps at which all bins were logged, and the shares (bins, steps)."""
    bins = [metrics[name] for name in sorted(filter(_BIN.fullmatch, metrics))]
    if not bins:
        return np.zeros(0), np.zeros((0, 0))
    steps = functools.reduce(np.intersect1d, [one.steps for one in bins])
    return steps, np.stack([one.values[np.isin(one.steps, steps)] for one in bins])


def _merge(steps: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbouring intervals; return the columns' edges and their shares."""
    groups = np.array_split(np.arange(len(steps)), min(len(steps), _COLUMNS))
    edges = np.array([0, *(steps[group[-1]] for group in groups)])
    means = [np.mean(shares[:, group], axis=1) for group in groups]
    return edges, np.stack(means, axis=1)


def _visible(heights: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Cut off the bins that hold nothing, but never zero."""
    held = np.flatnonzero((columns >= LEAST).any(axis=1))
    if not len(held):
        return -1.0, 1.0
    low, high = heights[held[0]], heights[held[-1] + 1]
    margin = heights[1] - heights[0]
    return min(low, -margin), max(high, margin)


def _cells(
    axes: Axes, edges: np.ndarray, heights: np.ndarray, columns: np.ndarray
) -> None:
    most = max(float(columns.max()), 1e-12)
    corners, colours = [], []
    for i, j in zip(*np.nonzero(columns >= LEAST), strict=True):
        left, right, low, high = edges[j], edges[j + 1], heights[i], heights[i + 1]
        corners.append([(left, low), (right, low), (right, high), (left, high)])
        # The square root keeps the few negative weights visible.
        fullness = round(float(columns[i, j] / most) ** 0.5, 2)
        colours.append(to_rgba(_hue(float(low)), fullness))
    cells = PolyCollection(corners, facecolors=colours, linewidths=0, antialiased=False)
    cells.set_gid("cells")
    axes.add_collection(cells, autolim=False)


def _hue(low: float) -> str:
    """Return the colour of the bin that begins at ``low``; 0 is where it turns."""
    return figures.COLOURS[0] if low > -1e-9 else figures.COLOURS[1]


def _plain_mean(run: Run) -> float | None:
    """Return what equal weights would be; None where no norm bounds them."""
    norm, k = run.setting("learner.normalize"), run.setting("learner.k")
    return 1.0 / (k - 1) if norm == "l1" and isinstance(k, int) else None


def _panels(metrics: Mapping[str, Series], mean: float | None) -> list[dict[str, Any]]:
    panels = []
    for key, (title, text, unit) in _PANELS.items():
        series = metrics.get(f"bilevel/{key}")
        if series and (key != "skipped" or np.nanmax(series.values) > 0.0):
            one = {key: series._replace(unit=unit)}
            panels.append(panel(title, text, one, name=f"weights-{key}", alone=True))
    by_label = _by_label(metrics, mean)
    if by_label:
        text = "The mean over images; negative weights pull it below the plain mean."
        panels.append(panel("Weights by label", text, by_label, name="weights-label"))
    return panels


def _by_label(metrics: Mapping[str, Series], mean: float | None) -> dict[str, Series]:
    """Return the curves of right and wrong labels; none where no label is wrong."""
    right, wrong = _mean_weight(metrics, "clean"), _mean_weight(metrics, "corrupted")
    if right is None or wrong is None or not np.nansum(abs(wrong.values)):
        return {}
    curves = {"right label": right, "wrong label": wrong}
    if mean is not None:
        curves["plain mean"] = Series(right.steps, np.full(len(right.steps), mean))
    return curves


def _mean_weight(metrics: Mapping[str, Series], name: str) -> Series | None:
    """Return the mean over the steps that had such labels; the others count as 0."""
    sums, counts = metrics.get(f"bilevel/{name}"), metrics.get(f"weights/has_{name}")
    if sums is None or counts is None:
        return None
    some = counts.values > 0
    means = np.where(some, sums.values / np.where(some, counts.values, 1), np.nan)
    return Series(sums.steps, means)
