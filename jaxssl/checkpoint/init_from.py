"""The first arrays of players that another run has trained (``init_from``)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from jaxssl import text, trees
from jaxssl.checkpoint import manifest
from jaxssl.checkpoint import store as checkpoints
from jaxssl.distributed import coordination
from jaxssl.errors import UserError
from jaxssl.types import TrainState

HEADS = frozenset({"fc1", "fc2", "logits"})  # Dense layers behind the features.


def restore_players(
    workdir: Path, players: Sequence[str], state: TrainState, say: text.Say
) -> TrainState:
    """Take the parameters and statistics of some players from another run.

    Dense layers of another size (``fc1``, ``fc2``, ``logits``) stay as they are in
    ``state``, because another task may count other classes or see other crops; those
    that ``state`` lacks are left out, as a frozen trunk has none. All else must fit.

    Args:
      workdir: the other run's folder; its newest good checkpoint is read.
      players: whose arrays to take.
      state: where to put them; also gives shapes and shardings.
      say: hears what was taken and which head was not.

    Returns:
      ``state`` with the players' ``params`` and ``stats`` replaced.

    Raises:
      UserError: there is no checkpoint, no such player, or it does not fit.
    """
    step = coordination.decide("init_from", lambda: checkpoints.find_newest(workdir)[0])
    if step is None:
        raise UserError(
            f"init_from: {workdir} has no checkpoint; train that run first."
        )
    folder = workdir.absolute() / checkpoints.FOLDER / str(step)
    stored = coordination.each("leaves", lambda: _read_leaves(folder))
    _check_players(players, state, stored, folder)
    ours = {
        "params": {player: state.params[player] for player in players},
        "stats": {player: state.stats[player] for player in players},
    }
    fresh = _find_fresh(ours, stored, players, folder)
    item = _prune(ours, {path for path in trees.describe(ours) if path not in fresh})
    with ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(),
        multiprocessing_options=checkpoints.make_options(),
    ) as checkpointer:
        found = checkpointer.restore(
            folder / checkpoints.ITEM,
            args=ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            ),
        )
    merged = _graft(ours, found)
    say(f"{', '.join(players)}: initialised from step {step} of {workdir}.")
    for path in fresh:
        there = trees.describe_leaf(stored.get(path))
        say(f"{path} keeps its fresh values: it was {there} there.")
    return state._replace(
        params={**state.params, **merged["params"]},
        stats={**state.stats, **merged["stats"]},
    )


def _read_leaves(folder: Path) -> dict[str, list]:
    """Read what another run saved; each process has to see its folder.

    Raises:
      UserError: this one does not.
    """
    try:
        return manifest.read_leaves(folder)
    except FileNotFoundError as error:
        raise UserError(
            f"init_from: there is no {folder} here; give a folder on a disk that all "
            "processes share."
        ) from error


def _check_players(
    players: Sequence[str], state: TrainState, stored: Mapping, folder: Path
) -> None:
    there = sorted({path.split("/")[1] for path in stored if path.startswith("params")})
    for player in players:
        for place, names in (("this task", sorted(state.params)), (folder, there)):
            if player not in names:
                raise UserError(
                    f"init_from: {place} has no player {player!r}; it has "
                    f"{', '.join(names)}."
                )


def _find_fresh(
    ours: Mapping, stored: Mapping, players: Sequence[str], folder: Path
) -> list[str]:
    """Return the leaves of a head that does not fit; raise if anything else differs."""
    wanted = trees.describe(ours)
    parts = tuple(f"{part}/{p}/" for part in ("params", "stats") for p in players)
    extra = [path for path in stored if path.startswith(parts) and path not in wanted]
    differing = [
        path for path in [*wanted, *extra] if stored.get(path) != wanted.get(path)
    ]
    for path in differing:
        if HEADS.isdisjoint(path.split("/")):
            there, here = (
                trees.describe_leaf(leaves.get(path)) for leaves in (stored, wanted)
            )
            raise UserError(
                f"init_from: {path} is {there} in {folder}, but this config asks for "
                f"{here}. Use the same network."
            )
    return [path for path in differing if path in wanted]


def _prune(tree: Mapping, keep: set[str], prefix: str = "") -> dict:
    """Keep the leaves of nested dicts whose path is in ``keep``, and no empty dict."""
    kept = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            if part := _prune(value, keep, f"{prefix}{name}/"):
                kept[name] = part
        elif f"{prefix}{name}" in keep:
            kept[name] = value
    return kept


def _graft(tree: Any, found: Any) -> Any:
    """Replace the leaves of nested dicts by those that were found."""
    if not isinstance(tree, Mapping):
        return found
    return {
        name: _graft(value, found[name]) if name in found else value
        for name, value in tree.items()
    }
