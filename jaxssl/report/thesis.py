"""The thesis' numbers, and how a run's numbers stand beside them.

A measured number is only ever compared with the row of the same transformations on the
same data set; every other row is "not run".
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

TABLE_4_2 = {
    "Random": (48.4, 53.3, 51.1, 48.7, 47.9),
    "Warp": (57.2, 64.2, 62.8, 58.8, 55.3),
    "LCI": (58.8, 67.2, 67.4, 68.1, 68.0),
    "Rot": (58.2, 67.3, 69.3, 69.9, 70.1),
    "Warp + LCI": (59.3, 68.1, 69.5, 68.5, 67.2),
    "Rot + Warp": (57.4, 69.2, 70.7, 70.5, 70.6),
    "Rot + LCI": (58.5, 69.2, 71.3, 72.8, 72.3),
    "Rot + Warp + LCI": (59.2, 69.7, 71.9, 73.1, 73.7),
}
"""Test accuracy on STL-10 in %, linear classifiers on frozen conv1 ... conv5."""

TOLERANCE = 1.0
"""Points below the thesis that still pass: two standard errors of 8,000 test images."""

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")

PROTOCOL, CACHED = "thesis' protocol", "cached probe"
"""Classifiers are trained on random crops at each step, or once on cached features."""


class Measured(NamedTuple):
    """Accuracies on STL-10 in [0, 1] by layer, measured by PROTOCOL or CACHED."""

    layers: Mapping[str, float]
    protocol: str


class Row(NamedTuple):
    """One row of the thesis beside ours.

    Attributes:
      name: the thesis' name of the row.
      thesis: its accuracies in %, conv1 ... conv5.
      ours: ours in %, None where it has not been measured.
      status: "pass", "gap" or "not run".
      protocol: PROTOCOL or CACHED; "" where nothing was measured.
    """

    name: str
    thesis: tuple[float, ...]
    ours: tuple[float | None, ...]
    status: str
    protocol: str


def row_name(classes: Iterable[str]) -> str:
    """Name the row of Table 4.2 that is trained on these transformations.

    Args:
      classes: pretext classes, such as ``none rot90 rot180 rot270 warp``.

    Returns:
      The row's name, such as "Rot + Warp"; "" if no row has these transformations.
    """
    names = [name.lower() for name in classes]
    rotations = {name for name in names if name.startswith("rot")}
    parts = []
    if rotations >= {"rot90", "rot180", "rot270"}:
        parts.append("Rot")
    elif rotations:
        return ""
    parts += [part for part in ("Warp", "LCI") if part.lower() in names]
    return " + ".join(parts)


def rows(measured: Mapping[str, Measured]) -> list[Row]:
    """Put what was measured on STL-10 beside Table 4.2.

    Args:
      measured: row name to accuracies; only STL-10 belongs here.

    Returns:
      All eight rows in the thesis' order. A row passes when each layer reaches the
      thesis less ``TOLERANCE`` points.

    References:
      Thesis, Table 4.2.
    """
    table = []
    for name, numbers in TABLE_4_2.items():
        layers, protocol = measured.get(name, Measured({}, ""))
        ours = tuple(
            100.0 * layers[layer] if layer in layers else None for layer in LAYERS
        )
        table.append(Row(name, numbers, ours, _status(numbers, ours), protocol))
    return table


def _status(thesis: tuple[float, ...], ours: tuple[float | None, ...]) -> str:
    if all(value is None for value in ours):
        return "not run"
    reached = all(
        value is not None and value >= target - TOLERANCE
        for value, target in zip(ours, thesis, strict=True)
    )
    return "pass" if reached else "gap"
