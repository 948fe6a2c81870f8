r"""Linear classifiers of CelebA's 40 attributes (Table 4.3), the thesis' protocol.

Thesis, mean average precision: 71.8 74.0 73.5 72.5 69.2 % on conv1 ... conv5 of Rot +
Warp + LCI; random 68.9 70.1 66.7 65.3 63.2 %. Expected hours: not run.

    jaxssl train --workdir=runs/celeb_a-probe --config=configs/probe_celeb_a.py \
        --config.init_from.classifier=runs/celeb_a
    jaxssl evaluate --workdir=runs/celeb_a-probe

``init_from.classifier=random`` probes an untrained network.
"""

from ml_collections import ConfigDict

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

EPOCHS, IMAGES, BATCH = 100, 162_770, 64  # Sec. 4.4.1


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict({"name": "tfds:celeb_a", "data_dir": "", "load_size": 128})
    config.method = sections.probe(num_classes=40, labels="attributes", crop_size=96)
    config.model = ConfigDict({"width": 1.0, "groups": 2, "padding": "SAME"})
    config.train = sections.train(num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH)
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.probe_evals(crop_size=96)
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    backbone = alexnet(None, **config.model)
    return builders.linear_probes(config, backbone, train=train, test=test)
