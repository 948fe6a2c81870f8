"""Figure 8.2: validation ratio, number and size of mini-batches, and mu.

--size cpu    the MLP with batch norm on Fashion-MNIST, 10,000 images, 50 % noise
--size paper  CIFAR-10 with CifarNet and Inception, clean and with 50 % noise, 200
              epochs in batches of 128 (needs the data and a GPU)

As in the thesis every row visits each image as often. More mini-batches share the same
batch, so they are smaller; larger mini-batches make fewer steps, and the learning rate
falls as fast by visits. All rows with the thesis' defaults are one run. The thesis
shows curves and no numbers.
"""

from collections.abc import Mapping, Sequence

import labels
import runner
import table_8_1

FILES = labels.FILES
SWEEPS = {
    "validation ratio": (0.0, 0.1, 0.25, 0.5),
    "k": (2, 4, 8, 16),
    "mini-batch size": (4, 8, 16, 32),
    "mu": (1e-4, 1e-2, 1.0),
}
PAPER_SWEEPS = SWEEPS | {"k": (2, 4, 8, 16, 32), "mini-batch size": (1, 4, 8, 16, 32)}
"""With the thesis' most mini-batches, and its weights for each image."""

DEFAULTS = {"validation ratio": 0.0, "k": 8, "mini-batch size": 8, "mu": 0.01}


def rows(size: str) -> list[runner.Row]:
    """Return one row for each value of each sweep."""
    if size == "cpu":
        config = f"{labels.CPU}:mlp,bilevel"
        return _sweeps("", config, (), SWEEPS, batch_size=64, steps=6_240)
    table = []
    steps = table_8_1.EPOCHS * (table_8_1.IMAGES // table_8_1.BATCH)
    for network in ("CifarNet", "Inception"):
        for noise, rate in (("clean", 0.0), ("50 % random", 0.5)):
            table += _sweeps(
                f"{network} ({noise}): ",
                f"{labels.PAPER}:{network.lower()},bilevel",
                labels.noise(rate),
                PAPER_SWEEPS,
                batch_size=table_8_1.BATCH,
                steps=steps,
            )
    return table


def _sweeps(
    prefix: str,
    config: str,
    shared: tuple[str, ...],
    sweeps: Mapping[str, Sequence[float]],
    *,
    batch_size: int,
    steps: int,
) -> list[runner.Row]:
    table = []
    for name, values in sweeps.items():
        for value in values:
            size = 8 * value if name == "mini-batch size" else batch_size
            words = (*_length(size, steps * batch_size), *_setting(name, value))
            table.append(
                labels.row(f"{prefix}{name} = {value:g}", config, *shared, *words)
            )
    return table


def _setting(name: str, value: float) -> tuple[str, ...]:
    keys = {"validation ratio": "val_ratio", "k": "k", "mu": "mu"}
    if name not in keys or value == DEFAULTS[name]:
        return ()
    return (f"--config.learner.{keys[name]}={value:g}",)


def _length(batch_size: int, visits: int) -> tuple[str, ...]:
    """Return the overrides for batches of a size until ``visits`` images were read."""
    steps = visits // batch_size
    every = steps // 40
    return (
        f"--config.train.batch_size={batch_size}",
        f"--config.train.num_steps={steps}",
        f"--config.train.log_every={every}",
        f"--config.train.eval_every={every}",
        f"--config.optim.classifier.interval={table_8_1.IMAGES // batch_size}",
    )


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("figure_8_2", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
