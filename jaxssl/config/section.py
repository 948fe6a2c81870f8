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
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from jaxssl.config import fields
from jaxssl.config.checks import nearest, shown
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

    def get(self, key: str, default: Any = None, /) -> Any: ...  # noqa: D102

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
        here = here.get(name, {})
        if not isinstance(here, Section):
            part = ".".join(path.split(".")[: depth + 1])
            raise UserError(f"config.{part} is {shown(here)}; it must be a section.")
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
    known = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    given = {k: v for k, v in find(config, path).items() if k not in beside}
    _check_names(given, known, path)
    hints = typing.get_type_hints(cls)
    values = {k: fields.convert(v, hints[k], f"{path}.{k}") for k, v in given.items()}
    defaults = {}
    for name, field in known.items():
        if field.default is not dataclasses.MISSING:
            defaults[name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[name] = field.default_factory()
        elif name not in values:
            raise UserError(f"{path}.{name} is missing; it has no default.")
    record(path, defaults)
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{path}.{error}") from None


def bind(function: Callable[..., T], config: Section, path: str) -> Callable[..., T]:
    """Return ``function`` with the settings of a section as its keyword options.

    Args:
      function: takes them, as ``models.alexnet.alexnet``. A parameter without a default
        is no setting: the caller passes it, or `functools.partial` gives it one. The
        annotations say what each may be (`jaxssl.config.fields.checked`).
      config: the root of the config.
      path: of the section, as ``model``; it may be missing.

    Returns:
      The function, which takes what is left. What it says about its settings when it is
      called gets the section's name.

    Raises:
      UserError: the function has no parameter of that name with a default, or the value
        is not allowed.
    """
    options = default_options(function)
    given = convert_options(function, find(config, path), path)
    record(path, options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> T:
        try:
            return function(*args, **given, **kwargs)
        except UserError as error:
            raise UserError(f"{path}.{error}") from None

    return call


def convert_options(
    function: Callable[..., Any], given: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Check the names and values of options by a function's annotations.

    Args:
      function: its parameters with a default are the options.
      given: name to value.
      path: of the section that they come from.

    Returns:
      Name to value; lists have become tuples where the annotation says so.

    Raises:
      UserError: an unknown name, a wrong type or a value that is not allowed.
    """
    _check_names(given, default_options(function), path)
    hints = fields.hints(function)
    return {
        name: fields.convert(value, hints.get(name, Any), f"{path}.{name}")
        for name, value in given.items()
    }


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
