"""The evaluations of frozen features that experiments with images share."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import trees
from jaxssl.builders.common import RootConfig, check_classes, check_crop
from jaxssl.config import fields, section
from jaxssl.data import labelled as labelled_lib
from jaxssl.data.source import Source, require
from jaxssl.data.subset import Part, subset
from jaxssl.errors import UserError
from jaxssl.evals.attributes import attributes_eval
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank, FeatureConfig, bounded_pools
from jaxssl.evals.few_shot import FewShotConfig, few_shot_eval
from jaxssl.evals.filters import filters_eval
from jaxssl.evals.knn import KnnConfig, knn_eval
from jaxssl.evals.linear_probe import LinearProbeConfig, linear_probe_eval
from jaxssl.evals.retrieval import RetrievalConfig, retrieval_eval
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

    num_images: int = fields.number(1000, at_least=1)
    shots: int = fields.number(50, at_least=1)

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
    bank = _make_bank(task, crops)
    filters = _filters(network, player, crops.crop_size)
    for source in (train, test):
        labelled_lib.tell_unlabelled(source)
    if not _has_labels(train, test):
        return filters
    train, test = (labelled_lib.labelled(source) for source in (train, test))
    if crops.train_images:
        train = Part(train, crops.train_images)
    if test.spec["label"].shape:
        return {"attributes": attributes_eval(bank, train, test, fit), **filters}
    return {
        "linear_probe": linear_probe_eval(bank, train, test, fit),
        "few_shot": few_shot_eval(bank, train, test, few),
        "knn": knn_eval(
            bank, train, test, vote, prepare=CenterCrops(crops.crop_size, vote.views)
        ),
        "retrieval": retrieval_eval(bank, train, test, search),
        **filters,
    }


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
