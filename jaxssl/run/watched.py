"""A config that notes which of its values are read, and what is asked for in vain."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxssl import trees
from jaxssl.errors import UserError

SIMILAR = 0.75
"""From here on two names are taken for one with a slip; 1 is the same name."""


class WatchedConfig(ConfigDict):
    """A ``ConfigDict`` that remembers the paths of what was asked for."""

    def __init__(
        self,
        values: Mapping[str, Any] | None = None,
        asked: set[str] | None = None,
        path: str = "",
    ) -> None:
        """Copy a section and those in it.

        Args:
          values: name to value.
          asked: gets the path of each value that is asked for, there or not.
          path: of the section with a dot behind it, or nothing for the root.
        """
        super().__init__()
        asked = set() if asked is None else asked
        object.__setattr__(self, "_asked", asked)
        object.__setattr__(self, "_path", path)
        for name, value in (values or {}).items():
            inner = isinstance(value, Mapping)
            self[name] = type(self)(value, asked, f"{path}{name}.") if inner else value

    def __getitem__(self, key: str) -> Any:
        """Return a value or a section."""
        if key not in self or not isinstance(self._fields[key], ConfigDict):
            self._asked.add(f"{self._path}{key}")
        return super().__getitem__(key)


def watch(config: ConfigDict) -> WatchedConfig:
    """Return a locked copy of a config, which notes what is asked for."""
    copy = WatchedConfig(config.to_dict())
    copy.lock()
    return copy


def find_unread(config: WatchedConfig) -> list[str]:
    """Return the values that nobody asked for.

    Args:
      config: after all were read that are.

    Returns:
      Paths; a section in which nothing was read stands for all that is in it.

    Raises:
      UserError: the name of one of them is nearly that of another that was asked for.
    """
    asked = {*config._asked}
    used = {section for path in asked for section in _sections(path)}
    unread = []
    for path, value in trees.flatten(config.to_dict()).items():
        if path in asked or isinstance(value, Mapping):
            continue
        highest = next(x for x in _sections(path) if x not in used)
        _refuse_slip(highest, used)
        if highest not in unread:
            unread.append(highest)
    return unread


def _sections(path: str) -> list[str]:
    """Return the sections that a value lies in, outermost first, and its own path."""
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _refuse_slip(path: str, used: set[str]) -> None:
    """Raise a UserError if the name beside it that was asked for is nearly the same."""
    section, _, name = path.rpartition(".")
    beside = [
        other.rpartition(".")[2]
        for other in used
        if other.rpartition(".")[0] == section
    ]
    if close := difflib.get_close_matches(name, beside, n=1, cutoff=SIMILAR):
        raise UserError(
            f"config.{path} is read by nothing in this run. Did you mean {close[0]!r}?"
        )
