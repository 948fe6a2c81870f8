"""The rows of a comparison: this run, other runs and results measured elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxssl.run.read import is_number, load_object


class Row(NamedTuple):
    """Accuracies to compare with: those of a run, or a stored measurement.

    Attributes:
      name: how the row is called.
      source: where the numbers come from, in words.
      accuracies: in [0, 1], by layer or by what was measured.
      spread: standard deviation over seeds, by the same names; empty for one seed.
      config: settings that a stored row was measured with; empty if unknown.
    """

    name: str
    source: str
    accuracies: Mapping[Any, float]
    spread: Mapping[Any, float] = {}
    config: Mapping[str, Any] = {}


def measured(
    name: str, accuracies: Mapping[Any, float], *, source: str, command: str
) -> Row:
    """Return the row of a run; it says what is to do where nothing was measured.

    Args:
      name: how the row is called.
      accuracies: what was measured; empty if nothing was.
      source: where the numbers come from.
      command: what measures them.
    """
    return Row(name, source if accuracies else f"not run: {command}", accuracies)


def read(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the rows of stored results.

    A file is one row or ``{"rows": [row, ...]}``. A row has ``name`` and measurements
    (name to a number in [0, 1], or to ``[mean, standard deviation]``) under a key that
    says of what: ``linear_probe``, ``accuracy``. It says where it comes from by
    ``measured_on``, or by ``hardware`` and ``date``. Keys of the file serve rows that
    lack them.

    Args:
      files: JSON files.

    Returns:
      The rows; each has a ``name``, and its ``file`` is the name of its file.

    Raises:
      UserError: a file is missing or is not such a JSON file.
    """
    rows = []
    for path in files:
        body = load_object(path, "give a file of experiments/results")
        own = body.get("rows", [body])
        for row in own if isinstance(own, list) else []:
            if isinstance(row, dict):
                rows.append({"name": path.stem, **body, **row, "file": path.name})
    return rows


def select(stored: Sequence[Mapping[str, Any]], key: str) -> list[Row]:
    """Return the stored rows that have measurements under ``key``.

    Args:
      stored: from `read`.
      key: what was measured, such as ``linear_probe``.

    Returns:
      Means, and their standard deviations unless a row has one seed.
    """
    return [
        _make_row(row, row[key]) for row in stored if isinstance(row.get(key), Mapping)
    ]


def _make_row(stored: Mapping[str, Any], measurements: Mapping[str, Any]) -> Row:
    means, spread = {}, {}
    seeds = stored.get("seeds")
    num_seeds = len(seeds) if isinstance(seeds, list) else 0
    for name, value in measurements.items():
        pair = value if isinstance(value, list) else [value]
        if pair and all(is_number(v) for v in pair):
            means[name] = float(pair[0])
            if len(pair) > 1 and num_seeds != 1:
                spread[name] = float(pair[1])
    config = stored.get("config")
    settings = config.get("seed0") if isinstance(config, Mapping) else None
    return Row(
        str(stored["name"]),
        _describe_source(stored, num_seeds),
        means,
        spread,
        settings if isinstance(settings, Mapping) else {},
    )


def _describe_source(stored: Mapping[str, Any], num_seeds: int) -> str:
    machine = [str(stored[key]) for key in ("hardware", "date") if stored.get(key)]
    origin = stored.get("measured_on") or ", ".join(machine)
    origin_text = f", measured on {origin}" if origin else f" in {stored['file']}"
    seeds = f", {num_seeds} seed{'s' if num_seeds > 1 else ''}" if num_seeds else ""
    return f"stored{origin_text}{seeds}"
