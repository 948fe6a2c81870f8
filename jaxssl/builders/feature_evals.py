"""The evaluations of frozen features that experiments with images share."""

import dataclasses
from typing import Any

import numpy as np

from jaxssl.builders.common import RootConfig, check_classes, check_crop
from jaxssl.config import fields, section
from jaxssl.data import source as source_lib
from jaxssl.data.source import Source
from jaxssl.data.subset import Part, subset
from jaxssl.evals import classification, features, knn, retrieval, suite
from jaxssl.types import Eval, Task

FILTERS = ("conv1", "conv", "kernel")
"""Path of the parameter that the evaluation ``filters`` shows."""


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
        "features": section.defaults(features.FeatureConfig, crop_size=crop_size),
        "linear_probe": section.defaults(classification.LinearProbeConfig),
        "few_shot": section.defaults(classification.FewShotConfig),
        "knn": section.defaults(knn.KnnConfig),
        "retrieval": section.defaults(retrieval.RetrievalConfig),
        "online": section.defaults(OnlineConfig),
    }


def feature_evals(
    task: Task, train: Source, test: Source, config: RootConfig
) -> dict[str, Eval]:
    """Return the evaluations on frozen features, and the first layer's filters.

    Args:
      task: its predict_fn ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      config: ``eval.features`` and one section for each evaluation are read.

    Returns:
      ``linear_probe``, ``few_shot``, ``knn``, ``retrieval`` and ``filters``; for images
      with several labels ``attributes`` and ``filters``; without labels ``filters``.

    Raises:
      UserError: label j means another class in ``test``.
    """
    check_classes(train, test)
    look = section.read(features.FeatureConfig, config, "eval.features")
    fit = section.read(classification.LinearProbeConfig, config, "eval.linear_probe")
    few = section.read(classification.FewShotConfig, config, "eval.few_shot")
    neighbours = section.read(knn.KnnConfig, config, "eval.knn")
    search = section.read(retrieval.RetrievalConfig, config, "eval.retrieval")
    check_crop("eval.features", look.crop_size, train, test)
    if look.train_images:
        train = Part(train, look.train_images)
    bank = features.FeatureBank(task.predict_fns["features"], look)
    filters = suite.filters_eval("classifier", FILTERS)
    label = subset(test, 1)[0]["label"]
    if label.ndim:
        return {
            "attributes": suite.attributes_eval(bank, train, test, fit),
            "filters": filters,
        }
    if label == source_lib.NO_LABEL:
        return {"filters": filters}
    return {
        "linear_probe": suite.linear_probe_eval(bank, train, test, fit),
        "few_shot": suite.few_shot_eval(bank, train, test, few),
        "knn": suite.knn_eval(bank, train, test, neighbours),
        "retrieval": suite.retrieval_eval(bank, test, train, search),
        "filters": filters,
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
    look = section.read(features.FeatureConfig, config, "eval.features")
    few = section.read(classification.FewShotConfig, config, "eval.few_shot")
    label = subset(test, 1)[0]["label"]
    if label.ndim or label == source_lib.NO_LABEL:
        return {}
    train, test = (subset(source, online.num_images) for source in (train, test))
    labels = [int(train[i]["label"]) for i in range(len(train))]
    shots = min(online.shots, *np.unique(labels, return_counts=True)[1].tolist())
    few = dataclasses.replace(few, shots=shots, num_draws=1)
    bank = features.FeatureBank(task.predict_fns["features"], look)
    return {"probe": suite.few_shot_eval(bank, train, test, few)}
