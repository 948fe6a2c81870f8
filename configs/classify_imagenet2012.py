r"""Realistic label noise: AlexNet on ImageNet with the labels of another AlexNet (Table 8.4).

Train once on clean labels, let that network label the training images with its dropout
active (about 44 % of the labels are wrong then), and train on those.

    jaxssl train --workdir=runs/clean --config=configs/classify_imagenet2012.py:sgd
    jaxssl evaluate --workdir=runs/clean --evals=test,predictions --norandom_init
    jaxssl train --workdir=runs/noisy --config=configs/classify_imagenet2012.py:bilevel \
        --config.noise.kind=predicted --config.noise.file=runs/clean/evals/predictions.npz

Expected (Table 8.4): with clean labels sgd 57.4, bilevel 58.2; with noise 50.75 and
52.69. Length, rate and crops are not given: those here are AlexNet's. Hours: not run.
"""

from ml_collections import ConfigDict

from jaxssl.builders import common
from jaxssl.builders.classify import FitConfig, build_experiment
from jaxssl.config import checks, section
from jaxssl.config.compute import ComputeConfig
from jaxssl.data.corruption import NoiseConfig
from jaxssl.distributed.mesh import MeshConfig
from jaxssl.evals.logits import LogitsConfig
from jaxssl.experiment import Experiment
from jaxssl.methods import bilevel, classify
from jaxssl.models.alexnet import original_alexnet
from jaxssl.train.config import TrainConfig

IMAGES, BATCH, EPOCHS = 1_281_167, 128, 90
TEST_IMAGES = 50_000


def get_config(variant: str = "bilevel") -> ConfigDict:
    """Return the settings of a learner.

    Args:
      variant: ``sgd``, ``ghost`` or ``bilevel``.
    """
    checks.choice("the variant", variant, ("sgd", "ghost", "bilevel"))
    config = ConfigDict({"seed": 123})
    config.data = {"name": "tfds:imagenet2012", "data_dir": "", "load_size": 256}
    config.noise = section.defaults(NoiseConfig)
    config.method = section.defaults(classify.Config, crop_size=227)
    config.learner = section.defaults(
        bilevel.Learner,
        name=variant,
        k=8,  # Sec. 8.4.1, as lambda and mu
        lam=1.0,
        mu=0.01,
    )
    config.model = {"dropout": 0.5, "width": 1.0, "fc_features": 4096}
    config.optim = {
        "classifier": {
            "kind": "sgd",
            "learning_rate": 0.01,
            "schedule": "boundaries",
            "factor": 0.1,
            "boundaries": (0.33, 0.67),
            "interval": 781,
            "final_rate": 0.0,
            "momentum": 0.9,  # Sec. 8.4.1
            "nesterov": False,
            "weight_decay": 5e-4,
        }
    }
    config.train = section.defaults(
        TrainConfig,
        num_steps=EPOCHS * IMAGES // BATCH,
        batch_size=BATCH,
        eval_every=50_000,
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = {
        "test": section.defaults(LogitsConfig, crop_size=227),
        "predictions": section.defaults(LogitsConfig, crop_size=227),
        "online": section.defaults(FitConfig, num_images=TEST_IMAGES),
    }
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = common.load_splits(config, "train", "validation")
    network = section.bind(original_alexnet, config, "model")
    return build_experiment(config, network, train=train, test=test)
