"""The type of a verb, and the helpers that verbs share."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from jaxssl.config import checks
from jaxssl.errors import UserError
from jaxssl.run import config_file
from jaxssl.text import printable


class Flag(NamedTuple):
    """One flag of a verb.

    Attributes:
      name: the flag without dashes.
      kind: str, int, bool or list; a list is written with commas.
      default: the value where the flag is not given.
      meaning: what ``--help`` says.
      bounds: the smallest and the largest allowed number, for an int.
      actions: those of the verb that read the flag; empty if all do.
    """

    name: str
    kind: type
    default: Any
    meaning: str
    bounds: tuple[int, int] | None = None
    actions: tuple[str, ...] = ()


class Verb(NamedTuple):
    """One command.

    Attributes:
      run: ``run(values, rest)`` takes the parsed flags and the words that are no flags,
        and returns the exit code.
      flags: the flags of the command.
      usage: the line after ``usage:``.
      about: the docstring of the verb's module, which ``--help`` shows.
    """

    run: Callable[[flags.FlagValues, list[str]], int]
    flags: Sequence[Flag]
    usage: str
    about: str | None


WORKDIR = Flag("workdir", str, None, "folder of the run")
CONFIG = Flag("config", str, None, "config file, FILE.py or FILE.py:variant")

_DEFINE: dict[type, Callable[..., Any]] = {
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    bool: flags.DEFINE_bool,
    list: flags.DEFINE_list,
}


def define(values: flags.FlagValues, flag: Flag) -> None:
    """Add a flag to those that are parsed."""
    limits = {}
    if flag.bounds:
        limits = dict(zip(("lower_bound", "upper_bound"), flag.bounds, strict=True))
    _DEFINE[flag.kind](
        flag.name, flag.default, flag.meaning, flag_values=values, **limits
    )


def is_override(word: str) -> bool:
    """Return whether a word sets a field of the config, as ``--config.seed=1`` does."""
    return config_file.OVERRIDE.match(word) is not None


def say(line: str) -> None:
    """Show one line on standard output; names in it cannot change the terminal."""
    print(printable(line), flush=True)


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


def refuse_unread(
    values: flags.FlagValues, known: Sequence[Flag], verb: str, action: str
) -> None:
    """Refuse flags that an action of a verb does not read.

    Args:
      values: the flags.
      known: those of the verb.
      verb: the name of the verb.
      action: the action that was asked for.

    Raises:
      UserError: names the first such flag that was given, and who reads it.
    """
    for flag in known:
        if flag.actions and action not in flag.actions and values[flag.name].present:
            readers = " and ".join(f"{verb} {reader}" for reader in flag.actions)
            raise UserError(
                f"--{flag.name} is for {readers}; {verb} {action} does not read it."
            )


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
