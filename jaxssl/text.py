"""Write durations, lists and error messages for a person."""

import re
from collections.abc import Callable, Sequence
from typing import Any

# A function that shows one line to the user.
Say = Callable[[str], Any]

# Number of items of a list that one line names; the others are only counted.
SHOWN = 6


def format_seconds(seconds: float) -> str:
    """Return a duration as text: ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
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
    """Join the first `SHOWN` items with semicolons, and count the others."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{'; '.join(items[:SHOWN])}{more}"


def first_line(error: object) -> str:
    """Return the first line of an error's message, or its repr if that is empty."""
    lines = str(error).splitlines()
    return lines[0] if lines else repr(error)
