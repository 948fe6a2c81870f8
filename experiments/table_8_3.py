"""Table 8.3: regularisation and bilevel learning with 40 % wrong labels.

--size cpu    the CNN with batch norm on Fashion-MNIST, 10,000 images
--size paper  CIFAR-10 and CIFAR-100 with PreAct-ResNet-18, 200 epochs (needs the data
              and a GPU)

The thesis' other rows are of other papers. Its dropout row (keep probability 0.3) is
not here: the network of that comparison has no dropout, and where it was put is not
given.
"""

import labels
import runner

FILES = labels.FILES
NOISE = labels.noise(0.4)
CPU = {
    "Standard SGD": ("sgd", ()),
    "Ghost batches": ("ghost", ()),
    "Label smoothing (0.1)": ("sgd", ("--config.method.smoothing=0.1",)),
    "mixup": ("sgd", ("--config.method.mixup=1.0",)),
    "Bilevel": ("bilevel", ()),
    "Bilevel + mixup": ("bilevel", ("--config.method.mixup=1.0",)),
}
PAPER = {
    "Standard SGD": ("sgd", 69.6, 44.9),
    "Ghost batches": ("ghost", None, None),
    "Label smoothing (0.1)": ("smoothing", 69.3, 46.1),
    "mixup": ("mixup", 88.3, 56.4),
    "Bilevel": ("bilevel", 87.0, 59.8),
    "Bilevel + mixup": ("bilevel_mixup", 89.0, 61.6),
}
"""Variant, and the thesis' accuracy on CIFAR-10 and CIFAR-100 in percent."""


def rows(size: str) -> list[runner.Row]:
    """Return one row for each way to train."""
    if size == "cpu":
        return [
            labels.row(name, f"{labels.CPU}:convnet,{learner}", *words, *NOISE)
            for name, (learner, words) in CPU.items()
        ]
    table = []
    for i, data in enumerate(("cifar10", "cifar100")):
        for name, (variant, *thesis) in PAPER.items():
            told = thesis[i]
            table.append(
                labels.row(
                    f"{data}: {name}",
                    f"{labels.PAPER}:preact_resnet18,{variant}",
                    f"--config.data.name=tfds:{data}",
                    *NOISE,
                    thesis=None if told is None else {"last": told},
                )
            )
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("table_8_3", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
