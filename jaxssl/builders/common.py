"""What all builders share: data, networks, and what is checked of them."""

import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.config import fields, section
from jaxssl.config.checks import choice
from jaxssl.config.compute import ComputeConfig
from jaxssl.data import registry
from jaxssl.data.labelled import check_trained_classes, labelled, tell_unlabelled
from jaxssl.data.source import Source, require
from jaxssl.errors import UserError
from jaxssl.evals.crops import VIEWS, CenterCrops
from jaxssl.evals.logits import LogitsConfig
from jaxssl.models.network import compute_in, rematerialized
from jaxssl.text import shorten
from jaxssl.train import fits
from jaxssl.types import Network

logger = logging.getLogger(__name__)

FEW_ROWS = 4096
"""Images of a forward pass that fit into memory if anything does."""

RootConfig = Any
"""The whole ``ml_collections.ConfigDict``; its fields are known at run time only."""


MakeNetwork = Callable[..., Network]
"""Called with ``num_classes=n``; with None it makes the trunk on the same parameters.

`jaxssl.config.section.bind` makes one from a function of `jaxssl.models`.
"""


def load_splits(config: RootConfig, *splits: str, **changes: Any) -> list[Source]:
    """Load splits of one data set.

    Args:
      config: the section ``data`` is read: ``name``, ``data_dir`` (empty: where its
        files usually are) and the data set's own options.
      *splits: names of the splits, as ``train``.
      **changes: options of the data set that replace those of the section.

    Returns:
      One source for each split.
    """
    options = section.find(config, "data") | changes
    name = fields.convert(options.pop("name", ""), str, "data.name")
    known = section.default_options(registry.find_loader(name))
    section.record("data", known | {"data_dir": ""})
    data_dir = fields.convert(options.pop("data_dir", ""), str | None, "data.data_dir")
    if data_dir:
        options["data_dir"] = data_dir
    return [registry.load(name, split=split, **options) for split in splits]


def computed(network: Network, compute: ComputeConfig) -> Network:
    """Return the network as the section ``compute`` asks for it."""
    if compute.dtype != "float32":
        network = compute_in(network, compute.dtype)
    return rematerialized(network) if compute.remat else network


def read_prediction(
    config: RootConfig, path: str, *sources: Source, network: Network | None = None
) -> dict[str, Any]:
    """Read how a classifier's own predictions are asked for.

    Args:
      config: the section at ``path`` is read.
      path: of a `LogitsConfig`, as ``eval.test``.
      *sources: the images, whose size is checked.
      network: asked for the predictions; a pass through it must fit into memory.

    Returns:
      The arguments ``prepare`` and ``batch_size`` of an evaluation.

    Raises:
      UserError: the crops are larger than the images, or too many for the memory.
    """
    logits = section.read(LogitsConfig, config, path)
    check_crop(path, logits.crop_size, *sources)
    if network:
        rows = logits.batch_size * VIEWS[logits.views]
        check_forward(path, rows, logits.crop_size, network)
    prepare = CenterCrops(logits.crop_size, logits.views)
    return {"prepare": prepare, "batch_size": logits.batch_size}


def read_init_from(config: RootConfig, players: Sequence[str]) -> dict[str, str]:
    """Read the section ``init_from``.

    Args:
      config: each key of the section is a player; its value is a workdir, or empty or
        ``random`` for fresh parameters.
      players: those that the experiment has.

    Returns:
      Player to workdir, of the players that start from another run.

    Raises:
      UserError: a workdir is given for a player that the experiment lacks.
    """
    section.record("init_from", dict.fromkeys(players, ""))
    given = {
        player: fields.convert(run, str, f"init_from.{player}")
        for player, run in section.find(config, "init_from").items()
    }
    runs = {player: run for player, run in given.items() if run not in ("", "random")}
    for player in runs:
        choice("init_from", player, players)
    return runs


def check_classes(train: Source, test: Source) -> None:
    """Check that what is learnt from ``train`` can be tested on ``test``.

    All names of classes are compared. Classes at the end of the training set's may be
    missing from the test set, which a line says.

    Raises:
      UserError: one label means two classes, or ``test`` has a class that ``train``
        lacks.
    """
    ours, theirs = train.class_names, test.class_names
    if ours and theirs:
        _compare_names(train, test)
    check_trained_classes(train, test)


def _compare_names(train: Source, test: Source) -> None:
    ours, theirs = train.class_names, test.class_names
    pairs = zip(ours, theirs, strict=False)
    if clash := [f"{a!r} and {b!r}" for a, b in pairs if a != b]:
        lacking = [name for name in ours if name not in theirs]
        more = [name for name in theirs if name not in ours]
        alone = [
            *([f"the first alone has {shorten(lacking)}"] if lacking else []),
            *([f"the second alone has {shorten(more)}"] if more else []),
        ]
        raise UserError(
            f"{train.name} and {test.name} need the same classes in the same order; "
            f"{'; '.join([f'one label means {clash[0]}', *alone])}."
        )
    if more := theirs[len(ours) :]:
        raise UserError(
            f"{test.name} has classes that {train.name} lacks: "
            f"{shorten([*map(repr, more)])}; nothing can be learnt of them. Add them "
            "to the training set, or take them out of the test set."
        )
    if lacking := ours[len(theirs) :]:
        logger.warning(
            "%s has no image of %s, which %s has",
            *(test.name, shorten(lacking), train.name),
        )


def labelled_parts(train: Source, test: Source) -> tuple[Source, Source]:
    """Return both without the records that have no label, whose number is logged.

    Raises:
      UserError: one of them has no label at all.
    """
    for source in (train, test):
        require(source, "label")
    tell_unlabelled(train, test)
    return labelled(train), labelled(test)


def check_forward(path: str, rows: int, size: int, network: Network) -> None:
    """Raise a UserError if a forward pass of an evaluation cannot fit into memory.

    Args:
      path: of the evaluation's section, whose ``batch_size`` is to blame.
      rows: images of a forward pass, all views together.
      size: their side, in pixels.
      network: sees them.
    """
    x = jax.ShapeDtypeStruct((rows, size, size, 3), jnp.float32)
    what = f"a forward pass of {rows} images of {size} pixels"
    advice = f"take a smaller {path}.batch_size"
    fits.check(what, math.prod(x.shape) * x.dtype.itemsize, advice)
    if rows > FEW_ROWS:  # Tracing a network takes a moment.
        params, stats = jax.eval_shape(network.init, jax.random.key(0), x)
        apply = functools.partial(network.apply, train=False)
        results = fits.products(jax.make_jaxpr(apply)(params, stats, x).jaxpr)
        sizes = [math.prod(one.shape) * one.dtype.itemsize for one in results]
        fits.check(what, max(sizes, default=0), advice)


def check_crop(path: str, crop_size: int, *sources: Source) -> None:
    """Raise a UserError if crops are larger than the images."""
    for source in sources:
        height, width, _ = require(source, "image").shape
        if crop_size > min(height, width):
            raise UserError(
                f"{path}.crop_size is {crop_size} but the images of {source.name} are "
                f"{height}x{width}; it must be at most {min(height, width)}."
            )
