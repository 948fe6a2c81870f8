"""What a config's ``build`` returns, and the evaluations that image configs share."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from jaxssl.data.sources import Source
from jaxssl.data.subset import Subset
from jaxssl.evals import classification, features, knn, pretext, retrieval, suite
from jaxssl.optim import adam
from jaxssl.settings import from_config
from jaxssl.types import Eval, Task


class Experiment(NamedTuple):
    """All that the command line needs to train, evaluate and report one run.

    Attributes:
      task: what is trained.
      train_set: where mini-batches come from.
      evals: what ``jaxssl evaluate`` runs, by name.
      online_evals: cheap ones that run during training, every ``train.eval_every``
        steps.
      init_from: player to the workdir of another run; that run's newest checkpoint
        gives the player its first parameters and statistics.
      transform_names: the pretext classes in label order; empty for supervised tasks.
    """

    task: Task
    train_set: Source
    evals: Mapping[str, Eval]
    online_evals: Mapping[str, Eval]
    init_from: Mapping[str, str]
    transform_names: tuple[str, ...]


def make_txs(
    section: Mapping[str, Any], players: Sequence[str], *, num_steps: int
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


def eval_section(*, crop_size: int) -> ConfigDict:
    """Return a config's section ``eval`` with every default spelled out."""
    defaults = {
        "features": features.FeatureConfig(crop_size=crop_size),
        "linear_probe": classification.LinearProbeConfig(),
        "few_shot": classification.FewShotConfig(),
        "knn": knn.KnnConfig(),
        "retrieval": retrieval.RetrievalConfig(),
        "pretext": pretext.PretextConfig(),
    }
    return ConfigDict({k: dataclasses.asdict(v) for k, v in defaults.items()})


def feature_evals(
    task: Task, train: Source, test: Source, section: Mapping[str, Any]
) -> dict[str, Eval]:
    """Return the evaluations on frozen features of single-label images.

    Args:
      task: its readout ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      section: the config's ``eval``, with one section an evaluation.

    Returns:
      ``linear_probe``, ``few_shot``, ``knn`` and ``retrieval``.
    """

    def read(cls, name):
        return from_config(cls, section[name], where=f"eval.{name}")

    bank = features.FeatureBank(
        task.readouts["features"], read(features.FeatureConfig, "features")
    )
    return {
        "linear_probe": suite.linear_probe_eval(
            bank, train, test, read(classification.LinearProbeConfig, "linear_probe")
        ),
        "few_shot": suite.few_shot_eval(
            bank, train, test, read(classification.FewShotConfig, "few_shot")
        ),
        "knn": suite.knn_eval(bank, train, test, read(knn.KnnConfig, "knn")),
        "retrieval": suite.retrieval_eval(
            bank, test, train, read(retrieval.RetrievalConfig, "retrieval")
        ),
    }


def online_probe(
    task: Task, train: Source, test: Source, section: Mapping[str, Any]
) -> dict[str, Eval]:
    """Return the few-shot probe on a part of the data, cheap enough for training.

    Args:
      task: its readout ``features`` is asked.
      train: labelled images to learn from.
      test: labelled images to test on.
      section: the config's ``eval``; ``online_images`` says how many of each are used.

    Returns:
      One evaluation, ``probe``.
    """
    num = section["online_images"]
    bank = features.FeatureBank(
        task.readouts["features"],
        from_config(features.FeatureConfig, section["features"], where="eval.features"),
    )
    config = from_config(
        classification.FewShotConfig, section["few_shot"], where="eval.few_shot"
    )
    return {
        "probe": suite.few_shot_eval(
            bank, Subset(train, num), Subset(test, num), config
        )
    }


def pretext_evals(
    task: Task, test: Source, names: tuple[str, ...], section: Mapping[str, Any]
) -> dict[str, Eval]:
    """Return the confusion of the transformations on held-out images.

    Args:
      task: its readout ``pretext`` is asked.
      test: held-out images.
      names: the transformations in label order.
      section: the config's ``eval``.

    Returns:
      One evaluation, ``pretext``.
    """
    config = from_config(
        pretext.PretextConfig, section["pretext"], where="eval.pretext"
    )
    return {"pretext": suite.pretext_eval(task.readouts, test, names, config)}
