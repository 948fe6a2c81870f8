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

from jaxssl import builders, sections
from jaxssl.config.checks import choice
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import original_alexnet

IMAGES, BATCH, EPOCHS = 1_281_167, 128, 90
TEST_IMAGES = 50_000


def get_config(variant: str = "bilevel") -> ConfigDict:
    """Return the settings of a learner.

    Args:
      variant: ``sgd``, ``ghost`` or ``bilevel``.
    """
    choice("the variant", variant, ("sgd", "ghost", "bilevel"))
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict(
        {"name": "tfds:imagenet2012", "data_dir": "", "load_size": 256}
    )
    config.noise = sections.noise()
    config.method = sections.classifier(crop_size=227)
    config.learner = sections.learner(name=variant)
    config.model = ConfigDict({"dropout": 0.5, "width": 1.0, "fc_features": 4096})
    config.optim = sections.sgd_optim(
        learning_rate=0.01, schedule="boundaries", factor=0.1, boundaries=(0.33, 0.67)
    )
    num_steps = EPOCHS * IMAGES // BATCH
    config.train = sections.train(
        num_steps=num_steps, batch_size=BATCH, eval_every=50_000
    )
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.classifier_evals(crop_size=227, num_images=TEST_IMAGES)
    config.eval.predictions = config.eval.test.copy_and_resolve_references()
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "validation")
    return builders.generalization(
        config,
        lambda num_classes: original_alexnet(num_classes, **config.model),
        train=train,
        test=test,
    )
