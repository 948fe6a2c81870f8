r"""Chapter 4 on ImageNet: AlexNet on 128 px crops (Tables 4.5 and 4.6).

Thesis, linear classifiers on conv1 ... conv5: 20.8 34.5 40.2 43.1 41.4 % (multi-crop
22.4 37.4 43.1 46.6 46.0 %). 200 epochs, batch 96 on 4 GPUs (whether 96 is a GPU's share
or the total is not said; here it is the total). Expected hours: not run.

    jaxssl train --workdir=runs/imagenet --config=configs/transformations_imagenet2012.py
    jaxssl train --workdir=runs/imagenet-probe --config=configs/probe_imagenet2012.py \
        --config.init_from.classifier=runs/imagenet

Variants: ``paper``, ``released`` (default). Not in the thesis and assumed: images scaled
to 176 px, canvas 160 and patch 96, in the proportions of STL-10; the deeper F and D of
the released code's defaults.
"""

import transformations_stl10
from ml_collections import ConfigDict

from jaxssl import builders, sections
from jaxssl.config.checks import choice
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import alexnet

EPOCHS, IMAGES, BATCH = 200, 1_281_167, 96  # Sec. 4.4.2


def get_config(variant: str = "released") -> ConfigDict:
    """Return the settings of the run."""
    choice("variant", variant, transformations_stl10.SIDES)
    config = transformations_stl10.get_config(f"rot_warp_lci,{variant}").unlock()
    config.data = ConfigDict(
        {"name": "tfds:imagenet2012", "data_dir": "", "load_size": 176}
    )
    config.method.update(canvas_size=160, crop_size=128, patch_size=96, border=4)
    config.inpainter.num_layers = 5
    config.critic.num_stages = 4
    config.train = sections.train(
        num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH, num_workers=8
    )
    config.eval = sections.recognition_evals(crop_size=128)
    config.eval.features.train_images = 100_000  # All of them would take 34 GB.
    config.eval.online.num_images = 5000
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "validation")
    return builders.recognition(
        config,
        lambda num_classes: alexnet(num_classes, **config.model),
        train=train,
        labelled=train,
        test=test,
    )
