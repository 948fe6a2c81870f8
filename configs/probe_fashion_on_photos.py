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

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

EPOCHS, IMAGES, BATCH = 20, 10_000, 64


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict(
        {"name": "fashion_on_photos", "size": 40, "preset": "demo", "seed": 0}
    )
    config.method = sections.probe(num_classes=10, crop_size=32, pooling="none")
    config.model = ConfigDict(SMALL_ALEXNET)
    config.train = sections.train(num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH)
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.probe_evals(crop_size=32)
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    backbone = alexnet(None, **config.model)
    return builders.linear_probes(config, backbone, train=train, test=test)
