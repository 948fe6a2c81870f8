"""The thesis' own numbers, which `thesis.json` holds once.

The file has one entry a table: its title, section, page, data and unit, and a row for
each row of the thesis that this package can run, called as the experiments call it. A
number stands under its layer, or under what it measures in the tables of chapter 8:
``fit`` of the training labels, ``last`` for the test after the last epoch, ``gap``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TABLES: Mapping[str, Mapping[str, Any]] = json.loads(
    Path(__file__).with_suffix(".json").read_text()
)
"""Number of a table, as "4.2", to its entry."""


def numbers(table: str, row: str) -> dict[str, float]:
    """Return the thesis' numbers of a row in percent; none for a row of our own."""
    return TABLES[table]["rows"].get(row, {})
