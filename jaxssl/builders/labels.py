"""Experiments that learn from labels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl import sections
from jaxssl.builders.features import feature_evals, online_probe
from jaxssl.builders.parts import (
    MakeNetwork,
    Section,
    check_classes,
    check_crop,
    computed,
    init_from,
    make_sgd,
    make_txs,
    read_compute,
)
from jaxssl.config.section import from_config
from jaxssl.data import corruption
from jaxssl.data.order import Order
from jaxssl.data.source import Source
from jaxssl.data.subset import Part
from jaxssl.errors import UserError
from jaxssl.evals.accuracy import accuracy_eval
from jaxssl.evals.average_precision import precision_eval
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.label_fit import label_fit_eval
from jaxssl.evals.logits import LogitsConfig
from jaxssl.evals.predictions import predictions_eval
from jaxssl.experiment import Experiment
from jaxssl.methods import classify, probe
from jaxssl.types import Eval, Network, Task


def supervised(
    config: Section, network: MakeNetwork, *, train: Source, test: Source
) -> Experiment:
    """Put training from labels together: the baseline, or fine-tuning.

    Args:
      config: sections ``method``, ``optim``, ``compute``, ``eval`` and ``init_from``.
      network: makes the classifier.
      train: images and labels.
      test: images and labels.

    Returns:
      The experiment.

    Raises:
      UserError: the images have no labels.
    """
    _check_named(train)
    method = from_config(classify.Config, config.method, where="method")
    compute = read_compute(config)
    plain = classify.Networks(network(len(train.class_names)), network(None))
    networks = classify.Networks(*(computed(n, compute) for n in plain))
    txs = make_txs(config.optim, ("classifier",), config.train.num_steps)
    task = classify.make_task(
        method, networks, txs, micro_batches=compute.micro_batches
    )
    evals = feature_evals(task, train, test, config.eval)
    accuracy = from_config(LogitsConfig, config.eval.test, where="eval.test")
    check_crop("eval.test", accuracy.crop_size, test)
    evals["accuracy"] = accuracy_eval(task.predict_fns, test, **_asked(accuracy))
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_probe(task, train, test, config.eval),
        init_from=init_from(config, ("classifier",)),
        heads={"classifier": networks.classifier.head},
        minibatches=compute.micro_batches,
    )


def generalization(
    config: Section, network: Callable[[int], Network], *, train: Source, test: Source
) -> Experiment:
    """Put chapter 8 together: learn from labels that are wrong, or few.

    Args:
      config: sections ``method``, ``learner``, ``noise``, ``optim``, ``compute``,
        ``eval`` and ``init_from``.
      network: makes the classifier with so many classes.
      train: images and labels; the labels and pixels that ``noise`` corrupts.
      test: images and right labels.

    Returns:
      The experiment.

    Raises:
      UserError: the images have no labels, or not those that the settings need.
    """
    _check_named(train)
    check_classes(train, test)
    method = from_config(classify.Config, config.method, where="method")
    learner = from_config(classify.Learner, config.learner, where="learner")
    ask = from_config(LogitsConfig, config.eval.test, where="eval.test")
    online = from_config(sections.FitConfig, config.eval.online, where="eval.online")
    check_crop("eval.test", ask.crop_size, test)
    train, test = _corrupted(config.noise, train, test)
    compute = read_compute(config)
    classifier = computed(network(len(train.class_names)), compute)
    # No part of this experiment asks for the features of a trunk.
    networks = classify.Networks(classifier, classifier)
    txs = {"classifier": make_sgd(config.optim, config.train.num_steps)}
    task = classify.make_task(
        method, networks, txs, learner, micro_batches=compute.micro_batches
    )
    _check_sizes(classifier, method.crop_size, ask.crop_size, channels=3)
    evals = _accuracies(task, method, ask, train, test)
    if "predictions" in config.eval:
        evals["predictions"] = _predictions(task, train, config)
    few = [Part(source, online.num_images) for source in (train, test)]
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=_accuracies(task, method, ask, *few),
        init_from=init_from(config, ("classifier",)),
        heads={"classifier": networks.classifier.head},
        order=_order(learner, train, config),
        minibatches=(1 if learner.name == "sgd" else learner.k) * compute.micro_batches,
    )


def linear_probes(
    config: Section, backbone: Network, *, train: Source, test: Source
) -> Experiment:
    """Put the thesis' linear classifiers on frozen features together.

    Args:
      config: sections ``method``, ``compute``, ``eval`` and ``init_from``, whose
        ``classifier`` names the run that trained the backbone.
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
    check_classes(train, test)
    txs = {"probe": probe.make_tx(method, num_steps=config.train.num_steps)}
    untrained = config.init_from.classifier == "random"
    fill_steps = probe.FILL_STEPS if untrained else 0
    compute = read_compute(config)
    task = probe.make_task(
        method,
        computed(backbone, compute),
        txs,
        fill_steps=fill_steps,
        micro_batches=compute.micro_batches,
    )
    ask = from_config(LogitsConfig, config.eval.test, where="eval.test")
    check_crop("eval.test", ask.crop_size, test)
    measure = {"classes": accuracy_eval, "attributes": precision_eval}
    found = measure[method.labels](task.predict_fns, test, **_asked(ask))
    return Experiment(
        task=task,
        train_set=train,
        evals={"linear_classifiers": found},
        online_evals={},
        init_from=init_from(config, ("classifier",)),
        heads={"classifier": backbone.head},
        minibatches=compute.micro_batches,
    )


