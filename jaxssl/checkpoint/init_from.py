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


def check(init_from: Mapping[str, str]) -> None:
    """Raise before anything is written if a run has nothing to take.

    Args:
      init_from: player to the workdir of another run.

    Raises:
      UserError: names the workdir without a checkpoint.
    """
    for workdir in sorted(set(init_from.values())):
        if not checkpoints.exists(Path(workdir)):
            raise UserError(_describe_missing(Path(workdir)))


def _describe_missing(workdir: Path) -> str:
    return f"init_from: {workdir} has no checkpoint; train that run first."


def restore_players(
    workdir: Path,
    players: Sequence[str],
    state: TrainState,
    heads: Mapping[str, Sequence[str]],
    say: text.Say,
) -> TrainState:
    """Take the parameters and statistics of some players from another run.

    A layer of a player's head keeps the values of ``state`` where its shape is another:
    another task may count other classes or see other crops. A layer of the head that
    ``state`` lacks is left out, as where the player is a frozen trunk. All other layers
    must have the shapes and dtypes that the other run stored. What ``state.extra``
    holds of a player, such as averaged weights, keeps its fresh values.

    Args:
      workdir: the other run's folder; its newest good checkpoint is read.
      players: whose arrays to take.
      state: where to put them; also gives shapes and shardings.
      heads: player to the names of the layers in its network's head
        (`jaxssl.types.Network`); a player that is left out has no head.
      say: hears what was taken, and which layers of a head and arrays of
        ``state.extra`` were not.

    Returns:
      ``state`` with the players' ``params`` and ``stats`` replaced.

    Raises:
      UserError: there is no checkpoint, no such player, or it does not fit.
    """
    step = coordination.decide("init_from", lambda: checkpoints.find_newest(workdir)[0])
    if step is None:
        raise UserError(_describe_missing(workdir))
    folder = workdir.absolute() / checkpoints.FOLDER / str(step)
    stored = coordination.each("leaves", lambda: _read_leaves(folder))
    _check_players(players, state, stored, folder)
    ours = {
        "params": {player: state.params[player] for player in players},
        "stats": {player: state.stats[player] for player in players},
    }
    fresh = _find_fresh(ours, stored, players, heads, folder)
    item = _prune(ours, {path for path in trees.describe(ours) if path not in fresh})
    with ocp.Checkpointer(
        ocp.PyTreeCheckpointHandler(),
        multiprocessing_options=checkpoints.make_options(),
    ) as checkpointer:
        restored = checkpointer.restore(
            folder / checkpoints.ITEM,
            args=ocp.args.PyTreeRestore(
                item=item,
                restore_args=ocp.checkpoint_utils.construct_restore_args(item),
                partial_restore=True,
            ),
        )
    merged = _graft(ours, restored)
    say(f"{', '.join(players)}: initialised from step {step} of {workdir}.")
    for path in fresh:
        theirs = trees.describe_leaf(stored.get(path))
        say(f"{path} keeps its fresh values: it was {theirs} there.")
    _say_extra(players, state, say)
    return state._replace(
        params={**state.params, **merged["params"]},
        stats={**state.stats, **merged["stats"]},
    )


def _say_extra(players: Sequence[str], state: TrainState, say: text.Say) -> None:
    """Say of which players ``extra`` holds arrays: by player or by parameter name."""
    extra = trees.describe({"extra": state.extra})
    for player in players:
        layers = tuple(f"/{path}" for path in trees.describe(state.params[player]))
        kept = [p for p in extra if player in p.split("/") or p.endswith(layers)]
        if kept:
            say(
                f"{player}: {kept[0]} and all {len(kept)} of its arrays in extra keep "
                "their fresh values."
            )


def _read_leaves(folder: Path) -> dict[str, list]:
    """Read which leaves another run saved.

    Raises:
      UserError: this process does not see the folder.
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
    theirs = {path.split("/")[1] for path in stored if path.startswith("params")}
    for player in players:
        for owner, names in (("this task", set(state.params)), (folder, theirs)):
            if player not in names:
                raise UserError(
                    f"init_from: {owner} has no player {player!r}; it has "
                    f"{', '.join(sorted(names))}."
                )


def _find_fresh(
    ours: Mapping,
    stored: Mapping,
    players: Sequence[str],
    heads: Mapping[str, Sequence[str]],
    folder: Path,
) -> list[str]:
    """Return the leaves of a head that does not fit; raise if anything else differs."""
    wanted = trees.describe(ours)
    parts = tuple(f"{part}/{p}/" for part in ("params", "stats") for p in players)
    extra = [path for path in stored if path.startswith(parts) and path not in wanted]
    differing = [
        path for path in [*wanted, *extra] if stored.get(path) != wanted.get(path)
    ]
    for path in differing:
        _, player, *layers = path.split("/")
        head = heads.get(player, ())
        if not layers or layers[0] not in head:
            theirs, mine = (
                trees.describe_leaf(leaves.get(path)) for leaves in (stored, wanted)
            )
            exception = f"; only its head may differ: {', '.join(head)}" if head else ""
            raise UserError(
                f"init_from: {path} is {theirs} in {folder}, but this config asks for "
                f"{mine}. Use the same network{exception}."
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


def _graft(tree: Any, restored: Any) -> Any:
    """Replace the leaves of nested dicts by those that were restored."""
    if not isinstance(tree, Mapping):
        return restored
    return {
        name: _graft(value, restored[name]) if name in restored else value
        for name, value in tree.items()
    }
