r"""Chapter 4 on STL-10 with a ResNet-34 (Table 4.7).

Thesis: 91.8 % after fine-tuning on the 5,000 labelled images, multi-crop. Pre-train for
200 epochs, then fine-tune with ``configs/classify_resnet34_stl10.py`` for 300.
Expected hours: not run.

    jaxssl train --workdir=runs/resnet34 \
        --config=configs/transformations_resnet34_stl10.py
    jaxssl train --workdir=runs/resnet34-tuned \
        --config=configs/classify_resnet34_stl10.py \
        --config.init_from.classifier=runs/resnet34

Variants: ``paper``, ``released`` (default), as in ``transformations_stl10.py``. Crops
and augmentation are not in the thesis; those of the AlexNet runs are used.
"""

import transformations_stl10
from ml_collections import ConfigDict

from jaxssl import builders
from jaxssl.config.checks import choice
from jaxssl.experiment import Experiment
from jaxssl.models.resnet import resnet


def get_config(variant: str = "released") -> ConfigDict:
    """Return the AlexNet run's settings with another network."""
    choice("variant", variant, transformations_stl10.SIDES)
    config = transformations_stl10.get_config(f"rot_warp_lci,{variant}").unlock()
    config.model = ConfigDict({"depth": 34, "stem": "small", "width": 64})
    config.eval.knn.endpoint = config.eval.retrieval.endpoint = "stage4"
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    unlabelled, labelled, test = builders.load_splits(
        config.data, "unlabelled", "train", "test"
    )
    return builders.recognition(
        config,
        lambda num_classes: resnet(num_classes=num_classes, **config.model),
        train=unlabelled,
        labelled=labelled,
        test=test,
    )
