"""Supervised baseline on Fashion-on-Photos: the demo's network, crops and budget.

    jaxssl train --workdir=runs/supervised --config=configs/classify_fashion_on_photos.py
    jaxssl evaluate --workdir=runs/supervised

With ``--config.init_from.classifier=runs/demo`` all layers start from a pre-trained run
(full fine-tuning). A batch holds as many images as the demo's rotations give views. What
it reaches is in ``experiments/results``.
"""

from ml_collections import ConfigDict
from transformations_fashion_on_photos import SMALL_ALEXNET

from jaxssl.builders import common, feature_evals
from jaxssl.builders.classify import build_experiment
from jaxssl.config import section
from jaxssl.config.compute import ComputeConfig
from jaxssl.distributed.mesh import MeshConfig
from jaxssl.evals.logits import LogitsConfig
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet
from jaxssl.train.config import TrainConfig


def get_config() -> ConfigDict:
    """Return the settings of the baseline."""
    config = ConfigDict({"seed": 0})
    config.data = {"name": "fashion_on_photos", "size": 40, "preset": "demo", "seed": 0}
    config.method = {"crop_size": 32, "flip": True}
    config.model = SMALL_ALEXNET
    config.optim = {
        "classifier": {
            "kind": "adamw",
            "learning_rate": 3e-3,
            "final_rate": 1e-3,
            "b1": 0.9,
            "b2": 0.99,
            "weight_decay": 1e-4,
            "decay_times_rate": True,
        },
        # Not read here; stored runs have these sections.
        "inpainter": {"kind": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999},
        "critic": {"kind": "adam", "learning_rate": 8e-4, "b1": 0.5, "b2": 0.999},
    }
    config.train = section.defaults(
        TrainConfig, num_steps=1200, batch_size=128, save_every=300, eval_every=300
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = feature_evals.default_sections(crop_size=32)
    config.eval.test = section.defaults(LogitsConfig, crop_size=32)
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "test")
    network = section.bind(alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
