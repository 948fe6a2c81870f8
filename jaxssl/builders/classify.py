"""Learning from labels: the supervised baseline, fine-tuning, and chapter 8."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxssl.builders.common import (
    MakeNetwork,
    RootConfig,
    check_classes,
    computed,
    labelled_parts,
    read_init_from,
    read_prediction,
)
from jaxssl.builders.feature_evals import feature_evals, online_probe
from jaxssl.config import fields, section
from jaxssl.config.compute import ComputeConfig
from jaxssl.data import corruption
from jaxssl.data.labelled import any_labelled
from jaxssl.data.order import Order
from jaxssl.data.source import Source
from jaxssl.data.subset import Part
from jaxssl.errors import UserError
from jaxssl.evals.accuracy import accuracy_eval
from jaxssl.evals.average_precision import precision_eval
from jaxssl.evals.label_fit import label_fit_eval
from jaxssl.evals.predictions import predictions_eval
from jaxssl.experiment import Experiment
from jaxssl.methods import bilevel, classify
from jaxssl.optim.registry import make_optimizers
from jaxssl.types import Eval, Network, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """The accuracies that are measured during training.

    Attributes:
      num_images: evenly spaced images that are used: at most this many of the training
        set, and at most this many of the test set.
    """

    num_images: int = fields.count(2000)

    __post_init__ = fields.validate


def build_experiment(
    config: RootConfig, network: MakeNetwork, *, train: Source, test: Source
) -> Experiment:
    """Put training from labels together.

    Without the sections ``learner`` and ``noise`` this is plain SGD on right labels.
    With ``eval.features`` the trained features are probed as those of chapter 4;
    without, accuracies on both sets are compared, as in chapter 8.

    Args:
      config: sections ``method``, ``learner``, ``noise``, ``optim``, ``train``,
        ``compute``, ``eval`` and ``init_from`` are read, and ``seed``.
      network: makes the classifier.
      train: images and labels; the labels and pixels that ``noise`` corrupts. Images
        without a label are left out.
      test: images and right labels; those without one are left out.

    Returns:
      The experiment.

    Raises:
      UserError: the images have no labels, or not those that the settings need.
    """
    if not train.class_names:
        lacks = "class names" if any_labelled(train) else "labels"
        raise UserError(
            f"{train.name} has no {lacks}; give images sorted into classes."
        )
    check_classes(train, test)
    method = section.read(classify.Config, config, "method")
    learner = section.read(bilevel.Learner, config, "learner")
    compute = section.read(ComputeConfig, config, "compute")
    whole, test = _corrupt(config, train, test)
    train, test = labelled_parts(whole, test)
    probes_features = "features" in section.find(config, "eval")
    classifier = network(num_classes=len(train.class_names))
    backbone = network(num_classes=None) if probes_features else classifier
    networks = classify.Networks(
        computed(classifier, compute), computed(backbone, compute)
    )
    task = classify.make_task(
        method,
        networks,
        make_optimizers(config, ("classifier",), config.train.num_steps),
        learner,
        micro_batches=compute.micro_batches,
    )
    crops = read_prediction(config, "eval.test", test, network=classifier)["prepare"]
    _check_sizes(classifier, method.crop_size, crops.size, channels=3)
    probe = functools.partial(_feature_evals, backbone)
    accuracies = functools.partial(_accuracy_evals, classifier, whole)
    make_evals = probe if probes_features else accuracies
    evals, online_evals = make_evals(task, config, train, test)
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_evals,
        init_from=read_init_from(config, ("classifier",)),
        order=_make_order(learner, train, config),
        minibatches=(1 if learner.name == "sgd" else learner.k) * compute.micro_batches,
        heads={"classifier": classifier.head},
    )


Evals = tuple[dict[str, Eval], dict[str, Eval]]
"""Those of ``jaxssl evaluate``, and those that run during training."""


def _feature_evals(
    backbone: Network, task: Task, config: RootConfig, train: Source, test: Source
) -> Evals:
    """Probe the features as in chapter 4, and measure the accuracy."""
    evals = feature_evals(task, train, test, config, backbone)
    arguments = read_prediction(config, "eval.test", test)
    evals["accuracy"] = accuracy_eval(task.predict_fns, test, **arguments)
    return evals, online_probe(task, train, test, config)


def _accuracy_evals(
    classifier: Network,
    whole: Source,
    task: Task,
    config: RootConfig,
    train: Source,
    test: Source,
) -> Evals:
    """Compare the training set, right and wrong labels, with the test set.

    Predictions are those of the whole training set, also of images without a label.
    """
    online = section.read(FitConfig, config, "eval.online")
    evals = _accuracies(task, config, train, test)
    if "predictions" in section.find(config, "eval"):
        arguments = read_prediction(
            config, "eval.predictions", whole, network=classifier
        )
        evals["predictions"] = predictions_eval(
            task.predict_fns, whole, **arguments, seed=config.seed
        )
    few = [Part(source, online.num_images) for source in (train, test)]
    return evals, _accuracies(task, config, *few)


def _accuracies(
    task: Task, config: RootConfig, train: Source, test: Source
) -> dict[str, Eval]:
    method = section.read(classify.Config, config, "method")
    arguments = read_prediction(config, "eval.test", test)
    if method.labels == "attributes":
        on_test = on_train = precision_eval
    else:
        on_test, on_train = accuracy_eval, label_fit_eval
    return {
        "test": on_test(task.predict_fns, test, **arguments),
        "train": on_train(task.predict_fns, train, **arguments),
    }


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


def _corrupt(config: RootConfig, train: Source, test: Source) -> tuple[Source, Source]:
    """Make labels wrong and pixels permuted as ``noise`` says."""
    noise = section.read(corruption.NoiseConfig, config, "noise")
    if noise.kind != "none":
        train = corruption.noisy_labels(train, noise)
    if noise.permuted_pixels:
        train = corruption.permuted_pixels(train, seed=noise.seed)
        test = corruption.permuted_pixels(test, seed=noise.seed)
    return train, test


def _make_order(
    learner: bilevel.Learner, train: Source, config: RootConfig
) -> Order | None:
    """Return the order that the learner's mini-batches ask for."""
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
    return bilevel.MatchedOrder(
        corruption.labels_of(train), learner, batch_size=batch_size, seed=config.seed
    )
