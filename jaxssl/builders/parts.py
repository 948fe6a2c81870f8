"""Parts that all experiments have: data, optimizers, and what is checked of them."""

from collections.abc import Callable, Sequence
from typing import Any

import optax

from jaxssl.config import compute as compute_config
from jaxssl.config.checks import choice
from jaxssl.config.section import from_config
from jaxssl.data import registry
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.models.network import compute_in, rematerialized
from jaxssl.optim import adam, sgd
from jaxssl.types import Network

Section = Any
"""An ``ml_collections.ConfigDict``; its fields are known at run time only."""

MakeNetwork = Callable[[int | None], Network]
"""Makes a network with so many classes; with None, its trunk on the same parameters."""


def load_splits(section: Section, *splits: str) -> list[Source]:
    """Load splits of one data set.

    Args:
      section: the config's ``data``: ``name``, ``data_dir`` (empty: where its files
        usually are) and the data set's own options.
      *splits: which.

    Returns:
      One source a split.
    """
    options = section.to_dict()
    name = options.pop("name")
    if not options.get("data_dir"):
        options.pop("data_dir", None)
    return [registry.load(name, split=split, **options) for split in splits]


def read_compute(config: Section) -> compute_config.ComputeConfig:
    """Read the section ``compute``; a config without one has its defaults."""
    section = config.get("compute", {})
    return from_config(compute_config.ComputeConfig, section, where="compute")


def computed(network: Network, compute: compute_config.ComputeConfig) -> Network:
    """Return the network as the section ``compute`` asks for it."""
    if compute.dtype != "float32":
        network = compute_in(network, compute.dtype)
    return rematerialized(network) if compute.remat else network


def make_txs(
    section: Section, players: Sequence[str], num_steps: int
) -> dict[str, optax.GradientTransformation]:
    """Return an optimizer a player: AdamW for the classifier, Adam for the others.

    Args:
      section: the config's ``optim``, one section a player.
      players: those that are trained.
      num_steps: length of the run.
    """
    txs = {}
    for player in players:
        where = f"optim.{player}"
        if player == "classifier":
            config = from_config(adam.AdamWConfig, section[player], where=where)
            txs[player] = adam.adamw(config, num_steps=num_steps)
        else:
            config = from_config(adam.AdamConfig, section[player], where=where)
            txs[player] = adam.adam(config)
    return txs


def make_sgd(section: Section, num_steps: int) -> optax.GradientTransformation:
    """Return the SGD of chapter 8 for the player "classifier".

    Args:
      section: the config's ``optim``.
      num_steps: length of the run.
    """
    config = from_config(sgd.SGDConfig, section.classifier, where="optim.classifier")
    return sgd.sgd(config, num_steps=num_steps)


def init_from(config: Section, players: Sequence[str]) -> dict[str, str]:
    """Read the section ``init_from``: player to workdir, empty for a fresh start."""
    runs = {}
    for player, run in config.init_from.items():
        if run and run != "random":
            choice("init_from", player, players)
            runs[player] = run
    return runs


def check_classes(train: Source, test: Source) -> None:
    """Raise a UserError if one label means two classes."""
    pairs = zip(train.class_names, test.class_names, strict=False)
    if clash := [f"{a!r} and {b!r}" for a, b in pairs if a != b]:
        raise UserError(
            f"{train.name} and {test.name} need the same classes in the same order; "
            f"one label means {clash[0]}."
        )


def check_crop(where: str, crop_size: int, *sources: Source) -> None:
    """Raise a UserError if crops are larger than the images."""
    for source in sources:
        height, width, _ = source.spec["image"].shape
        if crop_size > min(height, width):
            raise UserError(
                f"{where}.crop_size is {crop_size} but the images of {source.name} are "
                f"{height}x{width}; it must be at most {min(height, width)}."
            )
