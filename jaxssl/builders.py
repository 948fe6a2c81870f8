"""From a config's sections to an Experiment: what the ``build`` functions share.

A config chooses networks and data; these functions put them together with the method,
its optimizers and its evaluations, and read every section of the config on the way.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optax

from jaxssl import sections
from jaxssl.data import sources
from jaxssl.data.sources import Source
from jaxssl.data.subset import Part, subset
from jaxssl.evals import classification, features, knn, pretext, retrieval, suite
from jaxssl.experiment import Experiment
from jaxssl.methods import classify, probe, transformations
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter
from jaxssl.optim import adam
from jaxssl.settings import choice, from_config
from jaxssl.types import Eval, Network, Task, UserError

Section = Any
"""An ``ml_collections.ConfigDict``; its fields are known at run time only."""

MakeNetwork = Callable[[int | None], Network]
"""Makes a network with so many classes; with None, its trunk on the same parameters."""


# --- Experiments


def recognition(
    config: Section,
    network: MakeNetwork,
    *,
    train: Source,
    labelled: Source,
    test: Source,
    shortcut: Mapping[str, Source] | None = None,
) -> Experiment:
    """Put chapter 4 together: recognise transformations, probe the features.

    Args:
      config: sections ``method``, ``inpainter``, ``critic``, ``optim``, ``eval`` and
        ``init_from``.
      network: makes the transformation classifier.
      train: images to transform; labels are not read.
      labelled: images and labels that probes learn from.
      test: images and labels that probes are tested on.
      shortcut: sources of the shortcut check, where the data has them.

    Returns:
      The experiment.

    Raises:
      UserError: the inpainter is frozen and no run is named that trained it.
    """
    method = from_config(transformations.Config, config.method, where="method")
    frozen = method.inpaints and method.inpainter == "frozen"
    if frozen and not config.init_from.get("inpainter"):
        raise UserError(
            "config.init_from.inpainter is empty, but method.inpainter is 'frozen'; "
            "name the workdir of a run that trained one, or 'random'."
        )
    networks = transformations.Networks(
        classifier=network(len(method.classes)),
        backbone=network(None),
        inpainter=inpainter(**config.inpainter),
        critic=critic(**config.critic),
    )
    txs = make_txs(config.optim, method.trained_players, config.train.num_steps)
    task = transformations.make_task(method, networks, txs)
    look = from_config(pretext.PretextConfig, config.eval.pretext, where="eval.pretext")
    evals = feature_evals(task, labelled, test, config.eval)
    evals["pretext"] = suite.pretext_eval(task.readouts, test, method.classes, look)
    if shortcut and len(set(method.classes) & set(suite.ROTATIONS)) > 1:
        evals["shortcut"] = suite.shortcut_eval(
            task.readouts, shortcut, method.classes, look
        )
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_probe(task, labelled, test, config.eval),
        init_from=_init_from(config, method.players),
    )


def supervised(
    config: Section, network: MakeNetwork, *, train: Source, test: Source
) -> Experiment:
    """Put training from labels together: the baseline, or fine-tuning.

    Args:
      config: sections ``method``, ``optim``, ``eval`` and ``init_from``.
      network: makes the classifier.
      train: images and labels.
      test: images and labels.

    Returns:
      The experiment.

    Raises:
      UserError: the images have no labels.
    """
    if not train.class_names:
        raise UserError(f"{train.name} has no labels; give images sorted into classes.")
    method = from_config(classify.Config, config.method, where="method")
    networks = classify.Networks(network(len(train.class_names)), network(None))
    txs = make_txs(config.optim, ("classifier",), config.train.num_steps)
    task = classify.make_task(method, networks, txs)
    evals = feature_evals(task, train, test, config.eval)
    accuracy = from_config(suite.LogitsConfig, config.eval.test, where="eval.test")
    _check_crop("eval.test", accuracy.crop_size, test)
    evals["accuracy"] = suite.accuracy_eval(task.readouts, test, accuracy)
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_probe(task, train, test, config.eval),
        init_from=_init_from(config, ("classifier",)),
    )


def linear_probes(
    config: Section, backbone: Network, *, train: Source, test: Source
) -> Experiment:
    """Put the thesis' linear classifiers on frozen features together.

    Args:
      config: sections ``method``, ``eval`` and ``init_from``, whose ``classifier``
        names the run that trained the backbone.
      backbone: the trunk of that run's classifier.
      train: images and labels.
      test: images and labels.

    Returns:
      The experiment.

    Raises:
      UserError: no run is named, or the data has another number of classes.
    """
    if not config.init_from.classifier:
        raise UserError(
            "config.init_from.classifier is empty; name the workdir of a pre-trained "
            "run, or 'random' for an untrained network."
        )
    method = from_config(probe.Config, config.method, where="method")
    if method.num_classes != len(train.class_names):
        raise UserError(
            f"method.num_classes is {method.num_classes}, but {train.name} has "
            f"{len(train.class_names)}; give that number."
        )
    _check_classes(train, test)
    txs = {"probe": probe.make_tx(method, num_steps=config.train.num_steps)}
    untrained = config.init_from.classifier == "random"
    fill_steps = probe.FILL_STEPS if untrained else 0
    task = probe.make_task(method, backbone, txs, fill_steps=fill_steps)
    ask = from_config(suite.LogitsConfig, config.eval.test, where="eval.test")
    _check_crop("eval.test", ask.crop_size, test)
    measure = {"classes": suite.accuracy_eval, "attributes": suite.precision_eval}
    found = measure[method.labels](task.readouts, test, ask)
    return Experiment(
        task=task,
        train_set=train,
        evals={"linear_classifiers": found},
        online_evals={},
        init_from=_init_from(config, ("classifier",)),
    )


def _init_from(config: Section, players: Sequence[str]) -> dict[str, str]:
    """Read the section ``init_from``: player to workdir, empty for a fresh start."""
    runs = {}
    for player, run in config.init_from.items():
        if run and run != "random":
            choice("init_from", player, players)
            runs[player] = run
    return runs


# --- Data


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
    return [sources.load(name, split=split, **options) for split in splits]


# --- Optimizers


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


# --- Evaluations


def feature_evals(
    task: Task, train: Source, test: Source, section: Section
) -> dict[str, Eval]:
    """Return the evaluations on frozen features, and the first layer's filters.

    Args:
      task: its readout ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      section: the config's ``eval``, with one section an evaluation.

    Returns:
      ``linear_probe``, ``few_shot``, ``knn``, ``retrieval`` and ``filters``; for images
      with several labels ``attributes`` and ``filters``; without labels ``filters``.

    Raises:
      UserError: label j means another class in ``test``.
    """
    _check_classes(train, test)

    def read(cls, name):
        return from_config(cls, section[name], where=f"eval.{name}")

    look = read(features.FeatureConfig, "features")
    _check_crop("eval.features", look.crop_size, train, test)
    if look.train_images:
        train = Part(train, look.train_images)
    bank = features.FeatureBank(task.readouts["features"], look)
    fit = read(classification.LinearProbeConfig, "linear_probe")
    filters = suite.filters_eval("classifier", ("conv1", "conv", "kernel"))
    label = subset(test, 1)[0]["label"]
    if label.ndim:
        return {
            "attributes": suite.attributes_eval(bank, train, test, fit),
            "filters": filters,
        }
    if label == sources.NO_LABEL:
        return {"filters": filters}
    few = read(classification.FewShotConfig, "few_shot")
    found = read(retrieval.RetrievalConfig, "retrieval")
    return {
        "linear_probe": suite.linear_probe_eval(bank, train, test, fit),
        "few_shot": suite.few_shot_eval(bank, train, test, few),
        "knn": suite.knn_eval(bank, train, test, read(knn.KnnConfig, "knn")),
        "retrieval": suite.retrieval_eval(bank, test, train, found),
        "filters": filters,
    }


def online_probe(
    task: Task, train: Source, test: Source, section: Section
) -> dict[str, Eval]:
    """Return the few-shot probe on a part of the data, cheap enough for training.

    Args:
      task: its readout ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      section: the config's ``eval``.

    Returns:
      One evaluation, ``probe``; none for images with several labels or without any.
    """
    label = subset(test, 1)[0]["label"]
    if label.ndim or label == sources.NO_LABEL:
        return {}
    online = from_config(sections.OnlineConfig, section.online, where="eval.online")
    look = from_config(features.FeatureConfig, section.features, where="eval.features")
    few_shot = from_config(
        classification.FewShotConfig, section.few_shot, where="eval.few_shot"
    )
    train, test = (subset(source, online.num_images) for source in (train, test))
    labels = [int(train[i]["label"]) for i in range(len(train))]
    shots = min(online.shots, *np.unique(labels, return_counts=True)[1].tolist())
    few_shot = dataclasses.replace(few_shot, shots=shots, num_draws=1)
    bank = features.FeatureBank(task.readouts["features"], look)
    return {"probe": suite.few_shot_eval(bank, train, test, few_shot)}


def _check_classes(train: Source, test: Source) -> None:
    pairs = zip(train.class_names, test.class_names, strict=False)
    if clash := [f"{a!r} and {b!r}" for a, b in pairs if a != b]:
        raise UserError(
            f"{train.name} and {test.name} need the same classes in the same order; "
            f"one label means {clash[0]}."
        )


def _check_crop(where: str, crop_size: int, *sources: Source) -> None:
    for source in sources:
        height, width, _ = source.image_shape
        if crop_size > min(height, width):
            raise UserError(
                f"{where}.crop_size is {crop_size} but the images of {source.name} are "
                f"{height}x{width}; it must be at most {min(height, width)}."
            )
