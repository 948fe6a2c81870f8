"""Chapter 4: an experiment that recognises transformations, and probes the features."""

from collections.abc import Mapping

from jaxssl.builders.common import (
    MakeNetwork,
    RootConfig,
    check_forward,
    computed,
    read_init_from,
)
from jaxssl.builders.feature_evals import feature_evals, online_probe
from jaxssl.config import section
from jaxssl.config.compute import ComputeConfig
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.pretext import PretextConfig, pretext_eval
from jaxssl.evals.shortcut import ROTATIONS, shortcut_eval
from jaxssl.experiment import Experiment
from jaxssl.methods import transformations
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter
from jaxssl.optim.registry import make_optimizers


def build_experiment(
    config: RootConfig,
    network: MakeNetwork,
    *,
    train: Source,
    labelled: Source,
    test: Source,
    shortcut: Mapping[str, Source] | None = None,
) -> Experiment:
    """Put chapter 4 together.

    Args:
      config: sections ``method``, ``inpainter``, ``critic``, ``optim``, ``train``,
        ``compute``, ``eval`` and ``init_from`` are read.
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
    method = section.read(transformations.Config, config, "method")
    _check_inpainter(config, method)
    compute = section.read(ComputeConfig, config, "compute")
    plain = transformations.Networks(
        classifier=network(num_classes=len(method.classes)),
        backbone=network(num_classes=None),
        inpainter=section.bind(inpainter, config, "inpainter")(),
        critic=section.bind(critic, config, "critic")(),
    )
    networks = transformations.Networks(*(computed(n, compute) for n in plain))
    txs = make_optimizers(config, method.trained_players, config.train.num_steps)
    task = transformations.make_task(
        method, networks, txs, micro_batches=compute.micro_batches
    )
    evals = feature_evals(task, labelled, test, config, plain.backbone)
    look = section.read(PretextConfig, config, "eval.pretext")
    rows = look.batch_size * len(method.classes)
    check_forward("eval.pretext", rows, method.crop_size, plain.classifier)
    evals["pretext"] = pretext_eval(task.predict_fns, test, method.classes, look)
    if shortcut and len(set(method.classes) & set(ROTATIONS)) > 1:
        evals["shortcut"] = shortcut_eval(
            task.predict_fns, shortcut, method.classes, look
        )
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_probe(task, labelled, test, config),
        init_from=read_init_from(config, method.players),
        minibatches=compute.micro_batches,
        heads={player: getattr(plain, player).head for player in method.players},
    )


def _check_inpainter(config: RootConfig, method: transformations.Config) -> None:
    frozen = method.inpaints and method.inpainter == "frozen"
    if frozen and not section.find(config, "init_from").get("inpainter"):
        raise UserError(
            "config.init_from.inpainter is empty, but method.inpainter is 'frozen'; "
            "name the workdir of a run that trained one, or 'random'."
        )
