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
import thesis

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
    "Standard SGD": "sgd",
    "Ghost batches": "ghost",
    "Label smoothing (0.1)": "smoothing",
    "mixup": "mixup",
    "Bilevel": "bilevel",
    "Bilevel + mixup": "bilevel_mixup",
}
"""Row to its variant of the config."""


def rows(size: str) -> list[runner.Row]:
    """Return one row for each way to train."""
    if size == "cpu":
        return [
            labels.row(name, f"{labels.CPU}:convnet,{learner}", *words, *NOISE)
            for name, (learner, words) in CPU.items()
        ]
    table = []
    for data in ("cifar10", "cifar100"):
        for name, variant in PAPER.items():
            title = f"{data}: {name}"
            table.append(
                labels.row(
                    title,
                    f"{labels.PAPER}:preact_resnet18,{variant}",
                    f"--config.data.name=tfds:{data}",
                    *NOISE,
                    thesis=thesis.numbers("8.3", title),
                )
            )
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("table_8_3", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
