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

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

EPOCHS, IMAGES, BATCH = 35, 1_281_167, 192


def get_config() -> ConfigDict:
    """Return the settings of the linear classifiers."""
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict(
        {"name": "tfds:imagenet2012", "data_dir": "", "load_size": 256}
    )
    config.method = sections.probe(num_classes=1000, crop_size=227)
    config.model = ConfigDict({"width": 1.0, "groups": 2, "padding": "VALID"})
    config.train = sections.train(num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH)
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.probe_evals(crop_size=227)
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "validation")
    backbone = alexnet(None, **config.model)
    return builders.linear_probes(config, backbone, train=train, test=test)
