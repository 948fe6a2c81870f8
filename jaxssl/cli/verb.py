"""The type of a verb, and the helpers that verbs share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from jaxssl.config import checks
from jaxssl.errors import UserError
from jaxssl.run import config_file


class Verb(NamedTuple):
    """One command.

    Attributes:
      run: ``run(values, rest)`` takes the parsed flags and the words that are no flags,
        and returns the exit code.
      define: adds the flags of the command.
      usage: the line after ``usage:``.
      about: a description of a few lines.
    """

    run: Callable[[flags.FlagValues, list[str]], int]
    define: Callable[[flags.FlagValues], None]
    usage: str
    about: str


def is_override(word: str) -> bool:
    """Return whether a word sets a field of the config, as ``--config.seed=1`` does."""
    return config_file.OVERRIDE.match(word) is not None


def get(values: flags.FlagValues, name: str) -> Any:
    """Return the value of a flag."""
    return values[name].value


def given(values: flags.FlagValues) -> list[str]:
    """Return the flags that the user gave, as words of a command."""
    return [values[name].serialize() for name in sorted(values) if values[name].present]


def require(values: flags.FlagValues, name: str, example: str) -> str:
    """Return the value of a flag that must be given.

    Raises:
      UserError: it is missing.
    """
    value = get(values, name)
    if not value:
        raise UserError(f"--{name} is missing; give --{name}={example}.")
    return value


def refuse_words(words: list[str]) -> None:
    """Refuse words that the verb does not know.

    Raises:
      UserError: there is such a word; names the first one.
    """
    if words:
        raise UserError(f"{words[0]!r} is not expected; flags start with --.")


def split_action(
    verb: str, rest: list[str], actions: Sequence[str]
) -> tuple[str, list[str], list[str]]:
    """Split the words of a verb that has several actions.

    Args:
      verb: the name of the verb.
      rest: the words that are no flags.
      actions: the allowed first words.

    Returns:
      The action, the words after it, and the overrides.

    Raises:
      UserError: the action is missing or unknown.
    """
    overrides = [word for word in rest if is_override(word)]
    words = [word for word in rest if not is_override(word)]
    action = words[0] if words else ""
    checks.choice(f"the word after {verb}", action, actions)
    return action, words[1:], overrides


def define_config(
    values: flags.FlagValues,
    meaning: str = "config file, FILE.py or FILE.py:variant",
) -> None:
    """Add the flag ``--config``."""
    flags.DEFINE_string("config", None, meaning, flag_values=values)


def define_workdir(values: flags.FlagValues) -> None:
    """Add the flag ``--workdir``."""
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
