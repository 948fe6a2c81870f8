"""The sections of a config, every default spelled out, for ``get_config`` to change."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from jaxssl import settings
from jaxssl.data import corruption
from jaxssl.evals import (
    answers,
    classification,
    features,
    knn,
    pretext,
    retrieval,
)
from jaxssl.methods import classify, transformations
from jaxssl.methods import probe as probes
from jaxssl.optim import adam, sgd
from jaxssl.settings import choice
from jaxssl.train import loop, sharding


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
        settings.at_least_one(num_images=self.num_images)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """The section ``compute``: how a step is computed, for less memory or more speed.

    Attributes:
      dtype: of the maps inside of networks, ``float32`` or ``bfloat16``. Parameters,
        statistics, losses, gradients and optimizers are float32 in both.
      remat: compute norms, activations and pools a second time for the gradient instead
        of keeping them: less memory, more time, the same values.
      micro_batches: parts of the batch that go through the networks one after the
        other; the update is that of the mean gradient. Batch norm and mixup see one
        part at a time, so with them it is another training than with 1.
    """

    dtype: str = "float32"
    remat: bool = False
    micro_batches: int = 1

    def __post_init__(self) -> None:
        """Raise UserError for a type that is not offered, or less than one part."""
        choice("dtype", self.dtype, ("float32", "bfloat16"))
        settings.at_least_one(micro_batches=self.micro_batches)


def compute(**changes: Any) -> ConfigDict:
    """Return the section ``compute``: its defaults with some changes."""
    return ConfigDict(dataclasses.asdict(ComputeConfig(**changes)))


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
    test = answers.LogitsConfig(crop_size=crop_size)
    sections = {"test": test, "online": FitConfig(**online)}
    return ConfigDict({k: dataclasses.asdict(v) for k, v in sections.items()})


def probe_evals(**changes: Any) -> ConfigDict:
    """Return the section ``eval`` of ``linear_probes``."""
    return ConfigDict({"test": dataclasses.asdict(answers.LogitsConfig(**changes))})


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
    return ConfigDict(dataclasses.asdict(loop.Config(**changes)))


def mesh(**changes: Any) -> ConfigDict:
    """Return the section ``mesh``: all devices share the batch, or some changes."""
    return ConfigDict(dataclasses.asdict(sharding.Config(**changes)))


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
    test = answers.LogitsConfig(crop_size=crop_size, views=views)
    return _eval_section(crop_size, test=test)


def _eval_section(crop_size: int, **own: Any) -> ConfigDict:
    sections = {
        "features": features.FeatureConfig(crop_size=crop_size),
        "linear_probe": classification.LinearProbeConfig(),
        "few_shot": classification.FewShotConfig(),
        "knn": knn.KnnConfig(),
        "retrieval": retrieval.RetrievalConfig(),
        "online": OnlineConfig(),
        **own,
    }
    return ConfigDict({k: dataclasses.asdict(v) for k, v in sections.items()})
