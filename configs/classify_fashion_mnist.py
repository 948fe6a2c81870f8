"""Chapter 8 on a CPU: 10,000 garments of Fashion-MNIST, half of them with wrong labels.

    jaxssl train --workdir=runs/noisy --config=configs/classify_fashion_mnist.py
    jaxssl evaluate --workdir=runs/noisy --norandom_init
    jaxssl report --workdir=runs/noisy

A variant is ``network,learner``: ``mlp`` (256-256 with batch norm), ``mlp_plain``
(without) or ``convnet`` (16-32-64), and ``sgd``, ``ghost`` or ``bilevel``. All visit the
same number of images. What they reach is in ``experiments/results``; `jaxssl report`
puts other runs beside one with ``--baselines=SGD=runs/sgd``, and stored ones of the same
network and noise with ``--stored=experiments/results/table_8_1_cpu.json``.
"""

from ml_collections import ConfigDict

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.convnet import convnet
from jaxssl.models.mlp import mlp

EPOCH = 10_000 // 64
# Without batch norm the rate would be too large for pixels whose mean is not 0.
CENTRED = {"pixels": "normalized", "mean": (0.286,) * 3, "std": (0.353,) * 3}
NETWORKS = {
    "mlp": ({"features": (256, 256), "norm": True, "dropout": 0.0}, {}, 40),
    "mlp_plain": ({"features": (256, 256), "norm": False, "dropout": 0.0}, CENTRED, 40),
    "convnet": ({"channels": (16, 32, 64), "features": 256}, {}, 25),
}
"""Settings of the network and of what it sees, and epochs, by name."""


def get_config(variant: str = "mlp,bilevel") -> ConfigDict:
    """Return the settings of a network and a learner.

    Args:
      variant: ``network,learner``.
    """
    learners = ("sgd", "ghost", "bilevel")
    network, learner = sections.split_variant(variant, NETWORKS, learners)
    model, views, epochs = NETWORKS[network]
    num_steps = epochs * EPOCH
    config = ConfigDict({"seed": 0})
    config.data = ConfigDict(
        {"name": "fashion_mnist_10k", "data_dir": "", "num_train": 10_000}
    )
    config.noise = sections.noise(kind="symmetric", rate=0.5)
    config.method = sections.classifier(crop_size=28, flip=False, **views)
    config.learner = sections.learner(name=learner)
    config.model = ConfigDict(model)
    config.optim = sections.sgd_optim(
        learning_rate=0.05, schedule="cosine", final_rate=0.01
    )
    config.train = sections.train(
        num_steps=num_steps,
        batch_size=64,
        save_every=num_steps,
        log_every=EPOCH,
        eval_every=EPOCH,
    )
    config.mesh = ConfigDict({"data": -1})
    config.eval = sections.classifier_evals(crop_size=28)
    config.eval.predictions = config.eval.test.copy_and_resolve_references()
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    network = convnet if "channels" in config.model else mlp
    train, test = builders.load_splits(config.data, "train", "test")
    return builders.generalization(
        config,
        lambda num_classes: network(num_classes, **config.model),
        train=train,
        test=test,
    )
