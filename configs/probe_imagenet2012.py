r"""Linear classifiers on frozen features of ImageNet (Table 4.5), the thesis' protocol.

Thesis: 20.8 34.5 40.2 43.1 41.4 % on conv1 ... conv5; multi-crop 22.4 37.4 43.1 46.6
46.0 % (``eval.test.views=ten``). Expected hours: not run.

    jaxssl train --workdir=runs/imagenet2012-probe --config=configs/probe_imagenet2012.py \
        --config.init_from.classifier=runs/imagenet
    jaxssl evaluate --workdir=runs/imagenet2012-probe

``init_from.classifier=random`` probes an untrained network.
Crops of 227 px with VALID padding give the thesis' feature sizes of about 9,200 values.
The number of epochs is not in the thesis; RotNet's 35 are used.
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

EPOCHS, IMAGES, BATCH = 35, 1_281_167, 192


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = {"name": "tfds:imagenet2012", "data_dir": "", "load_size": 256}
    config.method = section.defaults(
        probe.Config,
        num_classes=1000,
        crop_size=227,
        l2=5e-4,  # From here on: released code.
        bn_momentum=0.975,
        bn_epsilon=1e-3,
        learning_rates=(0.1, 0.01, 2e-3, 4e-4, 8e-5),
        boundaries=(0.08, 0.4, 0.7, 0.9),
        momentum=0.9,
    )
    config.model = {"width": 1.0, "groups": 2, "padding": "VALID"}
    config.train = section.defaults(
        TrainConfig, num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = {"test": section.defaults(LogitsConfig, crop_size=227)}
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "validation")
    network = section.bind(alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
