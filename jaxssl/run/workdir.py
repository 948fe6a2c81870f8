"""A run's folder: its ``config.json`` and ``run.json``, and who may use it."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jaxssl
from jaxssl import atomic_write, errors, safe_files, text, trees
from jaxssl.distributed import coordination
from jaxssl.errors import UserError
from jaxssl.run import compatibility, config_file, metrics, process_log
from jaxssl.run import launch as launches
from jaxssl.run.config_file import Recipe
from jaxssl.run.lock import LOCK
from jaxssl.safe_files import UnreadableFile

CONFIG = "config.json"
RUN = "run.json"

# What messages call the data set of a run that mini-batches come from.
TRAINING_SET = "the training set"

# Names that a run writes after its config.json.
_WRITTEN = (
    RUN,
    metrics.JSONL,
    metrics.UNITS,
    metrics.BOARD,
    "checkpoints",
    "nonfinite-",
)


class Known(NamedTuple):
    """What is known beside the config when a run wants to use a workdir.

    Attributes:
      has_checkpoint: whether the folder has a checkpoint; a damaged one counts.
      fingerprint: of the training set; empty if it is not known yet.
      defaults: see `compatibility.compare`; None if they are not known yet.
      others: fingerprints of the other data sets that the config opens, by name.
    """

    has_checkpoint: bool
    fingerprint: str = ""
    defaults: Mapping[str, Any] | None = None
    others: Mapping[str, str] = {}

    def data(self) -> dict[str, str]:
        """Return the fingerprints that are known, by the name of the data set."""
        train = {TRAINING_SET: self.fingerprint} if self.fingerprint else {}
        return {**train, **self.others}


def check(workdir: Path, wanted: Recipe, known: Known) -> list[str]:
    """Raise if a run may not use ``workdir``; nothing is written.

    In a folder without a checkpoint nothing can be lost, so there every setting may
    change.

    Args:
      workdir: the run's folder; may not exist yet.
      wanted: what is about to be trained.
      known: what else is known.

    Returns:
      One line for each setting that differs from the last start and may differ.

    Raises:
      UserError: ``workdir`` is a file, or a folder with other files.
      DriftError: the folder holds a run with another config or on other data.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir: {workdir} is a file; give a folder.")
    if not os.path.lexists(workdir / CONFIG):
        _check_empty(workdir, known)
        return []
    if not known.has_checkpoint and find_config_damage(workdir):
        return []  # `write` sets the file aside.
    changes = compatibility.compare(read(workdir), wanted, known.defaults)
    data = check_data(workdir, known)
    if not known.has_checkpoint:
        return [*changes.refused, *changes.moved, *changes.allowed, *data.refused]
    if changes.refused:
        raise _refuse(workdir, "with another config", changes.refused, "old values")
    if data.refused:
        other = [*data.refused, *changes.moved]
        raise _refuse(workdir, "on other data", other, "old files")
    if changes.moved and known.fingerprint and data.allowed:
        unknown = [*changes.moved, *data.allowed]
        raise _refuse(workdir, "on data that moved", unknown, "old values")
    same = " (the data moved, and are the same)" if known.fingerprint else ""
    moved = [f"{change}{same}" for change in changes.moved]
    return [*changes.allowed, *moved, *data.allowed]


def _refuse(
    workdir: Path, why: str, changes: Sequence[str], old: str
) -> errors.DriftError:
    return errors.DriftError(
        f"{workdir} holds a run {why}: {text.shorten(changes)}. "
        f"Give the {old} back, or another --workdir."
    )


def check_data(workdir: Path, known: Known) -> compatibility.Changes:
    """Compare the data with those of the last start; see `compatibility.compare_data`.

    Args:
      workdir: the run's folder.
      known: has the fingerprints.
    """
    launch = _read_launch(workdir)
    others = launch.get("other_data")
    recorded = others if isinstance(others, dict) else {}
    recorded |= {TRAINING_SET: launch.get("data_fingerprint")}
    return compatibility.compare_data(recorded, known.data())


def check_all(workdir: Path, wanted: Recipe | None, known: Known) -> None:
    """Raise on every process if `check` raises, or if the processes differ.

    Args:
      workdir: the run's folder; may not exist yet.
      wanted: what this process is about to train; None if the run records no config.
      known: what else this process knows.

    Raises:
      UserError: see `check`.
      DriftError: see `check`; or names the process and the setting that differ.
    """
    if coordination.count() > 1:
        coordination.compare(_describe_setup(wanted, known.fingerprint, known.others))
    if wanted is not None:
        coordination.decide("check", lambda: check(workdir, wanted, known))


def _describe_setup(
    wanted: Recipe | None, fingerprint: str, others: Mapping[str, str] = {}
) -> dict[str, Any]:
    """Return all that must be the same on all processes, by name."""
    code = _hash_files(Path(jaxssl.__file__).parent.rglob("*.py"))
    setup: dict[str, Any] = {"data": fingerprint, "code": code}
    setup |= {**others, **launches.read_versions()}
    if wanted is not None:
        setup["variant"] = wanted.variant
        setup["config file"] = _hash_files(_find_config_files(wanted.file))
        setup |= trees.flatten(config_file.to_plain(wanted.config))
    return setup


