"""Checks of one value; each failure is a UserError that one can act on."""

import difflib
from collections.abc import Iterable
from typing import Any

from jaxssl.errors import UserError

LONGEST = 100
"""Characters of a value that a message shows."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``' Did you mean x?'`` for the closest allowed name, else nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def shown(value: Any) -> str:
    """Return a value of any kind as one short line, for a message."""
    try:
        line = " ".join(repr(value).splitlines())
    except ValueError:  # Python writes no whole number of more than 4,300 digits.
        line = f"<{type(value).__name__} with more than 4,300 digits>"
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def choice(field: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raise unless ``value`` is one of ``allowed``.

    Raises:
      UserError: names the field, the value, what is allowed and the nearest name.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        names = [str(name) for name in allowed]
        close = nearest(value, names) if isinstance(value, str) else ""
        raise UserError(
            f"{field} is {shown(value)}; allowed: {', '.join(names)}.{close}"
        )


def class_dtype(labels: Any) -> None:
    """Raise unless the dtype of ``labels``, an array or a tracer, is an integer's.

    Raises:
      UserError: names the dtype and what is expected.
    """
    if labels.dtype.kind not in "iu":
        raise UserError(
            f"the labels are {labels.dtype}; classes are expected, whose dtype is an "
            "integer's, as int32."
        )


def split_variant(variant: str, **parts: Iterable[str]) -> list[str]:
    """Split ``a,b`` into its parts and check each.

    Args:
      variant: what stood behind the colon of ``--config=FILE:variant``.
      **parts: what each part is called, and the names that it may be.

    Returns:
      One name for each of ``parts``, in their order.

    Raises:
      UserError: a part is missing or not among the allowed names, or there are more.
    """
    names = variant.split(",")
    if len(names) != len(parts):
        raise UserError(f"the variant is {variant!r}; it must be {','.join(parts)}.")
    for name, (part, allowed) in zip(names, parts.items(), strict=True):
        choice(f"the variant's {part}", name, allowed)
    return names


def local_path(field: str, given: str) -> None:
    """Raise if a path is a URL, which would become a folder ``gs:``, or has a NUL.

    Raises:
      UserError: names the field and the path, and what to do.
    """
    if "\0" in given:
        raise UserError(f"{field} is {given!r}; no file has the character NUL.")
    if "://" in given:
        raise UserError(
            f"{field} is {given!r}; buckets and other URLs are not supported, because "
            "locks and renames need a file system. Mount one and give its path "
            "(docs/pods.md)."
        )
