"""The training log as charts, one a group and unit (``loss/...``, ``acc/...``)."""

from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from jaxssl.report import figures
from jaxssl.report.numbers import number
from jaxssl.report.section import Section
from jaxssl.run.read import Run, Series
from jaxssl.text import natural_order
from jaxssl.types import SHARE

_PER_PANEL = 8
_TITLES = {
    "loss": ("Losses", "Lower is better; the players of a joint game need not fall."),
    "acc": (
        "Accuracy on training batches",
        "How often the network names the class that the batch gives.",
    ),
    "probe": (
        "Quick probe during training",
        "Held-out accuracy of a classifier that has a few labels of each class only.",
    ),
    "images_per_second": ("Throughput", "Images a second, views not counted twice."),
    "input_wait_share": (
        "Share of time spent waiting for input",
        "Near zero: the loader keeps up with the step.",
    ),
}
_ORDER = {"loss": 0, "acc": 1, "images_per_second": 98, "input_wait_share": 99}
_TOPS = {"images_per_second": 0.0, "input_wait_share": 5.0}
"""Least upper end of the vertical axis of panels that begin at zero."""


def make(run: Run, leave_out: Container[str]) -> Section:
    """Draw the logged metrics.

    Args:
      run: whose metrics.
      leave_out: groups that another section shows.

    Returns:
      The section, or what trains the run where nothing was logged.
    """
    panels = []
    for (group, _), series in _groups(run.series).items():
        names = [] if group in leave_out else sorted(series, key=natural_order)
        for start in range(0, len(names), _PER_PANEL):
            part = {name: series[name] for name in names[start : start + _PER_PANEL]}
            panels.append(_panel(group, part, len(panels)))
    thinned = any(len(series.steps) > 300 for series in run.series.values())
    return Section("curves", "Training", {"panels": panels, "thinned": thinned})


def panel(
    title: str,
    text: str,
    series: Mapping[str, Series],
    *,
    name: str,
    label: str = "",
    top: float | None = None,
    alone: bool = False,
) -> dict[str, Any]:
    """Draw one panel.

    Args:
      title: above it.
      text: below it, before the last values.
      series: its lines by name, all in one unit.
      name: unique name of the drawing in the page.
      label: what the vertical axis counts, where the unit does not say so.
      top: see `figures.training`.
      alone: whether the title says already what the only line is.

    Returns:
      What the template shows.
    """
    last = [
        ("" if alone else f"{key} ") + number(float(s.values[-1]), s.unit)
        for key, s in series.items()
    ]
    unit = next(iter(series.values())).unit
    label = label or ("%" if unit == SHARE else unit)
    drawing = figures.training(series, label=label, name=name, top=top)
    return {"title": title, "text": text, "last": ", ".join(last), "svg": drawing}


def _panel(group: str, series: Mapping[str, Series], index: int) -> dict[str, Any]:
    title, text = _TITLES.get(group, (group.replace("_", " ").capitalize(), ""))
    values = np.concatenate([s.values for s in series.values()])
    if group == "loss" and len(series) == 1:
        title, text = "Loss", "Lower is better."
    if group == "input_wait_share":
        text += f" Mean {number(float(values.mean()), SHARE)}."
    if group == "images_per_second":
        text += f" Median {np.median(values):,.0f}."
    return panel(
        title,
        text,
        series,
        name=f"curve{index}",
        label="loss" if group == "loss" else "",
        top=_TOPS.get(group),
        alone=set(series) == {group},
    )


def _groups(metrics: Mapping[str, Series]) -> dict[tuple[str, str], dict[str, Series]]:
    """Group by the word before the slash and the unit; ``speed/`` is no group.

    ``x_sd``, the spread of ``x``, is no result of its own and left out.
    """
    groups: dict[tuple[str, str], dict[str, Series]] = {}
    for name, series in metrics.items():
        group, _, rest = name.rpartition("/")
        # The duration is among the facts; bad records are drawn where there are any.
        if rest == "elapsed_seconds" or (group == "data" and not any(series.values)):
            continue
        if name.endswith("_sd") and name[:-3] in metrics:
            continue
        if not group or group == "speed":
            group, rest = rest, rest
        groups.setdefault((group, series.unit), {})[rest] = series
    return dict(sorted(groups.items(), key=lambda item: _ORDER.get(item[0][0], 50)))
