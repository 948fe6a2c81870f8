"""Figure 8.4: Inception with more and more wrong labels.

--size cpu    the MLP with batch norm on Fashion-MNIST, 10,000 images
--size paper  Inception on CIFAR-10 and CIFAR-100, 100 epochs in batches of 64 (needs
              the data and a GPU)

The thesis shows bars and no numbers. With ten classes, 90 % other-class noise leaves
nothing to learn.
"""

import labels
import runner

FILES = labels.FILES
NETWORKS = {"cpu": "mlp", "paper": "inception"}


def rows(size: str) -> list[runner.Row]:
    """Return one row for each learner and level of noise."""
    return labels.noise_rows(size, NETWORKS[size])


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("figure_8_4", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
