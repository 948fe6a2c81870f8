"""Figures: charts as inline SVG that follows the page's colours, images as PNG.

Charts are drawn with matplotlib's Figure objects (no pyplot, no global state) in
placeholder colours, which ``svg`` replaces by the page's CSS variables: one drawing
then serves the light and the dark page. Text stays text, to be read out and copied.
"""

import base64
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from jaxssl.report.numbers import signed
from jaxssl.report.stored import Row
from jaxssl.run.read import Series
from jaxssl.types import SHARE

INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#040404"
COLOURS = tuple(f"#0101{i:02x}" for i in range(16, 22))
"""Placeholders for the page's palette, which is safe for colour-blind eyes."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    RULE: "--rule",
    PAPER: "--paper",
    **{colour: f"--c{i}" for i, colour in enumerate(COLOURS)},
}
_MARKERS = "osD^vP"
_DASHES: tuple = ("-", (0, (5, 1.5)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))
_POINTS = 300
_SMALL = 80

MIDDLE = (5.8, 3.4)
"""Width and height in inches of a chart that stands alone and fits a phone."""


def training(
    series: Mapping[str, Series],
    *,
    label: str,
    name: str,
    top: float | None = None,
    size: tuple[float, float] = (4.7, 2.9),
) -> Markup:
    """Draw metrics over training steps, each labelled at its end.

    Args:
      series: metric name to its points, all in one unit; shares are drawn in %. More
        than 300 points are averaged in bins.
      label: what the vertical axis counts.
      name: unique name of the drawing in the page.
      top: start the vertical axis at zero and let it reach at least this value, so
        that noise looks like noise; None fits the axis to the data.
      size: width and height in inches, for text of equal size.

    Returns:
      An ``<svg>`` element.
    """
    figure, axes = canvas(*size)
    ends = []
    for i, (line, points) in enumerate(series.items()):
        scale = 100.0 if points.unit == SHARE else 1.0
        steps, values = _thin(points.steps, points.values * scale)
        style = _DASHES[(i // len(COLOURS)) % len(_DASHES)]
        colour = COLOURS[i % len(COLOURS)]
        marker = "o" if len(steps) == 1 else ""
        axes.plot(steps, values, color=colour, ls=style, lw=1.4, marker=marker, ms=4)
        ends.append((line, values, colour))
    label_steps(axes)
    _unit(axes, label)
    if top is not None:
        axes.set_ylim(0.0, max(top, axes.get_ylim()[1]))
    if len(ends) > 1:
        _end_labels(axes, ends)
    return svg(figure, name=name, title=f"{', '.join(series)} over training steps")


def compare(
    rows: Sequence[Row], columns: Mapping[Any, str], *, name: str, title: str
) -> Markup:
    """Draw the accuracies of several rows over the columns of their table.

    Args:
      rows: this run's first, then what it is compared with, in grey: the gap between
        the two is shaded. A row without numbers is left out.
      columns: labels of the horizontal axis by the names of the accuracies.
      name: unique name of the drawing in the page.
      title: accessible name.

    Returns:
      An ``<svg>`` element.
    """
    figure, axes = canvas(7.4, 3.9)
    x, colours, ends = np.arange(len(columns)), itertools.cycle(COLOURS), []
    heights = [_percents(row.accuracies, columns) for row in rows]
    for i, (row, y) in enumerate(zip(rows, heights, strict=True)):
        known = np.isfinite(y)
        if not known.any():
            continue
        error = np.nan_to_num(_percents(row.spread, columns))[known]
        colour = MUTED if i == 1 else next(colours)
        width, size = (2.4, 7.0) if i == 0 else (1.5, 5.5)
        axes.errorbar(
            x[known], y[known], yerr=error if row.spread else None, color=colour,
            ls=_DASHES[(0, 2, 1)[min(i, 2)]], lw=width, ms=size, capsize=3, mec=PAPER,
            marker=_MARKERS[i % len(_MARKERS)], zorder=5 if i == 0 else 3,
        )  # fmt: skip
        ends.append((row.name, y, colour))
    if len(rows) > 1:
        _shade_gap(axes, x, *heights[:2])
    axes.set_xticks(x, list(columns.values()))
    axes.set_xlim(-0.3, len(columns) - 0.7)
    _unit(axes, "% right")
    _end_labels(axes, ends)
    return svg(figure, name=name, title=title)


def _percents(shares: Mapping[Any, float], columns: Iterable[Any]) -> np.ndarray:
    return np.array([100.0 * shares.get(column, np.nan) for column in columns])


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty drawing of that size in inches, in the style of the page."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, plain(figure.add_subplot())


def plain(axes: Axes) -> Axes:
    """Leave of the frame what helps to read."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.grid(axis="y", color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, labelcolor=MUTED, pad=5)
    axes.margins(x=0.02, y=0.1)
    return axes


def label_steps(axes: Axes) -> None:
    """Let training steps be the horizontal axis."""
    axes.set_xlabel("training step", fontsize=9, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))


