"""Supervised baseline on Fashion-on-Photos: the demo's network, crops and budget.

    jaxssl train --workdir=runs/supervised --config=configs/classify_fashion_on_photos.py
    jaxssl evaluate --workdir=runs/supervised

With ``--config.init_from.classifier=runs/demo`` all layers start from a pre-trained run
(full fine-tuning). A batch holds as many images as the demo's rotations give views. What
it reaches is in ``experiments/results``.
"""

from ml_collections import ConfigDict
from transformations_fashion_on_photos import SMALL_ALEXNET

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet


def get_config() -> ConfigDict:
    """Return the settings of the baseline."""
    config = ConfigDict({"seed": 0})
    config.data = ConfigDict(
        {"name": "fashion_on_photos", "size": 40, "preset": "demo", "seed": 0}
    )
    config.method = ConfigDict({"crop_size": 32, "flip": True})
    config.model = ConfigDict(SMALL_ALEXNET)
    config.optim = sections.optim(learning_rate=3e-3, b1=0.9, decay_times_rate=True)
    config.train = sections.train(
        num_steps=1200, batch_size=128, save_every=300, eval_every=300
    )
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.supervised_evals(crop_size=32)
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    return builders.supervised(
        config,
        lambda num_classes: alexnet(num_classes, **config.model),
        train=train,
        test=test,
    )
