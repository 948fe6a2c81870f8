r"""Linear classifiers on Fashion-on-Photos by the thesis' protocol, CPU size.

The thesis' protocol crops at random and computes features anew at each step; the demo's
report uses the quicker cached probe (``jaxssl evaluate``). Minutes: not run.

    jaxssl train --workdir=runs/fashion_on_photos-probe --config=configs/probe_fashion_on_photos.py \
        --config.init_from.classifier=runs/demo
    jaxssl evaluate --workdir=runs/fashion_on_photos-probe

``init_from.classifier=random`` probes an untrained network.
"""

from ml_collections import ConfigDict
from transformations_fashion_on_photos import SMALL_ALEXNET

from jaxssl.builders import common
from jaxssl.builders.probe import build_experiment
from jaxssl.config import section
from jaxssl.config.compute import ComputeConfig
from jaxssl.distributed.mesh import MeshConfig
from jaxssl.evals.logits import LogitsConfig
from jaxssl.experiment import Experiment
from jaxssl.methods import probe
from jaxssl.models.alexnet import alexnet
from jaxssl.train.config import TrainConfig

EPOCHS, IMAGES, BATCH = 20, 10_000, 64


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = {"name": "fashion_on_photos", "size": 40, "preset": "demo", "seed": 0}
    config.method = section.defaults(
        probe.Config,
        num_classes=10,
        crop_size=32,
        pooling="none",
        l2=5e-4,  # From here on: released code.
        bn_momentum=0.975,
        bn_epsilon=1e-3,
        learning_rates=(0.1, 0.01, 2e-3, 4e-4, 8e-5),
        boundaries=(0.08, 0.4, 0.7, 0.9),
        momentum=0.9,
    )
    config.model = SMALL_ALEXNET
    config.train = section.defaults(
        TrainConfig, num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = {"test": section.defaults(LogitsConfig, crop_size=32)}
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "test")
    network = section.bind(alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
