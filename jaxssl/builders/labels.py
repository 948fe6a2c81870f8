"""Experiments that learn from labels."""

from jaxssl.builders.features import feature_evals, online_probe
from jaxssl.builders.parts import (
    MakeNetwork,
    Section,
    check_classes,
    check_crop,
    init_from,
    make_txs,
)
from jaxssl.data.sources import Source
from jaxssl.evals import answers
from jaxssl.experiment import Experiment
from jaxssl.methods import classify, probe
from jaxssl.settings import from_config
from jaxssl.types import Network, UserError


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
    accuracy = from_config(answers.LogitsConfig, config.eval.test, where="eval.test")
    check_crop("eval.test", accuracy.crop_size, test)
    evals["accuracy"] = answers.accuracy_eval(task.readouts, test, accuracy)
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_probe(task, train, test, config.eval),
        init_from=init_from(config, ("classifier",)),
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
    check_classes(train, test)
    txs = {"probe": probe.make_tx(method, num_steps=config.train.num_steps)}
    untrained = config.init_from.classifier == "random"
    fill_steps = probe.FILL_STEPS if untrained else 0
    task = probe.make_task(method, backbone, txs, fill_steps=fill_steps)
    ask = from_config(answers.LogitsConfig, config.eval.test, where="eval.test")
    check_crop("eval.test", ask.crop_size, test)
    measure = {"classes": answers.accuracy_eval, "attributes": answers.precision_eval}
    found = measure[method.labels](task.readouts, test, ask)
    return Experiment(
        task=task,
        train_set=train,
        evals={"linear_classifiers": found},
        online_evals={},
        init_from=init_from(config, ("classifier",)),
    )
