"""How durations, lists and names are written for a person."""

import re
from collections.abc import Callable, Sequence
from typing import Any

Say = Callable[[str], Any]
"""Takes one line for the user."""

SHOWN = 6
"""Items of a list that one line names; the others are counted."""


def format_seconds(seconds: float) -> str:
    """Return a duration as people say it: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def natural_order(name: str) -> list[str | int]:
    """Return a sort key that puts ``rot90`` before ``rot180``."""
    return [int(x) if x.isdigit() else x for x in re.split(r"([0-9]+)", name)]


def shorten(items: Sequence[str]) -> str:
    """Join the first `SHOWN` items by semicolons, and count the others."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{'; '.join(items[:SHOWN])}{more}"


def first_line(error: object) -> str:
    """Return the first line of an error's message, or its repr if it has none."""
    lines = str(error).splitlines()
    return lines[0] if lines else repr(error)
