r"""Chapter 4 on CelebA: AlexNet on 96 px crops (Table 4.3).

Thesis, mean average precision on conv1 ... conv5: Rot + Warp + LCI 71.8 74.0 73.5 72.5
69.2 %, Rot alone 70.3 70.9 67.8 65.6 62.1 %. 100 epochs. Expected hours: not run.

    jaxssl train --workdir=runs/celeb_a --config=configs/transformations_celeb_a.py
    jaxssl train --workdir=runs/celeb_a-probe --config=configs/probe_celeb_a.py \
        --config.init_from.classifier=runs/celeb_a

Variants: rows and sides as in ``transformations_stl10.py``. Not in the thesis and
assumed: images scaled to 128 px, canvas 120 and patch 72, in the proportions of STL-10.
"""

import transformations_stl10
from ml_collections import ConfigDict

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

EPOCHS, IMAGES, BATCH = 100, 162_770, 64  # Sec. 4.4.1


def get_config(variant: str = "rot_warp_lci,released") -> ConfigDict:
    """Return the settings of one row."""
    config = transformations_stl10.get_config(variant).unlock()
    config.data = ConfigDict({"name": "tfds:celeb_a", "data_dir": "", "load_size": 128})
    config.method.update(canvas_size=120, crop_size=96, patch_size=72)
    config.train = sections.train(num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH)
    config.eval = sections.recognition_evals(crop_size=96)
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    return builders.recognition(
        config,
        lambda num_classes: alexnet(num_classes, **config.model),
        train=train,
        labelled=train,
        test=test,
    )
