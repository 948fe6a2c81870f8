"""Checks of one value; each failure is a UserError that one can act on."""

import difflib
from collections.abc import Iterable
from typing import Any

from jaxssl.errors import UserError


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return ``' Did you mean x?'`` for the closest allowed name, else nothing."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def choice(field: str, value: str, allowed: Iterable[str]) -> None:
    """Raise unless ``value`` is one of ``allowed``.

    Raises:
      UserError: names the field, the value, what is allowed and the nearest name.
    """
    allowed = tuple(allowed)
    if value not in allowed:
        raise UserError(
            f"{field} is {value!r}; allowed: {', '.join(allowed)}."
            + nearest(str(value), allowed)
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
    """Raise if a path is a URL; as a path it would become a folder ``gs:``.

    Raises:
      UserError: names the field and the path, and what to do.
    """
    if "://" in given:
        raise UserError(
            f"{field} is {given!r}; buckets and other URLs are not supported, because "
            "locks and renames need a file system. Mount one and give its path "
            "(docs/pods.md)."
        )


def positive(settings: Any, *fields: str) -> None:
    """Raise unless each named field of ``settings`` is above zero.

    Raises:
      UserError: names the first field that is not.
    """
    for field in fields:
        value = getattr(settings, field)
        if not value > 0:
            raise UserError(f"{field} is {value}; it must be above 0.")


def at_least_one(**values: int) -> None:
    """Raise unless each value is 1 or more.

    Raises:
      UserError: names the first that is not.
    """
    for name, value in values.items():
        if not value >= 1:
            raise UserError(f"{name} is {value}; it must be at least 1.")


def fraction(**values: float) -> None:
    """Raise unless each value is in [0, 1).

    Raises:
      UserError: names the first that is not.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise UserError(f"{name} is {value}; it must be at least 0 and below 1.")
