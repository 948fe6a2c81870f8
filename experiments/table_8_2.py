"""Table 8.2: images whose pixels are permuted, each in its own way, cannot be learnt.

--size cpu    the MLP with batch norm on Fashion-MNIST, 10,000 images with right labels
--size paper  CIFAR-10 with Inception, 200 epochs in batches of 128 (needs the data and
              a GPU)

What is fitted nevertheless is memorised: the thesis reports the gap between training
and test accuracy. Nothing but statistics of grey levels can help on the test images.
"""

import labels
import runner
import table_8_1
import thesis

FILES = labels.FILES
PERMUTED = ("--config.noise.permuted_pixels=True", *labels.CLEAN)


def rows(size: str) -> list[runner.Row]:
    """Return one row for each learner."""
    paper = size == "paper"
    config = f"{labels.PAPER}:inception" if paper else f"{labels.CPU}:mlp"
    length = table_8_1.length() if paper else ()
    return [
        labels.row(
            name,
            f"{config},{learner}",
            *length,
            *PERMUTED,
            thesis=thesis.numbers("8.2", name) if paper else None,
        )
        for name, learner in labels.LEARNERS.items()
    ]


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("table_8_2", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
