"""What is run: a config file, its variant, and the numbers after all overrides.

A config file is Python. ``get_config(variant)`` returns a ``ConfigDict`` of plain
values and ``build(config)`` turns them into an ``Experiment``. The values pass through
JSON before ``build`` sees them, so a run and its later evaluation build the same thing.
"""

import contextlib
import importlib.util
import inspect
import json
import math
import re
import sys
import traceback
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from jaxssl import safe_files
from jaxssl.config.checks import nearest, shown
from jaxssl.config.section import RENAMED
from jaxssl.errors import ExpectedError, UserError

OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<path>[^=]+)(?:=.*)?$", re.S)

KINDS = {"sgd": "schedule", "adamw": "final_rate", "adam": "b1"}
"""Kind of an optimizer, and the setting that tells it from those after it in 0.1."""


class Recipe(NamedTuple):
    """One resolved experiment.

    Attributes:
      file: the config file.
      variant: what stood behind the colon of ``--config=FILE:variant``, or None.
      config: the locked values; lists have become tuples.
    """

    file: Path
    variant: str | None
    config: ConfigDict


def load(spec: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a config file and apply ``--config.a.b=v`` flags to it.

    Args:
      spec: ``FILE`` or ``FILE:variant``.
      overrides: command line words that set fields, as ``--config.seed=1``.

    Returns:
      The recipe.

    Raises:
      UserError: the file cannot be read or is no config, or an override names no field
        or has the wrong type.
    """
    name, variant = _split_spec(spec)
    module = load_module(Path(name))
    parameters = inspect.signature(module.get_config).parameters
    if variant and not parameters:
        raise UserError(f"{name} has no variants, but {variant!r} was asked for.")
    with _running(Path(name)):
        config = module.get_config(variant) if variant else module.get_config()
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"get_config() of {name} returned {type(config).__name__}; "
            "it must return an ml_collections.ConfigDict."
        )
    values = to_plain(override(config, overrides))
    return Recipe(Path(name).absolute(), variant or None, from_plain(values))


def _split_spec(spec: str) -> tuple[str, str]:
    """Return the file of ``FILE:variant`` and the variant; a path may hold colons."""
    ends = [match.start() for match in re.finditer(":", spec)] + [len(spec)]
    files = [end for end in ends if Path(spec[:end]).is_file()]
    named = [end for end in ends if spec[:end].endswith(".py")]
    end = (files or named or ends)[0]
    return spec[:end], spec[end + 1 :]


@contextlib.contextmanager
def _running(path: Path) -> Iterator[None]:
    """Name the file and the line where the code of a config file fails.

    Errors of the package's own code pass.

    Raises:
      UserError: the code of the file raised an error, or asked to end the process.
    """
    try:
        yield
    except ExpectedError:
        raise
    except SystemExit as error:
        raise UserError(
            f"--config: {path} ends the process with sys.exit({error.code!r}); a "
            "config file raises an error, or returns its settings."
        ) from error
    except Exception as error:
        line = _line_at_fault(error, path)
        if line is None:
            raise
        raise UserError(
            f"--config: {path}, line {line}: {type(error).__name__}: {error}"
        ) from error


def _line_at_fault(error: Exception, path: Path) -> int | None:
    """Return the line of a config file that raised an error, or called what did.

    Returns None for an error that the file did not raise, or that the package raised.
    """
    frames = traceback.extract_tb(error.__traceback__)
    package = Path(__file__).parents[1]
    for frame in reversed(frames):
        if Path(frame.filename).absolute() == path.absolute():
            return frame.lineno
        if Path(frame.filename).is_relative_to(package):
            return None
    return None


def load_module(path: Path) -> types.ModuleType:
    """Execute a config file and check that it is one.

    Its folder is put on the import path, as Python does for a script.

    Raises:
      UserError: the file is missing, does not run, or lacks one of the functions.
    """
    if not path.is_file():
        others = path.parent.glob("*.py") if path.parent.is_dir() else ()
        hint = nearest(str(path), [str(other) for other in others])
        raise UserError(f"--config: there is no file {path}.{hint}")
    if path.suffix != ".py":
        raise UserError(f"--config: {path} is not a Python file (.py).")
    folder = str(path.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(f"jaxssl_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config: {path} cannot be loaded.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    try:
        with _running(path):
            spec.loader.exec_module(module)
    except (SyntaxError, ImportError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--config: {path} cannot be loaded: {error}") from error
    for name in ("get_config", "build"):
        if not callable(getattr(module, name, None)):
            raise UserError(
                f"--config: {path} has no {name}(); a config file defines "
                "get_config() and build(config)."
            )
    return module


def build(recipe: Recipe) -> Any:
    """Call the config file's ``build``.

    Args:
      recipe: the file and the values.

    Returns:
      The ``jaxssl.experiment.Experiment``.

    Raises:
      UserError: whatever is wrong with the values.
    """
    module = load_module(recipe.file)
    with _running(recipe.file):
        return module.build(recipe.config)


def override(config: ConfigDict, words: Sequence[str]) -> ConfigDict:
    """Apply ``--config.a.b=v`` words; each value is parsed by its field's type.

    Args:
      config: the values of the config file.
      words: command line words.

    Returns:
      ``config``, changed and locked.

    Raises:
      UserError: names the key, what was given and what is allowed.
    """
    for word in words:
        if match := OVERRIDE.match(word):
            _check_path(config, match["path"])
    values, argv = flags.FlagValues(), ["jaxssl", *words]
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=argv
        )
        rest = values(argv)[1:]
    except (flags.Error, ValueError, TypeError) as error:
        raise UserError(_explain(config, words, error)) from error
    if rest:
        raise UserError(f"{rest[0]!r} is not a flag; write --config.KEY=VALUE.")
    return config.lock()


def _check_path(config: ConfigDict, path: str) -> None:
    here, done = config, []
    for part in path.split("."):
        if not isinstance(here, ConfigDict):
            raise UserError(f"config.{'.'.join(done)} is a value; it has no {part!r}.")
        if part not in here and path in RENAMED:
            raise UserError(
                f"config.{path} is now called config.{RENAMED[path]}; write "
                f"--config.{RENAMED[path]}=VALUE."
            )
        if part not in here:
            where = f"config.{'.'.join(done)}" if done else "the config"
            raise UserError(
                f"config.{path} is not a setting; {where} has: "
                f"{', '.join(sorted(here))}." + nearest(part, here)
            )
        done.append(part)
        here = here[part]
    if isinstance(here, ConfigDict):
        raise UserError(
            f"config.{path} is a section; set one of its keys: "
            f"{', '.join(f'config.{path}.{key}' for key in sorted(here))}."
        )


def _explain(config: ConfigDict, words: Sequence[str], error: Exception) -> str:
    """Name the override that made absl fail, its value and its type."""
    for match in filter(None, map(OVERRIDE.match, words)):
        path = match["path"]
        pattern = rf"config\.{re.escape(path)}(?:=(.*?): |(?![\w.]))"
        named = re.search(pattern, str(error))
        if named is None:
            continue
        value: Any = config
        for part in path.split("."):
            value = value[part]
        if isinstance(value, list) or value is None:
            return (
                f"config.{path} is {value!r} in the config file and cannot be set on "
                "the command line; use a tuple, or a placeholder of its type."
            )
        given = "has no value" if named[1] is None else f"is {named[1]!r}"
        kind = type(value).__name__
        return f"config.{path} {given}; it must be {kind}, like {value!r}."
    return str(error).splitlines()[0]


def to_plain(value: Any, path: str = "config") -> Any:
    """Turn config values into what JSON can hold.

    Args:
      value: a section or a value.
      path: what messages call the value.

    Raises:
      UserError: a value is no finite number of 64 bits, string, boolean, None or
        sequence of these.
    """
    if isinstance(value, Mapping | ConfigDict):
        return {str(key): to_plain(x, f"{path}.{key}") for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise UserError(f"{path} is {shown(value)}; give a number of 64 bits at most.")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path} is {value}; it must be finite.")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"{path} is {shown(value)} ({type(value).__name__}); only numbers, strings, "
        "booleans, None, tuples and sections of these are allowed."
    )


def from_plain(values: Mapping[str, Any]) -> ConfigDict:
    """Rebuild a locked config from plain values; lists become tuples."""
    return ConfigDict({k: _freeze(v) for k, v in values.items()}).lock()


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _freeze(item) for key, item in value.items()}
    return tuple(map(_freeze, value)) if isinstance(value, list | tuple) else value


FORMAT = 2
"""Of a stored recipe; version 0.1 wrote none."""


def dumps(recipe: Recipe) -> bytes:
    """Return a recipe as JSON."""
    body = {
        "format": FORMAT,
        "config_file": str(recipe.file),
        "variant": recipe.variant,
        "config": to_plain(recipe.config),
    }
    return (json.dumps(body, indent=2) + "\n").encode()


def loads(data: bytes) -> Recipe:
    """Read what ``dumps`` wrote, now or in an earlier version.

    Raises:
      KeyError, TypeError, ValueError: ``data`` is something else.
    """
    body = safe_files.parse_json(data)
    config, variant = body["config"], body["variant"]
    if not isinstance(config, dict):
        raise TypeError("its config is no JSON object")
    if not isinstance(variant, str | None):
        raise TypeError("its variant is no string")
    if "format" not in body:
        config = _upgrade(config)
    return Recipe(Path(body["config_file"]), variant, from_plain(config))


def _upgrade(config: dict[str, Any]) -> dict[str, Any]:
    """Give stored settings their names of today, and optimizers their kind.

    In version 0.1 the name of a player chose its optimizer: SGD for the classifier of a
    task with a section ``learner``, AdamW for any other classifier, Adam for the rest.
    """
    for old, new in RENAMED.items():
        path, _, name = old.rpartition(".")
        settings = _at(config, path)
        if name in settings:
            settings[new.rpartition(".")[2]] = settings.pop(name)
    for player in _at(config, "optim"):
        settings = _at(config, f"optim.{player}")
        for kind, name in KINDS.items():
            if name in settings:
                settings.setdefault("kind", kind)
        classifier_kind = "sgd" if "learner" in config else "adamw"
        settings.setdefault(
            "kind", classifier_kind if player == "classifier" else "adam"
        )
    return config


def _at(config: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the section at a path; an empty one if there is none."""
    here: Any = config
    for name in path.split("."):
        here = here.get(name) if isinstance(here, dict) else None
    return here if isinstance(here, dict) else {}
