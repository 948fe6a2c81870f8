"""What a verb is, and the checks that all verbs share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from absl import flags

from jaxssl.errors import UserError
from jaxssl.run import config_file


class Verb(NamedTuple):
    """One command.

    Attributes:
      run: does it; takes the parsed flags and the words that are no flags.
      define: adds its flags.
      usage: the line after ``usage:``.
      about: what it does, in a few lines.
    """

    run: Callable[[flags.FlagValues, list[str]], int]
    define: Callable[[flags.FlagValues], None]
    usage: str
    about: str


def is_override(word: str) -> bool:
    """Say whether a word sets a field of the config, as ``--config.seed=1`` does."""
    return config_file.OVERRIDE.match(word) is not None


def get(values: flags.FlagValues, name: str) -> Any:
    """Return the value of a flag."""
    return values[name].value


def given(values: flags.FlagValues) -> list[str]:
    """Return the flags that were given, as words of a command."""
    return [values[name].serialize() for name in sorted(values) if values[name].present]


def require(values: flags.FlagValues, name: str, example: str) -> str:
    """Return the value of a flag that must be given.

    Raises:
      UserError: it is missing.
    """
    given = get(values, name)
    if not given:
        raise UserError(f"--{name} is missing; give --{name}={example}.")
    return given


def refuse_words(words: list[str]) -> None:
    """Raise if there are words that the verb does not know.

    Raises:
      UserError: names the first one.
    """
    if words:
        raise UserError(f"{words[0]!r} is not expected; flags start with --.")


def define_workdir(values: flags.FlagValues) -> None:
    """Add the flag ``--workdir``."""
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
