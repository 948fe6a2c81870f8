"""The evaluations of frozen features that experiments with images share."""

import dataclasses

import numpy as np

from jaxssl import sections
from jaxssl.builders.parts import Section, check_classes, check_crop
from jaxssl.config.section import from_config
from jaxssl.data import source as source_lib
from jaxssl.data.source import Source
from jaxssl.data.subset import Part, subset
from jaxssl.evals.attributes import attributes_eval
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank, FeatureConfig, bounded_pools
from jaxssl.evals.few_shot import FewShotConfig, few_shot_eval
from jaxssl.evals.filters import filters_eval
from jaxssl.evals.knn import KnnConfig, knn_eval
from jaxssl.evals.linear_probe import LinearProbeConfig, linear_probe_eval
from jaxssl.evals.retrieval import RetrievalConfig, retrieval_eval
from jaxssl.types import Eval, Task


def feature_evals(
    task: Task, train: Source, test: Source, section: Section
) -> dict[str, Eval]:
    """Return the evaluations on frozen features, and the first layer's filters.

    Args:
      task: its predict_fn ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      section: the config's ``eval``, with one section an evaluation.

    Returns:
      ``linear_probe``, ``few_shot``, ``knn``, ``retrieval`` and ``filters``; for images
      with several labels ``attributes`` and ``filters``; without labels ``filters``.

    Raises:
      UserError: label j means another class in ``test``.
    """
    check_classes(train, test)

    def read(cls, name):
        return from_config(cls, section[name], where=f"eval.{name}")

    look = read(FeatureConfig, "features")
    check_crop("eval.features", look.crop_size, train, test)
    if look.train_images:
        train = Part(train, look.train_images)
    bank = make_bank(task, look)
    fit = read(LinearProbeConfig, "linear_probe")
    filters = filters_eval(("classifier", "conv1", "conv", "kernel"), name="conv1")
    label = subset(test, 1).arrays["label"][0]
    if label.ndim:
        return {
            "attributes": attributes_eval(bank, train, test, fit),
            "filters": filters,
        }
    if label == source_lib.NO_LABEL:
        return {"filters": filters}
    vote = read(KnnConfig, "knn")
    crops = CenterCrops(look.crop_size, vote.views)
    search = read(RetrievalConfig, "retrieval")
    return {
        "linear_probe": linear_probe_eval(bank, train, test, fit),
        "few_shot": few_shot_eval(bank, train, test, read(FewShotConfig, "few_shot")),
        "knn": knn_eval(bank, train, test, vote, prepare=crops),
        "retrieval": retrieval_eval(bank, train, test, search),
        "filters": filters,
    }


def make_bank(task: Task, config: FeatureConfig) -> FeatureBank:
    """Return a bank of features of centre crops."""
    return FeatureBank(
        task.predict_fns["features"],
        CenterCrops(config.crop_size),
        batch_size=config.batch_size,
        pools=bounded_pools(max_cells=config.max_cells, max_dims=config.max_dims),
    )


def online_probe(
    task: Task, train: Source, test: Source, section: Section
) -> dict[str, Eval]:
    """Return the few-shot probe on a part of the data, cheap enough for training.

    Args:
      task: its predict_fn ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      section: the config's ``eval``.

    Returns:
      One evaluation, ``probe``; none for images with several labels or without any.
    """
    label = subset(test, 1).arrays["label"][0]
    if label.ndim or label == source_lib.NO_LABEL:
        return {}
    online = from_config(sections.OnlineConfig, section.online, where="eval.online")
    look = from_config(FeatureConfig, section.features, where="eval.features")
    few_shot = from_config(FewShotConfig, section.few_shot, where="eval.few_shot")
    train, test = (subset(source, online.num_images) for source in (train, test))
    labels = train.arrays["label"]
    shots = min(online.shots, *np.unique(labels, return_counts=True)[1].tolist())
    few_shot = dataclasses.replace(few_shot, shots=shots, num_draws=1)
    bank = make_bank(task, look)
    return {"probe": few_shot_eval(bank, train, test, few_shot)}
