r"""Linear classifiers on frozen features of STL-10 (Table 4.2), the thesis' protocol.

Thesis: 59.2 69.7 71.9 73.1 73.7 % on conv1 ... conv5 of Rot + Warp + LCI; random 48.4
53.3 51.1 48.7 47.9 %. Expected hours: not run.

    jaxssl train --workdir=runs/stl10-probe --config=configs/probe_stl10.py \
        --config.init_from.classifier=runs/stl10
    jaxssl evaluate --workdir=runs/stl10-probe

``init_from.classifier=random`` probes an untrained network.
``method.pooling=none`` leaves the feature maps as they are, as the thesis says; the
released code pools them and trains 900 epochs.
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

EPOCHS, IMAGES, BATCH = 700, 5_000, 64  # Sec. 4.4.1; released code: 900 epochs.


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = {"name": "tfds:stl10", "data_dir": ""}
    config.method = section.defaults(
        probe.Config,
        num_classes=10,
        crop_size=64,
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
    config.eval = {"test": section.defaults(LogitsConfig, crop_size=64)}
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "test")
    network = section.bind(alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
