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

from ml_collections import ConfigDict

from jaxssl import builders, sections
from jaxssl.config.checks import choice
from jaxssl.errors import UserError
from jaxssl.experiment import Experiment
from jaxssl.models.alexnet import original_alexnet

IMAGES, BATCH, EPOCHS = 5_011, 64, 1_000


def get_config(variant: str = "bilevel") -> ConfigDict:
    """Return the settings of a learner.

    Args:
      variant: ``sgd``, ``ghost`` or ``bilevel``.
    """
    choice("the variant", variant, ("sgd", "ghost", "bilevel"))
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict(
        {
            "name": "tfds:voc/2007",
            "data_dir": "",
            "load_size": 256,
            "label_key": "labels_no_difficult",
        }
    )
    config.percent = 100  # Of trainval; the run stays as long.
    config.noise = sections.noise()
    config.method = sections.classifier(
        crop_size=227, area=(0.3, 1.0), labels="attributes"
    )
    # How mini-batches of images with several labels are matched is not given.
    matching = {} if variant == "sgd" else {"k": 4, "sampling": "random"}
    config.learner = sections.learner(name=variant, **matching)
    config.model = ConfigDict({"dropout": 0.5, "width": 1.0, "fc_features": 4096})
    config.optim = sections.sgd_optim(
        learning_rate=0.01, schedule="linear", final_rate=0.0
    )
    config.train = sections.train(
        num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH, eval_every=5_000
    )
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.classifier_evals(crop_size=227, num_images=IMAGES)
    config.eval.test.views = "ten"
    config.eval.test.batch_size = 16  # Times ten crops.
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    if not 1 <= config.percent <= 100:
        raise UserError(f"config.percent is {config.percent}; give 1 to 100.")
    part = "" if config.percent == 100 else f"[:{config.percent}%]"
    train, test = builders.load_splits(
        config.data, f"train{part}+validation{part}", "test"
    )
    return builders.generalization(
        config,
        lambda num_classes: original_alexnet(num_classes, **config.model),
        train=train,
        test=test,
    )