def _find_config_files(config: Path) -> Iterator[Path]:
    """Yield a config file and the modules of its folder that are imported."""
    yield config
    for module in [*sys.modules.values()]:
        path = getattr(module, "__file__", None)
        if path and Path(path) != config and Path(path).parent == config.parent:
            yield Path(path)


def _hash_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.parent.name}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _read_launch(workdir: Path) -> dict[str, Any]:
    """Return ``run.json``; empty if it is missing, or damaged and thus set aside."""
    try:
        return safe_files.read_json(workdir / RUN)
    except (FileNotFoundError, UnreadableFile):
        return {}


def _check_empty(workdir: Path, known: Known) -> None:
    names = [path.name for path in workdir.iterdir()] if workdir.is_dir() else []
    # These may be there before config.json: the temporary file of a config.json that a
    # crash cut short, the logs of several processes, and the stacks of a hang.
    allowed = (LOCK, f".{CONFIG}.", process_log.FOLDER, "hang-")
    if not known.has_checkpoint and (workdir / LOCK).is_file():
        allowed += _WRITTEN  # A run without a checkpoint has nothing to lose.
    if [name for name in names if not name.startswith(allowed)]:
        raise UserError(
            f"--workdir: {workdir} is not empty and holds no {CONFIG}, so it is no run "
            "of jaxssl; give a new or empty folder."
        )


def find_config_damage(workdir: Path) -> str | None:
    """Return a clause that says why ``config.json`` cannot be read, or None."""
    try:
        _load_recipe(workdir / CONFIG)
    except FileNotFoundError:
        return None
    except UnreadableFile as error:
        return str(error)
    return None


def _load_recipe(path: Path) -> Recipe:
    """Return a stored recipe.

    Raises:
      FileNotFoundError, OSError: see `safe_files.read_bytes`.
      UnreadableFile: the file holds no recipe.
    """
    data = safe_files.read_bytes(path, safe_files.JSON_BYTES)
    try:
        return config_file.loads(data)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableFile(f"is damaged: {error!r}") from error


def read(workdir: Path) -> Recipe:
    """Read the recipe of a run.

    Raises:
      UserError: the folder holds no run, or its ``config.json`` is damaged.
    """
    path = workdir / CONFIG
    try:
        return _load_recipe(path)
    except FileNotFoundError:
        raise UserError(
            f"--workdir: {workdir} holds no run (no {CONFIG}); "
            f"train one first: jaxssl train --config=FILE --workdir={workdir}"
        ) from None
    except UnreadableFile as error:
        raise UserError(
            f"{path} {error}. Bring back a copy, or give another --workdir."
        ) from error


def set_unusable_aside(workdir: Path, *, anew: bool) -> list[str]:
    """Rename files that a run can neither read nor write; its checkpoints stay.

    Args:
      workdir: the run's folder, locked by this process.
      anew: whether the run begins; else its config says what its checkpoints are.

    Returns:
      One line for each of them.
    """
    damage = {
        RUN: _find_object_damage(workdir / RUN),
        metrics.UNITS: _find_object_damage(workdir / metrics.UNITS),
        metrics.JSONL: metrics.find_damage(workdir / metrics.JSONL),
        CONFIG: find_config_damage(workdir) if anew else None,
    }
    if (workdir / metrics.JSONL).is_symlink():
        damage[metrics.JSONL] = "is a link"
    for name in (metrics.BOARD, process_log.FOLDER):
        path = workdir / name
        if os.path.lexists(path) and not path.is_dir():
            damage[name] = "is no folder"
    lines = []
    for name, reason in damage.items():
        if reason is not None:
            aside = _set_aside(workdir / name)
            unknown = "; the data were not compared with those of the last start"
            more = unknown if name == RUN and not anew else ""
            lines.append(f"{workdir / name} {reason}: SET ASIDE as {aside.name}{more}.")
    return lines


def _set_aside(path: Path) -> Path:
    """Rename a file; of a log with damaged lines the original keeps the others."""
    aside = safe_files.set_aside(path)
    if path.name == metrics.JSONL and aside.is_file():
        shutil.copyfile(aside, path)
    return aside


def _find_object_damage(path: Path) -> str | None:
    try:
        safe_files.read_json(path)
    except FileNotFoundError:
        return None
    except UnreadableFile as error:
        return str(error)
    return None


def write(
    workdir: Path, wanted: Recipe, known: Known, command: Sequence[str]
) -> list[str]:
    """Write ``config.json`` and ``run.json``.

    Args:
      workdir: the run's folder, locked by this process.
      wanted: what is trained.
      known: what else is known.
      command: the command line that started the run.

    Returns:
      One line for each setting, package version or device that differs from the last
      start.

    Raises:
      DriftError: see `check`.
    """
    changes = check(workdir, wanted, known)
    launch = {
        **launches.describe(command),
        "data_fingerprint": known.fingerprint,
        "other_data": dict(known.others),
    }
    if last := _read_launch(workdir):
        if known.has_checkpoint:
            changes += launches.compare(last, launch)
        earlier = last.pop("earlier", [])
        launch["earlier"] = [*(earlier if isinstance(earlier, list) else []), last]
    atomic_write.write(workdir / CONFIG, config_file.dumps(wanted))
    data = (json.dumps(launch, indent=2) + "\n").encode()
    atomic_write.write(workdir / RUN, data)
    return changes
