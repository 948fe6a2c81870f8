r"""Fine-tune a ResNet-34 on the labels of STL-10 (Table 4.7: 91.8 %).

300 epochs on the 5,000 labelled images with the optimizer of the pre-training, tested by
ten crops. Without ``init_from`` this is the supervised baseline. Expected hours: not run.

    jaxssl train --workdir=runs/resnet34-tuned \
        --config=configs/classify_resnet34_stl10.py \
        --config.init_from.classifier=runs/resnet34
    jaxssl evaluate --workdir=runs/resnet34-tuned
"""

from ml_collections import ConfigDict

from jaxssl import builders, sections
from jaxssl.experiment import Experiment
from jaxssl.models.resnet import resnet

EPOCHS, IMAGES, BATCH = 300, 5_000, 64  # Sec. 4.4.2; the batch is the pre-training's.


def get_config() -> ConfigDict:
    """Return the settings of the fine-tuning."""
    config = ConfigDict({"seed": 123})
    config.data = ConfigDict({"name": "tfds:stl10", "data_dir": ""})
    config.method = ConfigDict({"crop_size": 64, "flip": True})
    config.model = ConfigDict({"depth": 34, "stem": "small", "width": 64})
    config.optim = sections.optim()
    config.train = sections.train(num_steps=EPOCHS * IMAGES // BATCH, batch_size=BATCH)
    config.mesh = sections.mesh()
    config.compute = sections.compute()
    config.eval = sections.supervised_evals(crop_size=64, views="ten")
    config.eval.test.batch_size = 16  # Times ten crops; 256 need more than 22 GB.
    config.eval.knn.endpoint = config.eval.retrieval.endpoint = "stage4"
    config.init_from = ConfigDict({"classifier": ""})
    return config.lock()


def build(config: ConfigDict) -> Experiment:
    """Return the experiment that the settings describe."""
    train, test = builders.load_splits(config.data, "train", "test")
    return builders.supervised(
        config,
        lambda num_classes: resnet(num_classes=num_classes, **config.model),
        train=train,
        test=test,
    )
