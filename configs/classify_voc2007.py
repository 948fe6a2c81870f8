r"""Few labels: AlexNet from scratch on PASCAL VOC 2007 (section 8.4.4, Figure 8.5).

1,000 epochs on the 5,011 images of trainval, or on a part of them; mean average
precision over ten crops. The thesis averages over ten *random* crops, here they are the
corners and the centre, mirrored too. Expected: a small gain of bilevel over sgd at every
fraction (read off the figure, which has no numbers). Expected hours: not run.

Objects that the annotators marked as difficult do not count as present;
``--config.data.label_key=labels`` counts them.

    jaxssl data prepare tfds:voc/2007
    jaxssl train --workdir=runs/voc --config=configs/classify_voc2007.py:bilevel \
        --config.percent=20
    jaxssl evaluate --workdir=runs/voc --norandom_init
"""

from typing import Annotated

from ml_collections import ConfigDict

from jaxssl.builders import common
from jaxssl.builders.classify import FitConfig, build_experiment
from jaxssl.config import checks, fields, section
from jaxssl.config.compute import ComputeConfig
from jaxssl.data.corruption import NoiseConfig
from jaxssl.distributed.mesh import MeshConfig
from jaxssl.evals.logits import LogitsConfig
from jaxssl.experiment import Experiment
from jaxssl.methods import bilevel, classify
from jaxssl.models.alexnet import original_alexnet
from jaxssl.train.config import TrainConfig

Percent = Annotated[int, fields.Range(at_least=1, at_most=100)]
IMAGES, BATCH, EPOCHS = 5_011, 64, 1_000  # Sec. 8.4.4
# How mini-batches of images with several labels are matched is not given.
LEARNERS = {
    "sgd": {},
    "ghost": {"k": 4, "sampling": "random"},
    "bilevel": {"k": 4, "sampling": "random", "lam": 1.0, "mu": 0.01},
}
"""Four mini-batches: Sec. 8.4.4; lambda and mu: Sec. 8.4.1."""


def get_config(variant: str = "bilevel") -> ConfigDict:
    """Return the settings of a learner.

    Args:
      variant: ``sgd``, ``ghost`` or ``bilevel``.
    """
    checks.choice("the variant", variant, LEARNERS)
    config = ConfigDict({"seed": 123})
    config.data = {
        "name": "tfds:voc/2007",
        "data_dir": "",
        "load_size": 256,
        "label_key": "labels_no_difficult",
    }
    config.percent = 100  # Of trainval; the run stays as long.
    config.noise = section.defaults(NoiseConfig)
    config.method = section.defaults(
        classify.Config,
        crop_size=227,  # Sec. 8.4.4
        area=(0.3, 1.0),  # Sec. 8.4.4
        labels="attributes",
    )
    config.learner = section.defaults(
        bilevel.Learner, name=variant, **LEARNERS[variant]
    )
    config.model = {"dropout": 0.5, "width": 1.0, "fc_features": 4096}
    config.optim = {
        "classifier": {
            "kind": "sgd",
            "learning_rate": 0.01,  # Sec. 8.4.4
            "schedule": "linear",  # Sec. 8.4.4
            "final_rate": 0.0,  # Sec. 8.4.4
            "factor": 0.95,
            "interval": 781,
            "boundaries": (0.5, 0.75),
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 5e-4,
        }
    }
    config.train = section.defaults(
        TrainConfig,
        num_steps=EPOCHS * IMAGES // BATCH,
        batch_size=BATCH,
        eval_every=5_000,
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = {
        # Sixteen images, times ten crops.
        "test": section.defaults(
            LogitsConfig, crop_size=227, views="ten", batch_size=16
        ),
        "online": section.defaults(FitConfig, num_images=IMAGES),
    }
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    percent = fields.convert(config.percent, Percent, "percent")
    part = "" if percent == 100 else f"[:{percent}%]"
    train, test = common.load_splits(config, f"train{part}+validation{part}", "test")
    network = section.bind(original_alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
