r"""Fine-tune a ResNet-34 on the labels of STL-10 (Table 4.7: 91.8 %).

300 epochs on the 5,000 labelled images with the optimizer of the pre-training, tested by
ten crops. Without ``init_from`` this is the supervised baseline. Expected hours: not run.

    jaxssl train --workdir=runs/resnet34-tuned \
        --config=configs/classify_resnet34_stl10.py \
        --config.init_from.classifier=runs/resnet34
    jaxssl evaluate --workdir=runs/resnet34-tuned
"""

import functools

from ml_collections import ConfigDict

from jaxssl.builders import common, feature_evals
from jaxssl.builders.classify import build_experiment
from jaxssl.config import section
from jaxssl.config.compute import ComputeConfig
from jaxssl.distributed.mesh import MeshConfig
from jaxssl.evals.logits import LogitsConfig
from jaxssl.experiment import Experiment
from jaxssl.models.resnet import resnet
from jaxssl.train.config import TrainConfig

EPOCHS, IMAGES, BATCH = 300, 5_000, 64  # Sec. 4.4.2; the batch is the pre-training's.


def get_config() -> ConfigDict:
    """Return the settings of the fine-tuning."""
    config = ConfigDict({"seed": 123})
    config.data = {"name": "tfds:stl10", "data_dir": ""}
    config.method = {"crop_size": 64, "flip": True}
    config.model = {"depth": 34, "stem": "small", "width": 64}
    config.optim = {
        "classifier": {  # Sec. 4.4, as in pre-training
            "kind": "adamw",
            "learning_rate": 3e-4,
            "final_rate": 1e-3,
            "b1": 0.5,
            "b2": 0.99,
            "weight_decay": 1e-4,
            "decay_times_rate": False,
        },
        # Not read here; stored runs have these sections.
        "inpainter": {"kind": "adam", "learning_rate": 2e-4, "b1": 0.5, "b2": 0.999},
        "critic": {"kind": "adam", "learning_rate": 8e-4, "b1": 0.5, "b2": 0.999},
    }
    config.train = section.defaults(
        TrainConfig, num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = feature_evals.default_sections(crop_size=64)
    config.eval.knn.endpoint = config.eval.retrieval.endpoint = "stage4"
    # Sixteen images, times ten crops; 256 need more than 22 GB.
    config.eval.test = section.defaults(
        LogitsConfig, crop_size=64, views="ten", batch_size=16
    )
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "test")
    network = section.bind(functools.partial(resnet, depth=34), config, "model")
    return build_experiment(config, network, train=train, test=test)
