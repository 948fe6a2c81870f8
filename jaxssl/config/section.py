"""From one section of a config to a frozen dataclass, with errors one can act on."""

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxssl.config.checks import nearest
from jaxssl.errors import UserError

T = TypeVar("T")


@runtime_checkable
class Section(Protocol):
    """Names with values: a dict, or an ``ml_collections.ConfigDict``."""

    def items(self) -> Iterable[tuple[str, Any]]: ...  # noqa: D102


def from_config(cls: type[T], config: Section, *, where: str) -> T:
    """Build the frozen dataclass ``cls`` from one section of a config.

    Lists become tuples and integers become floats where the field says so; nothing else
    is converted.

    Args:
      cls: a dataclass; its ``__post_init__`` checks values and raises ``UserError``
        with a message that starts with the field's name.
      config: the section (an ``ml_collections.ConfigDict`` or a dict).
      where: the section's name, for the messages (``method``).

    Returns:
      The dataclass.

    Raises:
      UserError: an unknown key, a missing key, a wrong type or an impossible value.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values = {}
    for name, value in config.items():
        if name not in fields:
            raise UserError(
                f"{where}.{name} is not a setting; allowed: {', '.join(fields)}."
                + nearest(name, fields)
            )
        values[name] = _convert(value, hints[name], f"{where}.{name}")
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise UserError(f"{where}.{name} is missing; it has no default.")
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where}.{error}") from None


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        return _convert(value, kinds[0], where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise UserError(f"{where} is {value!r}; it needs {len(kinds)} values.")
        pairs = zip(value, kinds, strict=True)
        return tuple(_convert(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(pairs))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = origin or hint
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
        raise UserError(
            f"{where} is {value!r} ({type(value).__name__}); "
            f"it must be {getattr(kind, '__name__', kind)}."
        )
    return value
