"""Fields of a settings class that say which values they allow.

A settings class is a frozen dataclass. Its fields are made with `number` and `choice`,
and it ends with ``__post_init__ = fields.validate``, so that a config file and a direct
call are checked alike::

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class SGDConfig:
        learning_rate: float = fields.number(0.1, above=0)
        schedule: str = fields.choice("cosine", ("cosine", "linear"))

        __post_init__ = fields.validate

In a field of a tuple the condition holds for each item.
"""

import dataclasses
import math
import operator
from collections.abc import Iterable
from typing import Any

from jaxssl.config import checks
from jaxssl.errors import UserError

_COMPARE = {
    "at_least": operator.ge,
    "above": operator.gt,
    "at_most": operator.le,
    "below": operator.lt,
}


def number(
    default: Any = dataclasses.MISSING,
    *,
    at_least: int | float | None = None,
    above: int | float | None = None,
    at_most: int | float | None = None,
    below: int | float | None = None,
) -> Any:
    """Return a field for finite numbers in a range.

    Args:
      default: value of the field where none is given; left out, one must be given.
      at_least: smallest allowed value.
      above: bound that a value must exceed.
      at_most: largest allowed value.
      below: bound that a value must stay under.

    Returns:
      The field of a dataclass.
    """
    limits = dict(at_least=at_least, above=above, at_most=at_most, below=below)
    limits = {name: limit for name, limit in limits.items() if limit is not None}
    return dataclasses.field(default=default, metadata={"limits": limits})


def choice(default: Any, allowed: Iterable[str]) -> Any:
    """Return a field for one of some names.

    Args:
      default: value of the field where none is given.
      allowed: the names.

    Returns:
      The field of a dataclass.
    """
    return dataclasses.field(default=default, metadata={"allowed": tuple(allowed)})


def validate(settings: Any) -> None:
    """Check all fields that were made with `number` or `choice`.

    Args:
      settings: an instance of a settings class.

    Raises:
      UserError: names the first field that is not allowed, its value and what is.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        items = {field.name: value}
        if isinstance(value, tuple):
            items = {f"{field.name}[{i}]": item for i, item in enumerate(value)}
        for name, item in items.items():
            if "allowed" in field.metadata:
                checks.choice(name, item, field.metadata["allowed"])
            elif "limits" in field.metadata and item is not None:
                _check_number(name, item, field.metadata["limits"])


def _check_number(name: str, value: int | float, limits: dict[str, Any]) -> None:
    if not math.isfinite(value):
        raise UserError(f"{name} is {value}; it must be finite.")
    if not all(_COMPARE[word](value, limit) for word, limit in limits.items()):
        allowed = " and ".join(
            f"{word.replace('_', ' ')} {limit}" for word, limit in limits.items()
        )
        raise UserError(f"{name} is {value}; it must be {allowed}.")
