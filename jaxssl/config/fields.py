"""Values that a setting may take, said once, where the setting is declared.

A settings class is a frozen dataclass. Its fields are made with `number` and `choice`,
and it ends with ``__post_init__ = fields.validate``, so that a config file and a direct
call are checked alike::

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class SGDConfig:
        learning_rate: float = fields.number(0.1, above=0, at_most=1e6)
        schedule: str = fields.choice("cosine", ("cosine", "linear"))

        __post_init__ = fields.validate

A function whose options are settings, such as a network's constructor, says the same in
its annotations and is decorated with `checked`::

    @fields.checked
    def mlp(num_classes: int | None, *, dropout: fields.Fraction = 0.0) -> Network:

In a tuple the condition holds for each item. No number may be NaN or infinite.
"""

import dataclasses
import functools
import inspect
import numbers
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, ParamSpec, TypeVar

from jaxssl.config import checks
from jaxssl.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")

ABSTRACT = {int: numbers.Integral, float: numbers.Real}
"""What counts as a type; NumPy's numbers do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """The finite numbers within bounds.

    Attributes:
      at_least: smallest allowed value.
      above: bound that a value must exceed.
      at_most: largest allowed value.
      below: bound that a value must stay under.
    """

    at_least: int | float | None = None
    above: int | float | None = None
    at_most: int | float | None = None
    below: int | float | None = None

    def __contains__(self, value: int | float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        bounds = dataclasses.asdict(self).items()
        return " and ".join(
            f"{word.replace('_', ' ')} {bound}"
            for word, bound in bounds
            if bound is not None
        )

    def check(self, name: str, value: int | float) -> None:
        """Raise a UserError that names the value and the range, unless it is inside."""
        if not _is_finite(value):
            raise UserError(f"{name} is {checks.shown(value)}; it must be finite.")
        if value not in self:
            raise UserError(f"{name} is {checks.shown(value)}; it must be {self}.")


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Some names or numbers.

    Attributes:
      allowed: all of them.
    """

    allowed: tuple[Any, ...]

    def check(self, name: str, value: Any) -> None:
        """Raise a UserError that names the value and what is allowed, unless it is."""
        checks.choice(name, value, self.allowed)


MAX_COUNT = 2**31 - 1
"""Largest count: steps and records are int32 on devices."""

MAX_PIXELS = 2**14
"""Largest side of an image or of a part of it."""

Count = Annotated[int, Range(at_least=1, at_most=MAX_COUNT)]
Pixels = Annotated[int, Range(at_least=1, at_most=MAX_PIXELS)]
Seed = Annotated[int, Range(at_least=0, below=2**32)]
Fraction = Annotated[float, Range(at_least=0, below=1)]


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
    limits = Range(at_least=at_least, above=above, at_most=at_most, below=below)
    return dataclasses.field(default=default, metadata={"limits": limits})


def count(default: Any = dataclasses.MISSING, *, at_least: int = 1) -> Any:
    """Return a field for how many there are of something, up to `MAX_COUNT`."""
    return number(default, at_least=at_least, at_most=MAX_COUNT)


def pixels(default: Any = dataclasses.MISSING, *, at_least: int = 1) -> Any:
    """Return a field for a length in pixels, up to `MAX_PIXELS`."""
    return number(default, at_least=at_least, at_most=MAX_PIXELS)


def seed(default: int) -> Any:
    """Return a field for the seed of some draws, 0 to 2**32 - 1."""
    return number(default, at_least=0, below=2**32)


def choice(default: Any, allowed: Iterable[Any]) -> Any:
    """Return a field for one of some names or numbers.

    Args:
      default: value of the field where none is given.
      allowed: all of them.

    Returns:
      The field of a dataclass.
    """
    limits = OneOf(tuple(allowed))
    return dataclasses.field(default=default, metadata={"limits": limits})


def validate(settings: Any) -> None:
    """Check the types of all fields, and the values of those with a range or a choice.

    Lists become tuples and integers become floats where the field says so.

    Args:
      settings: an instance of a settings class.

    Raises:
      UserError: names the first field that is not allowed, its value and what is.
    """
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value = convert(getattr(settings, field.name), hints[field.name], field.name)
        object.__setattr__(settings, field.name, value)
        if limits := field.metadata.get("limits"):
            _check_items(limits, field.name, value)


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function so that its arguments are checked by their annotations.

    Args:
      function: annotations are types, or ``Annotated`` ones with a `Range` or a
        `OneOf`.

    Returns:
      The function; it raises a UserError that names the first argument which is not
      allowed, its value and what is.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = inspect.signature(function).bind(*args, **kwargs)
        known = hints(function)
        for name, value in bound.arguments.items():
            bound.arguments[name] = convert(value, known.get(name, Any), name)
        return function(*bound.args, **bound.kwargs)

    return call


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function, or of what a ``partial`` calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return typing.get_type_hints(function, include_extras=True)


def convert(value: Any, hint: Any, path: str) -> Any:
    """Check a value against a type.

    Lists become tuples and integers become floats where the type says so; nothing else
    is converted.

    Args:
      value: any value.
      hint: a type, a union with None, a tuple of types, or an ``Annotated`` one.
      path: what messages call the value.

    Returns:
      The value.

    Raises:
      UserError: it has another type, or is not allowed.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        value = convert(value, args[0], path)
        for limits in args[1:]:
            _check_items(limits, path, value)
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        return convert(value, kinds[0], path)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise UserError(
                f"{path} is {checks.shown(value)}; it needs {len(kinds)} values."
            )
        pairs = zip(value, kinds, strict=True)
        return tuple(convert(v, k, f"{path}[{i}]") for i, (v, k) in enumerate(pairs))
    return _convert_leaf(value, origin or hint, path)


def _convert_leaf(value: Any, kind: type, path: str) -> Any:
    expected = ABSTRACT.get(kind, kind)
    if (isinstance(value, bool) and kind is not bool) or not isinstance(
        value, expected
    ):
        raise UserError(
            f"{path} is {checks.shown(value)} ({type(value).__name__}); "
            f"it must be {getattr(kind, '__name__', kind)}."
        )
    if kind is not float:
        return value
    if not _is_finite(value):
        raise UserError(f"{path} is {checks.shown(value)}; it must be finite.")
    return float(value) if isinstance(value, int) else value


def _is_finite(value: int | float) -> bool:
    """Return whether a number is no NaN, not infinite, and a float could hold it."""
    return -sys.float_info.max <= value <= sys.float_info.max


def _check_items(limits: Range | OneOf, name: str, value: Any) -> None:
    """Check a value, or each item of a tuple; None is one that a type allowed."""
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            _check_items(limits, f"{name}[{i}]", item)
    elif value is not None:
        limits.check(name, value)
