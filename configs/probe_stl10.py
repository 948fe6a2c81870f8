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

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

EPOCHS, IMAGES, BATCH = 700, 5_000, 64  # Sec. 4.4.1; released code: 900 epochs.


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict({"name": "tfds:stl10", "data_dir": ""})
    config.method = sections.probe(num_classes=10, crop_size=64)
    config.model = ConfigDict({"width": 1.0, "groups": 2, "padding": "SAME"})
    config.train = sections.train(num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH)
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.probe_evals(crop_size=64)
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    backbone = alexnet(None, **config.model)
    return builders.linear_probes(config, backbone, train=train, test=test)