def svg(figure: Figure, *, name: str, title: str) -> Markup:
    """Render to an inline ``<svg>`` that scales and takes the page's colours.

    Args:
      figure: drawn in the placeholder colours of this module.
      name: prefix that keeps the ids of several drawings in one page apart.
      title: accessible name.

    Returns:
      The element; equal figures give equal text.
    """
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "jaxssl",
        "text.parse_math": False,
        "font.family": ["DejaVu Sans"],
    }
    out = io.StringIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has glyphs for names that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    text = text[text.index(">") + 1 :]
    prefix = re.sub(r"\W+", "-", name)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-")
    text = text.replace('xlink:href="#', f'href="#{prefix}-')
    text = re.sub(r"'DejaVu Sans'[^;\"<]*", "var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    head = f'<svg {box[0] if box else ""} role="img" aria-label="{escape(title)}">'
    return Markup(head + text)


def png(image: np.ndarray, *, longest: int = 192) -> str:
    """Encode an image as a ``data:`` URI.

    Args:
      image: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); uint8 in [0, 255], or float
        in [0, 1].
      longest: the longer side in pixels beyond which the image is shrunk.

    Returns:
      ``data:image/png;base64,...``
    """
    if image.dtype != np.uint8:
        unit = np.nan_to_num(np.clip(image.astype(np.float64), 0.0, 1.0))
        image = np.round(255.0 * unit).astype(np.uint8)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    picture = Image.fromarray(image)
    if max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def is_small(images: np.ndarray) -> bool:
    """Whether images (..., h, w, c) are small enough to enlarge without smoothing."""
    return images.shape[-2] <= _SMALL


def filter_grid(kernels: np.ndarray, *, columns: int = 8) -> np.ndarray:
    """Lay out first-layer filters as one image.

    Args:
      kernels: (kh, kw, cin, cout). Each filter is scaled on its own so that its largest
        weight is full colour and zero is mid-grey; ``cin`` other than 3 is averaged.
      columns: filters in a row.

    Returns:
      RGBA uint8 image with transparent gaps of one pixel.
    """
    kernels = np.nan_to_num(kernels.astype(np.float64))
    if kernels.shape[2] != 3:
        kernels = kernels.mean(2, keepdims=True)
    largest = np.maximum(np.abs(kernels).max((0, 1, 2)), 1e-12)
    images = np.round(127.5 * (1.0 + kernels / largest)).astype(np.uint8)
    count = kernels.shape[-1]
    return image_grid(np.moveaxis(images, -1, 0), columns=columns, most=count, gap=1)


def image_grid(
    images: np.ndarray, *, columns: int = 8, most: int = 64, gap: int = 2
) -> np.ndarray:
    """Lay out images as one, row by row.

    Args:
      images: uint8 (n, h, w, c) with c of 1 or 3, or (n, m, h, w, c), whose n rows have
        m images each.
      columns: images in a row of (n, h, w, c).
      most: images beyond this number are left out.
      gap: pixels between images.

    Returns:
      RGBA uint8 image with transparent gaps.
    """
    if images.ndim == 5:
        columns = min(images.shape[1], most)
        images = images[: most // columns, :columns].reshape(-1, *images.shape[2:])
    images = images[:most]
    count, height, width, _ = images.shape
    columns = min(columns, count)
    tall, wide = height + gap, width + gap
    grid = np.zeros((-(-count // columns) * tall, columns * wide, 4), np.uint8)
    for i, image in enumerate(images):
        y, x = (i // columns) * tall, (i % columns) * wide
        grid[y : y + height, x : x + width, :3] = image
        grid[y : y + height, x : x + width, 3] = 255
    return grid[:-gap, :-gap]


def _unit(axes: Axes, unit: str) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_title(unit, loc="left", fontsize=9, color=MUTED, pad=8)


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(steps) <= _POINTS:
        return steps, values
    means = [
        [part.mean() for part in np.array_split(x, _POINTS)] for x in (steps, values)
    ]
    return np.array(means[0]), np.array(means[1])


def _shade_gap(axes: Axes, x: np.ndarray, ours: np.ndarray, base: np.ndarray) -> None:
    """Shade what was learned and write the gap over each point."""
    axes.fill_between(x, base, ours, color=COLOURS[0], alpha=0.12, lw=0, zorder=1)
    for i in np.flatnonzero(np.isfinite(ours - base)):
        axes.annotate(
            signed(ours[i] - base[i]), (x[i], (ours[i] + base[i]) / 2), ha="center",
            va="center", fontsize=9.5, color=COLOURS[0], zorder=6,
        )  # fmt: skip


def _end_labels(axes: Axes, ends: Sequence[tuple[str, np.ndarray, str]]) -> None:
    """Name the lines at their right ends, spread so that no two names touch."""
    last = []
    for name, values, colour in ends:
        finite = values[np.isfinite(values)]
        if len(finite):
            last.append((float(finite[-1]), _short(name), colour))
    last.sort()
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    inches = axes.figure.get_figheight() * 0.72  # type: ignore[union-attr]
    step = 13.0 / 72.0 / inches
    heights = _spread([(value - low) / (high - low) for value, _, _ in last], step)
    for height, (_, name, colour) in zip(heights, last, strict=True):
        axes.annotate(
            name, (1.02, height), xycoords="axes fraction", fontsize=9.5, color=colour,
            ha="left", va="center", annotation_clip=False,
        )  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "\N{HORIZONTAL ELLIPSIS}"


def _spread(heights: Sequence[float], step: float) -> list[float]:
    """Move sorted heights apart to at least ``step``, keeping them near 0..1."""
    moved = list(heights)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + step)
    excess = moved[-1] - 1.0 if moved else 0.0
    if excess > 0:
        moved[-1] -= excess
        for i in range(len(moved) - 2, -1, -1):
            moved[i] = min(moved[i], moved[i + 1] - step)
    return moved
