r"""Linear classifiers of CelebA's 40 attributes (Table 4.3), the thesis' protocol.

Thesis, mean average precision: 71.8 74.0 73.5 72.5 69.2 % on conv1 ... conv5 of Rot +
Warp + LCI; random 68.9 70.1 66.7 65.3 63.2 %. Expected hours: not run.

    jaxssl train --workdir=runs/celeb_a-probe --config=configs/probe_celeb_a.py \
        --config.init_from.classifier=runs/celeb_a
    jaxssl evaluate --workdir=runs/celeb_a-probe

``init_from.classifier=random`` probes an untrained network.
"""

from ml_collections import ConfigDict

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

EPOCHS, IMAGES, BATCH = 100, 162_770, 64  # Sec. 4.4.1


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = {"name": "tfds:celeb_a", "data_dir": "", "load_size": 128}
    config.method = section.defaults(
        probe.Config,
        num_classes=40,
        labels="attributes",
        crop_size=96,
        l2=5e-4,  # From here on: released code.
        bn_momentum=0.975,
        bn_epsilon=1e-3,
        learning_rates=(0.1, 0.01, 2e-3, 4e-4, 8e-5),
        boundaries=(0.08, 0.4, 0.7, 0.9),
        momentum=0.9,
    )
    config.model = {"width": 1.0, "groups": 2, "padding": "SAME"}
    config.train = section.defaults(
        TrainConfig, num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = {"test": section.defaults(LogitsConfig, crop_size=96)}
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "test")
    network = section.bind(alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
