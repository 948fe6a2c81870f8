"""The sections of a config, every default spelled out, for ``get_config`` to change."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from jaxssl.config import checks
from jaxssl.config import compute as compute_config
from jaxssl.config.checks import choice
from jaxssl.data import corruption
from jaxssl.distributed import mesh as meshes
from jaxssl.evals import (
    feature_bank,
    few_shot,
    knn,
    linear_probe,
    logits,
    pretext,
    retrieval,
)
from jaxssl.methods import classify, transformations
from jaxssl.methods import probe as probes
from jaxssl.optim import adam, sgd
from jaxssl.train import config as train_config


def split_variant(
    variant: str,
    rows: Iterable[str],
    sides: Iterable[str],
    names: tuple[str, str] = ("row", "side"),
) -> tuple[str, str]:
    """Split ``row,side`` and check both; ``names`` are what the two are called.

    Raises:
      UserError: a part is missing or not among the allowed ones.
    """
    row, _, side = variant.partition(",")
    choice(f"the variant's {names[0]}", row, rows)
    choice(f"the variant's {names[1]} (after a comma)", side, sides)
    return row, side


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """The few-shot probe that runs during training.

    Attributes:
      num_images: evenly spaced images of each labelled set that are used.
      shots: labelled images a class; fewer where a class has fewer among them.
    """

    num_images: int = 1000
    shots: int = 50


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitConfig:
    """The accuracies that are measured during training.

    Attributes:
      num_images: evenly spaced training images that are used, and at most so many test
        images.
    """

    num_images: int = 2000

    def __post_init__(self) -> None:
        """Raise UserError for less than one image."""
        checks.at_least_one(num_images=self.num_images)


def compute(**changes: Any) -> ConfigDict:
    """Return the section ``compute``: its defaults with some changes."""
    return ConfigDict(dataclasses.asdict(compute_config.ComputeConfig(**changes)))


def method(**changes: Any) -> ConfigDict:
    """Return chapter 4's section ``method``: its defaults with some changes."""
    return ConfigDict(dataclasses.asdict(transformations.Config(**changes)))


def probe(**changes: Any) -> ConfigDict:
    """Return the section ``method`` of the thesis' linear classifiers."""
    return ConfigDict(dataclasses.asdict(probes.Config(**changes)))


def classifier(**changes: Any) -> ConfigDict:
    """Return the section ``method`` of a classifier, its defaults with some changes."""
    return ConfigDict(dataclasses.asdict(classify.Config(**changes)))


def learner(**changes: Any) -> ConfigDict:
    """Return the section ``learner``: plain SGD, or with some changes another one."""
    return ConfigDict(dataclasses.asdict(classify.Learner(**changes)))


def noise(**changes: Any) -> ConfigDict:
    """Return the section ``noise``: none, or with some changes what is corrupted."""
    return ConfigDict(dataclasses.asdict(corruption.NoiseConfig(**changes)))


def sgd_optim(**changes: Any) -> ConfigDict:
    """Return the section ``optim`` of section 8.4: SGD, with some changes."""
    return ConfigDict({"classifier": dataclasses.asdict(sgd.SGDConfig(**changes))})


def classifier_evals(*, crop_size: int, **online: Any) -> ConfigDict:
    """Return the section ``eval`` of ``classification``, every default spelled out.

    Args:
      crop_size: side of the centre crops, in pixels.
      **online: what to change of `FitConfig`.
    """
    test = logits.LogitsConfig(crop_size=crop_size)
    sections = {"test": test, "online": FitConfig(**online)}
    return ConfigDict({k: dataclasses.asdict(v) for k, v in sections.items()})


def probe_evals(**changes: Any) -> ConfigDict:
    """Return the section ``eval`` of ``linear_probes``."""
    return ConfigDict({"test": dataclasses.asdict(logits.LogitsConfig(**changes))})


def optim(*, critic_rate: float = 8e-4, **classifier: Any) -> ConfigDict:
    """Return the section ``optim`` of section 4.4, with changes to the classifier's."""
    return ConfigDict(
        {
            "classifier": dataclasses.asdict(adam.AdamWConfig(**classifier)),
            "inpainter": dataclasses.asdict(adam.AdamConfig()),
            "critic": dataclasses.asdict(adam.AdamConfig(learning_rate=critic_rate)),
        }
    )


def train(**changes: Any) -> ConfigDict:
    """Return the section ``train``: the loop's defaults with some changes."""
    return ConfigDict(dataclasses.asdict(train_config.TrainConfig(**changes)))


def mesh(**changes: Any) -> ConfigDict:
    """Return the section ``mesh``: all devices share the batch, or some changes."""
    return ConfigDict(dataclasses.asdict(meshes.MeshConfig(**changes)))


def recognition_evals(*, crop_size: int) -> ConfigDict:
    """Return the section ``eval`` of ``recognition``, every default spelled out.

    Args:
      crop_size: side of the centre crops, in pixels.
    """
    return _eval_section(crop_size, pretext=pretext.PretextConfig())


def supervised_evals(*, crop_size: int, views: str = "center") -> ConfigDict:
    """Return the section ``eval`` of ``supervised``, every default spelled out.

    Args:
      crop_size: side of the crops, in pixels.
      views: crops of a test image whose answers are averaged.
    """
    test = logits.LogitsConfig(crop_size=crop_size, views=views)
    return _eval_section(crop_size, test=test)


def _eval_section(crop_size: int, **own: Any) -> ConfigDict:
    sections = {
        "features": feature_bank.FeatureConfig(crop_size=crop_size),
        "linear_probe": linear_probe.LinearProbeConfig(),
        "few_shot": few_shot.FewShotConfig(),
        "knn": knn.KnnConfig(),
        "retrieval": retrieval.RetrievalConfig(),
        "online": OnlineConfig(),
        **own,
    }
    return ConfigDict({k: dataclasses.asdict(v) for k, v in sections.items()})
