"""Chapter 8 on a CPU: 10,000 garments of Fashion-MNIST, half of them with wrong labels.

    jaxssl train --workdir=runs/noisy --config=configs/classify_fashion_mnist.py
    jaxssl evaluate --workdir=runs/noisy --norandom_init
    jaxssl report --workdir=runs/noisy

A variant is ``network,learner``: ``mlp`` (256-256 with batch norm), ``mlp_plain``
(without) or ``convnet`` (16-32-64), or one of the paper's networks, ``cifarnet``,
``inception`` or ``preact_resnet18``; and ``sgd``, ``ghost`` or ``bilevel``. All learners
visit the same number of images. What they reach is in ``experiments/results``; `jaxssl report`
puts other runs beside one with ``--baselines=SGD=runs/sgd``, and stored ones of the same
network and noise with ``--stored=experiments/results/table_8_1_cpu.json``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

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
from jaxssl.models.cifarnet import cifarnet
from jaxssl.models.convnet import convnet
from jaxssl.models.inception import inception
from jaxssl.models.mlp import mlp
from jaxssl.models.preact_resnet import preact_resnet18
from jaxssl.train.config import TrainConfig
from jaxssl.types import Network

EPOCH = 10_000 // 64
# Without batch norm the rate would be too large for pixels whose mean is not 0, and for
# grey that comes as three equal channels: divided by the root of 3 they count as one.
CENTRED = {"pixels": "normalized", "mean": (0.286,) * 3, "std": (0.353 * 3**0.5,) * 3}
DENSE = {"features": (256, 256), "dropout": 0.0}


class Choice(NamedTuple):
    """A network, what it sees, and how long and how fast it learns."""

    make: Callable[..., Network]
    settings: dict[str, Any]
    views: dict[str, Any]
    epochs: int = 40
    rate: float = 0.05


NETWORKS = {
    "mlp": Choice(mlp, {**DENSE, "norm": True}, {}),
    "mlp_plain": Choice(mlp, {**DENSE, "norm": False}, CENTRED),
    "convnet": Choice(
        convnet, {"channels": (16, 32, 64), "features": 256}, {}, epochs=25
    ),
    "cifarnet": Choice(cifarnet, {"dropout": 0.5}, CENTRED, epochs=10, rate=0.01),
    "inception": Choice(inception, {"dropout": 0.5}, {}, epochs=10),
    "preact_resnet18": Choice(preact_resnet18, {}, {}, epochs=10),
}


def get_config(variant: str = "mlp,bilevel") -> ConfigDict:
    """Return the settings of a network and a learner.

    Args:
      variant: ``network,learner``.
    """
    learners = ("sgd", "ghost", "bilevel")
    network, learner = checks.split_variant(variant, network=NETWORKS, learner=learners)
    chosen = NETWORKS[network]
    num_steps = chosen.epochs * EPOCH
    config = ConfigDict({"seed": 0})
    config.data = {"name": "fashion_mnist_10k", "data_dir": "", "num_train": 10_000}
    config.noise = section.defaults(NoiseConfig, kind="symmetric", rate=0.5)
    config.method = section.defaults(
        classify.Config, crop_size=28, flip=False, **chosen.views
    )
    config.learner = section.defaults(
        bilevel.Learner,
        name=learner,
        k=8,  # Sec. 8.4.1, as lambda and mu
        lam=1.0,
        mu=0.01,
    )
    config.network = network
    config.model = chosen.settings
    config.optim = {
        "classifier": {
            "kind": "sgd",
            "learning_rate": chosen.rate,
            "schedule": "cosine",
            "final_rate": 0.01,
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
        num_steps=num_steps,
        batch_size=64,
        save_every=num_steps,
        log_every=EPOCH,
        eval_every=EPOCH,
    )
    config.mesh = section.defaults(MeshConfig)
    config.compute = section.defaults(ComputeConfig)
    config.eval = {
        "test": section.defaults(LogitsConfig, crop_size=28),
        "predictions": section.defaults(LogitsConfig, crop_size=28),
        "online": section.defaults(FitConfig),
    }
    config.init_from = {"classifier": ""}
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    checks.choice("network", config.network, NETWORKS)
    train, test = common.load_splits(config, "train", "test")
    network = section.bind(NETWORKS[config.network].make, config, "model")
    return build_experiment(config, network, train=train, test=test)
