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

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.cifarnet import cifarnet
from jaxssl.models.convnet import convnet
from jaxssl.models.inception import inception
from jaxssl.models.mlp import mlp
from jaxssl.models.preact_resnet import preact_resnet18
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
    network, learner = sections.split_variant(
        variant, NETWORKS, learners, ("network", "learner")
    )
    chosen = NETWORKS[network]
    num_steps = chosen.epochs * EPOCH
    config = ConfigDict({"seed": 0})
    config.data = ConfigDict(
        {"name": "fashion_mnist_10k", "data_dir": "", "num_train": 10_000}
    )
    config.noise = sections.noise(kind="symmetric", rate=0.5)
    config.method = sections.classifier(crop_size=28, flip=False, **chosen.views)
    config.learner = sections.learner(name=learner)
    config.network = network
    config.model = ConfigDict(chosen.settings)
    config.optim = sections.sgd_optim(
        learning_rate=chosen.rate, schedule="cosine", final_rate=0.01
    )
    config.train = sections.train(
        num_steps=num_steps,
        batch_size=64,
        save_every=num_steps,
        log_every=EPOCH,
        eval_every=EPOCH,
    )
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.classifier_evals(crop_size=28)
    config.eval.predictions = config.eval.test.copy_and_resolve_references()
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    network = NETWORKS[config.network].make
    train, test = builders.load_splits(config.data, "train", "test")
    return builders.generalization(
        config,
        lambda num_classes: network(num_classes, **config.model),
        train=train,
        test=test,
    )
