"""Experiments that learn without labels."""

from collections.abc import Mapping

from jaxssl.builders.features import feature_evals, online_probe
from jaxssl.builders.parts import (
    MakeNetwork,
    Section,
    computed,
    init_from,
    make_txs,
    read_compute,
)
from jaxssl.config.section import from_config
from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.evals.pretext import PretextConfig, pretext_eval
from jaxssl.evals.shortcut import ROTATIONS, shortcut_eval
from jaxssl.experiment import Experiment
from jaxssl.methods import transformations
from jaxssl.models.critic import critic
from jaxssl.models.inpainter import inpainter


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
      config: sections ``method``, ``inpainter``, ``critic``, ``optim``, ``compute``,
        ``eval`` and ``init_from``.
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
    compute = read_compute(config)
    plain = transformations.Networks(
        classifier=network(len(method.classes)),
        backbone=network(None),
        inpainter=inpainter(**config.inpainter),
        critic=critic(**config.critic),
    )
    networks = transformations.Networks(*(computed(n, compute) for n in plain))
    txs = make_txs(config.optim, method.trained_players, config.train.num_steps)
    task = transformations.make_task(
        method, networks, txs, micro_batches=compute.micro_batches
    )
    look = from_config(PretextConfig, config.eval.pretext, where="eval.pretext")
    evals = feature_evals(task, labelled, test, config.eval)
    evals["pretext"] = pretext_eval(task.predict_fns, test, method.classes, look)
    if shortcut and len(set(method.classes) & set(ROTATIONS)) > 1:
        evals["shortcut"] = shortcut_eval(
            task.predict_fns, shortcut, method.classes, look
        )
    return Experiment(
        task=task,
        train_set=train,
        evals=evals,
        online_evals=online_probe(task, labelled, test, config.eval),
        init_from=init_from(config, method.players),
        heads={player: getattr(plain, player).head for player in method.players},
        minibatches=compute.micro_batches,
    )