def _check_named(train: Source) -> None:
    if not train.class_names:
        raise UserError(f"{train.name} has no labels; give images sorted into classes.")


def _check_sizes(network: Network, trained: int, tested: int, *, channels: int) -> None:
    """Raise where a network that is trained on one size cannot be asked at another."""

    def shapes(size):
        x = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
        return jax.eval_shape(network.init, jax.random.key(0), x)[0]

    if trained != tested and shapes(trained) != shapes(tested):
        raise UserError(
            f"eval.test.crop_size is {tested} but method.crop_size is {trained}; this "
            "network has dense layers on all places, so they must be equal."
        )


def _corrupted(section: Section, train: Source, test: Source) -> tuple[Source, Source]:
    """Make labels wrong and pixels permuted as ``noise`` says."""
    noise = from_config(corruption.NoiseConfig, section, where="noise")
    if noise.kind != "none":
        train = corruption.noisy_labels(train, noise)
    if noise.permuted_pixels:
        train = corruption.permuted_pixels(train, seed=noise.seed)
        test = corruption.permuted_pixels(test, seed=noise.seed)
    return train, test


def _predictions(task: Task, train: Source, config: Section) -> Eval:
    ask = from_config(LogitsConfig, config.eval.predictions, where="eval.predictions")
    return predictions_eval(task.predict_fns, train, **_asked(ask), seed=config.seed)


def _asked(config: LogitsConfig) -> dict[str, Any]:
    """Return the arguments of an evaluation of a classifier's own predictions."""
    return {
        "prepare": CenterCrops(config.crop_size, config.views),
        "batch_size": config.batch_size,
    }


def _accuracies(
    task: Task,
    method: classify.Config,
    ask: LogitsConfig,
    train: Source,
    test: Source,
) -> dict[str, Eval]:
    if method.labels == "attributes":
        measure = precision_eval
        return {
            "test": measure(task.predict_fns, test, **_asked(ask)),
            "train": measure(task.predict_fns, train, **_asked(ask)),
        }
    return {
        "test": accuracy_eval(task.predict_fns, test, **_asked(ask)),
        "train": label_fit_eval(task.predict_fns, train, **_asked(ask)),
    }


def _order(learner: classify.Learner, train: Source, config: Section) -> Order | None:
    """Return what the learner's mini-batches ask for."""
    if learner.name == "sgd":
        return None
    batch_size = config.train.batch_size
    if batch_size > len(train):
        raise UserError(
            f"train.batch_size is {batch_size}; {train.name} has {len(train)} records, "
            f"so allowed: 1 to {len(train)}."
        )
    if batch_size % learner.k:
        raise UserError(
            f"train.batch_size is {batch_size}; learner.k = {learner.k} mini-batches "
            f"must share it evenly, as {learner.k * (batch_size // learner.k)} does."
        )
    if learner.sampling == "random":
        return None
    return classify.MatchedOrder(
        corruption.labels_of(train), learner, batch_size=batch_size, seed=config.seed
    )
