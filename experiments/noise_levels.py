"""Figures 8.3 and 8.4: CifarNet and Inception with more and more wrong labels.

--size cpu    CifarNet (8.3) for ten epochs, which are too few to memorise, and at 40 %
              for forty; or the MLP with batch norm (8.4); on 10,000 images of
              Fashion-MNIST
--size paper  CifarNet (8.3) or Inception (8.4) on CIFAR-10 and CIFAR-100, 100 epochs in
              batches of 64 (needs the data and a GPU)

The thesis shows bars and no numbers. With ten classes, 90 % other-class noise leaves
nothing to learn.
"""

import labels
import runner

FILES = labels.FILES
NETWORKS = {
    "figure_8_3": {"cpu": "cifarnet", "paper": "cifarnet"},
    "figure_8_4": {"cpu": "mlp", "paper": "inception"},
}
LONG = ("--config.train.num_steps=6240", "--config.train.save_every=6240")
RATES = {"cpu": (0.0, 0.2, 0.4, 0.6), "paper": tuple(i / 10 for i in range(10))}


def rows(figure: str, size: str) -> list[runner.Row]:
    """Return one row for each data set, level of noise and learner of a figure."""
    network = NETWORKS[figure][size]
    table = []
    for data in ("cifar10", "cifar100") if size == "paper" else ("",):
        words = (f"--config.data.name=tfds:{data}",) if data else ()
        prefix = f"{data}: " if data else ""
        for rate in RATES[size]:
            for learner, variant in labels.LEARNERS.items():
                table.append(
                    labels.row(
                        f"{prefix}{100 * rate:.0f} %: {learner}",
                        f"{FILES[size]}:{network},{variant}",
                        *words,
                        *labels.noise(rate),
                    )
                )
    if (figure, size) == ("figure_8_3", "cpu"):
        table += [
            labels.row(
                f"40 % for 40 epochs: {learner}",
                f"{FILES[size]}:{network},{variant}",
                *labels.noise(0.4),
                *LONG,
            )
            for learner, variant in labels.LEARNERS.items()
        ]
    return table


def main(figure: str) -> None:
    """Run a figure's rows and print what they measured."""
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure(figure, rows(figure, args.size), args, labels.collect)
    print(labels.markdown(found))
