"""Write durations, lists and error messages for a person."""

import re
import unicodedata
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


# Invisible, but part of words and of emoji: the zero-width non-joiner and joiner.
_JOINERS = "\u200c\u200d"


def printable(name: object) -> str:
    r"""Return a name from outside, such as a file's, as text that is safe to print.

    A file's name may hold a newline that forges a line, an escape sequence for the
    terminal, a mark that turns the direction of writing, or bytes that are not UTF-8.
    These characters are written as Python escapes them; all others are kept.

    >>> printable("häns\n\x1b[2J")
    'häns\\n\\x1b[2J'
    """
    return "".join(c if _is_shown(c) else _escape(c) for c in str(name))


def _is_shown(character: str) -> bool:
    if character.isprintable() or character in _JOINERS:
        return True
    return unicodedata.category(character) == "Zs"  # Spaces of other scripts.


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
