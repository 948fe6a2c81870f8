"""The evaluations of frozen features that experiments with images share."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import trees
from jaxssl.builders.common import (
    RootConfig,
    check_classes,
    check_crop,
    check_forward,
)
from jaxssl.config import fields, section
from jaxssl.config.checks import choice
from jaxssl.data import labelled as labelled_lib
from jaxssl.data.source import Source, require
from jaxssl.data.subset import Part, subset
from jaxssl.errors import UserError
from jaxssl.evals.attributes import attributes_eval
from jaxssl.evals.checked import CheckedEval
from jaxssl.evals.crops import VIEWS, CenterCrops
from jaxssl.evals.feature_bank import FeatureBank, FeatureConfig, bounded_pools
from jaxssl.evals.few_shot import FewShotConfig, few_shot_eval
from jaxssl.evals.filters import filters_eval
from jaxssl.evals.knn import KnnConfig, knn_eval
from jaxssl.evals.linear_probe import LinearProbeConfig, linear_probe_eval
from jaxssl.evals.retrieval import RetrievalConfig, retrieval_eval
from jaxssl.train import fits
from jaxssl.types import Eval, Network, Task

FILTERS = ("conv1", "conv", "kernel")
"""Path of the network's parameter that the evaluation ``filters`` shows."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """The few-shot probe that runs during training.

    Attributes:
      num_images: evenly spaced images of each labelled set that are used.
      shots: labelled images a class; fewer where a class has fewer among them.
    """

    num_images: int = fields.count(1000)
    shots: int = fields.count(50)

    __post_init__ = fields.validate


def default_sections(*, crop_size: int) -> dict[str, Any]:
    """Return the sections of ``eval`` that are read here, every default spelled out.

    Args:
      crop_size: side of the crops that features are taken from, in pixels.
    """
    return {
        "features": section.defaults(FeatureConfig, crop_size=crop_size),
        "linear_probe": section.defaults(LinearProbeConfig),
        "few_shot": section.defaults(FewShotConfig),
        "knn": section.defaults(KnnConfig),
        "retrieval": section.defaults(RetrievalConfig),
        "online": section.defaults(OnlineConfig),
    }


def feature_evals(
    task: Task,
    train: Source,
    test: Source,
    config: RootConfig,
    network: Network,
    *,
    player: str = "classifier",
) -> dict[str, Eval]:
    """Return the evaluations on frozen features, and the first layer's filters.

    Args:
      task: its predict_fn ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      config: ``eval.features`` and one section for each evaluation are read.
      network: gives the features; its parameters are looked through for `FILTERS`.
      player: what the task calls this network.

    Returns:
      ``linear_probe``, ``few_shot``, ``knn`` and ``retrieval``, which leave out images
      without a label; for images with several labels ``attributes``. And ``filters``,
      where the network has the parameter `FILTERS`; it needs no labels.

    Raises:
      UserError: label j means another class in ``test``, ``test`` has labels or classes
        that ``train`` lacks, or there are no images.
    """
    check_classes(train, test)
    crops = section.read(FeatureConfig, config, "eval.features")
    fit = section.read(LinearProbeConfig, config, "eval.linear_probe")
    few = section.read(FewShotConfig, config, "eval.few_shot")
    vote = section.read(KnnConfig, config, "eval.knn")
    search = section.read(RetrievalConfig, config, "eval.retrieval")
    check_crop("eval.features", crops.crop_size, train, test)
    rows = crops.batch_size * VIEWS[vote.views]
    check_forward("eval.features", rows, crops.crop_size, network)
    bank = _make_bank(task, crops)
    filters = _filters(network, player, crops.crop_size)
    labelled_lib.tell_unlabelled(train, test)
    if not _has_labels(train, test):
        return filters
    train, test = map(labelled_lib.labelled, (train, test))
    if crops.train_images:
        train = Part(train, crops.train_images)
    if test.spec["label"].shape:
        return {"attributes": attributes_eval(bank, train, test, fit), **filters}
    endpoints = functools.cache(lambda: _endpoints(network, crops.crop_size))
    prepare = CenterCrops(crops.crop_size, vote.views)
    return {
        "linear_probe": CheckedEval(
            linear_probe_eval(bank, train, test, fit),
            lambda: _check_linear_probe(fit, train),
        ),
        "few_shot": CheckedEval(
            few_shot_eval(bank, train, test, few),
            lambda: _check_most("few_shot.shots", few.shots, len(train)),
        ),
        "knn": CheckedEval(
            knn_eval(bank, train, test, vote, prepare=prepare),
            lambda: _check_knn(vote, endpoints(), train, test),
        ),
        "retrieval": CheckedEval(
            retrieval_eval(bank, train, test, search),
            lambda: _check_retrieval(search, endpoints(), train, test),
        ),
        **filters,
    }


# --- What is known of the settings before an evaluation runs


def _endpoints(network: Network, size: int) -> tuple[str, ...]:
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params, stats = jax.eval_shape(network.init, jax.random.key(0), x)
    apply = functools.partial(network.apply, train=False)
    return tuple(jax.eval_shape(apply, params, stats, x)[0])


def _check_linear_probe(fit: LinearProbeConfig, train: Source) -> None:
    fits.check(
        f"the order of the images in {fit.num_epochs} epochs",
        4 * fit.num_epochs * len(train),
        "take a smaller eval.linear_probe.num_epochs",
    )


def _check_knn(
    vote: KnnConfig, endpoints: tuple[str, ...], train: Source, test: Source
) -> None:
    choice("eval.knn.endpoint", vote.endpoint, endpoints)
    _check_most("knn.ks", max(vote.ks), min(len(train), len(test) - 1))


def _check_retrieval(
    search: RetrievalConfig, endpoints: tuple[str, ...], train: Source, test: Source
) -> None:
    choice("eval.retrieval.endpoint", search.endpoint, endpoints)
    _check_most("retrieval.num_queries", search.num_queries, len(test))
    most = len(test) - 1 if search.database == "queries" else len(train)
    _check_most("retrieval.num_neighbors", search.num_neighbors, most)


def _check_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise UserError(
            f"eval.{name} is {value}, but there are only {most} images to choose from; "
            f"it must be at most {most}."
        )


def online_probe(
    task: Task, train: Source, test: Source, config: RootConfig
) -> dict[str, Eval]:
    """Return the few-shot probe on a part of the data, cheap enough for training.

    Args:
      task: its predict_fn ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      config: ``eval.online``, ``eval.features`` and ``eval.few_shot`` are read.

    Returns:
      One evaluation, ``probe``; none for images with several labels or without any.
    """
    online = section.read(OnlineConfig, config, "eval.online")
    crops = section.read(FeatureConfig, config, "eval.features")
    few = section.read(FewShotConfig, config, "eval.few_shot")
    if not _has_labels(train, test) or test.spec["label"].shape:
        return {}
    train, test = (
        subset(labelled_lib.labelled(source), online.num_images)
        for source in (train, test)
    )
    classes, counts = np.unique(train.arrays["label"], return_counts=True)
    # A part of many classes may lack some that the whole has.
    known = np.flatnonzero(np.isin(test.arrays["label"], classes))
    if len(known) < len(test):
        test = labelled_lib.take_rows(test, known)
    shots = min(online.shots, *counts.tolist())
    few = dataclasses.replace(few, shots=shots, num_draws=1)
    return {"probe": few_shot_eval(_make_bank(task, crops), train, test, few)}


def _filters(network: Network, player: str, size: int) -> dict[str, Eval]:
    """Return the evaluation ``filters``, if the network has the parameter `FILTERS`."""
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    params, _ = jax.eval_shape(network.init, jax.random.key(0), x)
    if "/".join(FILTERS) not in trees.describe(params):
        return {}
    return {"filters": filters_eval((player, *FILTERS), name="conv1")}


def _has_labels(train: Source, test: Source) -> bool:
    """Return whether test records have labels to be measured by.

    Raises:
      UserError: they have, but training records have none, or of another kind.
    """
    if "label" not in test.spec or not labelled_lib.any_labelled(test):
        return False
    kinds = require(train, "label").shape, test.spec["label"].shape
    if kinds[0] != kinds[1]:
        raise UserError(
            f"{train.name} has labels of the shape {kinds[0]} a record, {test.name} of "
            f"{kinds[1]}; both need one class, or the same attributes."
        )
    if not labelled_lib.any_labelled(train):
        raise UserError(
            f"{train.name} has no labels, but {test.name} has; evaluations learn from "
            "the former. Give labelled data for both, or for none."
        )
    return True


def _make_bank(task: Task, config: FeatureConfig) -> FeatureBank:
    """Return a bank of features of centre crops."""
    return FeatureBank(
        task.predict_fns["features"],
        CenterCrops(config.crop_size),
        batch_size=config.batch_size,
        pools=bounded_pools(max_cells=config.max_cells, max_dims=config.max_dims),
    )
