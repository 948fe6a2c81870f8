"""From a section of a config to a frozen dataclass, or to the options of a function.

A section is named by its path from the root of the config, as ``optim.classifier``.
What is not there takes its default, so a config that was stored before a setting
existed means the same as ever. `recorded` tells which defaults these are.
"""

import contextlib
import contextvars
import dataclasses
import functools
import inspect
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxssl.config.checks import nearest
from jaxssl.errors import UserError

T = TypeVar("T")

RENAMED = {
    "eval.knn.tap": "eval.knn.endpoint",
    "eval.retrieval.tap": "eval.retrieval.endpoint",
    "method.taps": "method.endpoints",
}
"""Settings of earlier versions by their path, and what they are called now."""

_record: contextvars.ContextVar[dict[str, Any] | None] = contextvars.ContextVar(
    "defaults of the settings that were read", default=None
)


@runtime_checkable
class Section(Protocol):
    """Names with values: a dict, or an ``ml_collections.ConfigDict``."""

    def items(self) -> Iterable[tuple[str, Any]]: ...  # noqa: D102


@contextlib.contextmanager
def recorded() -> Iterator[dict[str, Any]]:
    """Collect the defaults of all sections that are read in the block.

    Yields:
      Path of a setting to its default, as ``{"optim.classifier.b1": 0.5}``; filled
      while the block runs. Settings without a default are left out.
    """
    defaults: dict[str, Any] = {}
    token = _record.set(defaults)
    try:
        yield defaults
    finally:
        _record.reset(token)


def record(path: str, defaults: Mapping[str, Any]) -> None:
    """Add the defaults of a section to what `recorded` collects, if it does.

    Args:
      path: the section, as ``data``.
      defaults: setting to its default.
    """
    collected = _record.get()
    if collected is not None:
        collected |= {f"{path}.{name}": value for name, value in defaults.items()}


def defaults(cls: type, **changes: Any) -> dict[str, Any]:
    """Return a section with every setting of ``cls`` spelled out, for ``get_config``.

    Args:
      cls: a settings class.
      **changes: settings that differ from their defaults.

    Returns:
      Setting to value; a ``ConfigDict`` takes it as a section.

    Raises:
      UserError: a value is not allowed.
    """
    return dataclasses.asdict(cls(**changes))


def find(config: Section, path: str) -> dict[str, Any]:
    """Return the settings at a path, none if the section is missing.

    Args:
      config: the root of the config.
      path: of the section.

    Raises:
      UserError: there is a value where a section must be.
    """
    here: Any = config
    for depth, name in enumerate(path.split(".")):
        here = dict(here.items()).get(name, {})
        if not isinstance(here, Section):
            part = ".".join(path.split(".")[: depth + 1])
            raise UserError(f"config.{part} is {here!r}; it must be a section.")
    return dict(here.items())


def read(
    cls: type[T], config: Section, path: str, *, beside: Collection[str] = ()
) -> T:
    """Build the settings class ``cls`` from one section of a config.

    Lists become tuples and integers become floats where the field says so; nothing else
    is converted.

    Args:
      cls: a frozen dataclass; its ``__post_init__`` checks values and raises a
        ``UserError`` that starts with the field's name.
      config: the root of the config: a dict, or an ``ml_collections.ConfigDict``.
      path: of the section, as ``optim.classifier``; it may be missing.
      beside: keys of the section that are no fields of ``cls``.

    Returns:
      The settings; what the section lacks has its default.

    Raises:
      UserError: an unknown key, a missing key without default, a wrong type or an
        impossible value.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = {k: v for k, v in find(config, path).items() if k not in beside}
    _check_names(given, fields, path)
    hints = typing.get_type_hints(cls)
    values = {k: _convert(v, hints[k], f"{path}.{k}") for k, v in given.items()}
    known = {}
    for name, field in fields.items():
        if field.default is not dataclasses.MISSING:
            known[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            known[name] = field.default_factory()
        elif name not in values:
            raise UserError(f"{path}.{name} is missing; it has no default.")
    record(path, known)
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{path}.{error}") from None


def bind(
    function: Callable[..., T], config: Section, path: str
) -> "functools.partial[T]":
    """Return ``function`` with the settings of a section as its keyword options.

    Args:
      function: takes them, as ``models.alexnet.alexnet``. A parameter without a default
        is no setting: the caller passes it, or `functools.partial` gives it one.
      config: the root of the config.
      path: of the section, as ``model``; it may be missing.

    Returns:
      The function, which takes what is left.

    Raises:
      UserError: the function has no parameter of that name with a default.
    """
    options = default_options(function)
    given = find(config, path)
    _check_names(given, options, path)
    record(path, options)
    return functools.partial(function, **given)


def default_options(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of a function's parameters, of those that have one."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _check_names(given: Iterable[str], allowed: Iterable[str], path: str) -> None:
    allowed = list(allowed)
    for name in given:
        if name not in allowed:
            renamed = RENAMED.get(f"{path}.{name}")
            hint = f" It is now {renamed}." if renamed else nearest(name, allowed)
            raise UserError(
                f"{path}.{name} is not a setting; allowed: {', '.join(allowed)}.{hint}"
            )


def _convert(value: Any, hint: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        return _convert(value, kinds[0], path)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        if len(kinds) != len(value):
            raise UserError(f"{path} is {value!r}; it needs {len(kinds)} values.")
        pairs = zip(value, kinds, strict=True)
        return tuple(_convert(v, k, f"{path}[{i}]") for i, (v, k) in enumerate(pairs))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = origin or hint
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
        raise UserError(
            f"{path} is {value!r} ({type(value).__name__}); "
            f"it must be {getattr(kind, '__name__', kind)}."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} is {value}; it must be finite.")
    return value
