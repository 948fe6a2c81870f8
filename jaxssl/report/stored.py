"""Results that were measured elsewhere, to stand beside those of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxssl.errors import UserError
from jaxssl.run.read import is_number, load_json


class Baseline(NamedTuple):
    """Accuracies to compare with: another run, or a stored measurement.

    Attributes:
      name: how the row is called.
      source: where the numbers come from, in words.
      accuracies: in [0, 1], by layer or by what was measured.
      spread: standard deviation over seeds, by the same names; empty for one seed.
    """

    name: str
    source: str
    accuracies: Mapping[str, float]
    spread: Mapping[str, float] = {}


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
      The rows, with ``source``: "stored, measured on ...".

    Raises:
      UserError: a file is missing or is not such a JSON file.
    """
    found = []
    for path in files:
        body = load_json(path)
        if not isinstance(body, dict):
            wrong = "is not a readable JSON object" if path.exists() else "is missing"
            raise UserError(
                f"stored result {path} {wrong}; give a file of experiments/results."
            )
        rows = body.get("rows", [body])
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict):
                whole = {**body, **row}
                name = str(whole.get("name") or path.stem)
                found.append({**whole, "name": name, "source": _source(whole, path)})
    return found


def with_key(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Keep the rows that have measurements under ``key``."""
    return [row for row in rows if isinstance(row.get(key), Mapping)]


def baseline(row: Mapping[str, Any], key: str) -> Baseline:
    """Take the measurements under ``key`` from a row that has them.

    Args:
      row: from `with_key`.
      key: the same key.

    Returns:
      Means, and their standard deviations unless the row has one seed.
    """
    means, spread = {}, {}
    for name, value in row[key].items():
        pair = value if isinstance(value, list) else [value]
        if pair and all(is_number(v) for v in pair):
            means[name] = float(pair[0])
            if len(pair) > 1 and _num_seeds(row) != 1:
                spread[name] = float(pair[1])
    return Baseline(row["name"], row["source"], means, spread)


def _num_seeds(row: Mapping[str, Any]) -> int:
    """Count the seeds of a stored row; 0 if it does not tell."""
    seeds = row.get("seeds")
    return len(seeds) if isinstance(seeds, list) else 0


def _source(row: Mapping[str, Any], path: Path) -> str:
    where = row.get("measured_on") or ", ".join(
        str(row[key]) for key in ("hardware", "date") if row.get(key)
    )
    source = f"stored, measured on {where}" if where else f"stored in {path.name}"
    seeds = _num_seeds(row)
    return source + (f", {seeds} seed{'s' if seeds > 1 else ''}" if seeds else "")
