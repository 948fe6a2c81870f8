"""The thesis' linear classifiers on frozen features, trained by its own protocol."""

from jaxssl.builders.common import (
    MakeNetwork,
    RootConfig,
    check_classes,
    computed,
    labelled_parts,
    read_init_from,
    read_prediction,
)
from jaxssl.config import section
from jaxssl.config.compute import ComputeConfig
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.accuracy import accuracy_eval
from jaxssl.evals.average_precision import precision_eval
from jaxssl.experiment import Experiment
from jaxssl.methods import probe


def build_experiment(
    config: RootConfig, network: MakeNetwork, *, train: Source, test: Source
) -> Experiment:
    """Put the linear classifiers together.

    Args:
      config: sections ``method``, ``train``, ``compute``, ``eval.test`` and
        ``init_from`` are read; ``init_from.classifier`` names the run that trained the
        backbone.
      network: makes the classifier of that run; its trunk is probed.
      train: images and labels; those without one are left out, here and of ``test``.
      test: images and labels.

    Returns:
      The experiment.

    Raises:
      UserError: no run is named, or the data has another number of classes.
    """
    pretrained = section.find(config, "init_from").get("classifier")
    if not pretrained:
        raise UserError(
            "config.init_from.classifier is empty; name the workdir of a pre-trained "
            "run, or 'random' for an untrained network."
        )
    method = section.read(probe.Config, config, "method")
    if method.num_classes != len(train.class_names):
        raise UserError(
            f"method.num_classes is {method.num_classes}, but {train.name} has "
            f"{len(train.class_names)}; give that number."
        )
    check_classes(train, test)
    train, test = labelled_parts(train, test)
    compute = section.read(ComputeConfig, config, "compute")
    backbone = network(num_classes=None)
    task = probe.make_task(
        method,
        computed(backbone, compute),
        {"probe": probe.make_tx(method, num_steps=config.train.num_steps)},
        fill_steps=probe.FILL_STEPS if pretrained == "random" else 0,
        micro_batches=compute.micro_batches,
    )
    measure = {"classes": accuracy_eval, "attributes": precision_eval}[method.labels]
    arguments = read_prediction(config, "eval.test", test, network=backbone)
    evaluate = measure(task.predict_fns, test, **arguments)
    return Experiment(
        task=task,
        train_set=train,
        evals={"linear_classifiers": evaluate},
        online_evals={},
        init_from=read_init_from(config, ("classifier",)),
        minibatches=compute.micro_batches,
        heads={"classifier": backbone.head},
    )
