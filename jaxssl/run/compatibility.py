"""What may differ between two starts of one run, and what may not.

Orbax sees shapes, and nothing else: a checkpoint of another learning rate, seed or data
set restores without a word, and even another dtype is cast. So the values themselves
are compared, by class: what must match, what may change, and where it runs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxssl import trees
from jaxssl.data import fingerprint
from jaxssl.run import config_file
from jaxssl.run.config_file import Recipe

MAY_CHANGE = (
    "train.log_every",
    "train.save_every",
    "train.eval_every",
    "train.keep_checkpoints",
    "train.num_workers",
    "train.max_bad_records",
)
"""What a restart may change: nothing here moves a parameter."""

ROUNDS = ("compute.remat",)
"""What a restart may change as well, though it may move roundings."""

TOPOLOGY = "mesh"
"""The section that says where a run computes: sums are taken in another order there."""

DATA_DIR = "data_dir"
"""The last name of settings that say where data are, as ``noise.file`` does."""

ROUNDING = "from here on equal up to rounding, not bit for bit"
SOFTWARE = "bit for bit holds for the same software"


class Changes(NamedTuple):
    """What differs from the last start, each in words.

    Attributes:
      refused: what must match.
      allowed: what may change, and the topology.
      moved: where the data are, which may change if the data are the same.
    """

    refused: list[str]
    allowed: list[str]
    moved: list[str]


def compare(
    old: Recipe, new: Recipe, defaults: Mapping[str, Any] | None = None
) -> Changes:
    """Sort the differences of two recipes by class.

    A setting that only one of the two has is taken to be at its default in the other,
    since an experiment is built that way.

    Args:
      old: what the run was started with.
      new: what is asked for now.
      defaults: of the settings, by their path (`jaxssl.config.section.recorded`). None
        where they are not known yet: then only settings that both have are compared.

    Returns:
      The differences; each line names the setting, its old and its new value.
    """
    before, after = (trees.flatten(config_file.to_plain(r.config)) for r in (old, new))
    changes = Changes([], [], [])
    if old.file.name != new.file.name:
        changes.refused.append(f"--config was {old.file.name}, now {new.file.name}")
    for name in sorted(before.keys() ^ after.keys()):
        side = after if name in before else before  # The one that lacks the setting.
        if defaults is None:
            side[name] = before[name] if name in before else after[name]
        elif name in defaults:
            side[name] = config_file.to_plain(defaults[name])
            if side is before and before[name] == after[name]:
                changes.allowed.append(
                    f"{name} is new, the run goes on with its default {after[name]!r}"
                )
    for name, message in differ(before, after).items():
        if name.split(".")[0] == TOPOLOGY or name in ROUNDS:
            changes.allowed.append(f"{message} ({ROUNDING})")
        elif is_place(name):
            changes.moved.append(message)
        else:
            lines = changes.allowed if name in MAY_CHANGE else changes.refused
            lines.append(message)
    return changes


def is_place(name: str) -> bool:
    """Return whether a setting, by its path, says where data are."""
    return name.split(".")[-1] == DATA_DIR or name == "noise.file"


def compare_data(before: Mapping[str, Any], after: Mapping[str, str]) -> Changes:
    """Compare the fingerprints of data sets.

    Args:
      before: those of the last start, by the name of the data set. Runs of version 0.1
        have one that does not follow the content of files, or none. What is no text
        counts as none: the file may be damaged.
      after: those of now.

    Returns:
      The data sets that differ as refused, those that cannot be compared as allowed.
    """
    changes = Changes([], [], [])
    unknown = []
    for name, now in after.items():
        was = before.get(name)
        if not isinstance(was, str) or not was or not fingerprint.comparable(was, now):
            unknown.append(name)
        elif was != now:
            changes.refused.append(f"{name}'s fingerprint was {was}, now {now}")
    if unknown:
        changes.allowed.append(
            f"{', '.join(unknown)} could not be compared: the last start did not note "
            "the content"
        )
    return changes


def differ(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Return, by name, what differs between two flat mappings, in words."""
    differences = {}
    for name in [*before, *(n for n in after if n not in before)]:
        was, now = before.get(name, "absent"), after.get(name, "absent")
        if was != now:
            differences[name] = f"{name} was {was!r}, now {now!r}"
    return differences
