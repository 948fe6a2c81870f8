"""Table 8.1: what bilevel learning does to memorisation, and its ablations.

--size cpu    Fashion-MNIST, 10,000 images with 50 % other-class noise: three networks,
              each with plain SGD, the same ghost mini-batches and bilevel learning; the
              ablations on the MLPs, and clean labels on the one with batch norm
--size paper  CIFAR-10 with CifarNet and Inception, clean and with 50 % noise, 200
              epochs in batches of 128 (needs the data and a GPU)

All rows visit the same number of images. The thesis has no ghost mini-batches; without
that row one cannot tell the weights from the small mini-batches with equal labels.
"""

import labels
import runner

FILES = labels.FILES
NETWORKS = {
    "MLP with batch norm": "mlp",
    "MLP without": "mlp_plain",
    "CNN with batch norm": "convnet",
}
ABLATIONS = {
    "a) no L1": ("--config.learner.normalize=none",),
    "b) weights per layer": ("--config.learner.weights=layer",),
    "c) sampling": ("--config.learner.sampling=random",),
}
DROPOUT = "--config.model.dropout=0.5"
THESIS = {
    ("CifarNet", "SGD"): (75.68, 24.31, 96.75, 45.15),
    ("CifarNet", "Bilevel"): (75.52, 22.08, 89.28, 47.62),
    ("CifarNet", "a) no L1"): (74.32, 22.12, 95.50, 45.79),
    ("CifarNet", "b) weights per layer"): (74.36, 23.07, 81.60, 49.62),
    ("CifarNet", "c) sampling"): (68.19, 4.50, 16.13, 23.93),
    ("CifarNet", "d) dropout"): (74.76, 21.16, 82.22, 49.23),
    ("Inception", "SGD"): (88.13, 11.78, 65.06, 47.64),
    ("Inception", "Bilevel"): (87.78, 8.35, 45.43, 73.08),
    ("Inception", "a) no L1"): (77.07, 2.39, 33.86, 62.16),
    ("Inception", "b) weights per layer"): (85.25, 5.13, 81.60, 49.62),
    ("Inception", "c) sampling"): (78.25, 1.53, 17.71, 27.20),
    ("Inception", "d) dropout"): (87.86, 7.72, 44.61, 75.71),
}
"""Test and gap on clean labels, training and test with 50 % noise, in percent."""

EPOCHS, BATCH, IMAGES = 200, 128, 50_000


def rows(size: str) -> list[runner.Row]:
    """Return the rows; "Bilevel" is the thesis' baseline of the ablations."""
    return _paper() if size == "paper" else _cpu()


def length() -> tuple[str, ...]:
    """Return the overrides for the length of the paper's ablations."""
    epoch = IMAGES // BATCH
    return (
        f"--config.train.batch_size={BATCH}",
        f"--config.train.num_steps={EPOCHS * epoch}",
        f"--config.train.eval_every={epoch}",
        f"--config.optim.classifier.interval={epoch}",
    )


def _cpu() -> list[runner.Row]:
    table = [
        labels.row(f"{network}: {learner}", f"{labels.CPU}:{file},{name}")
        for network, file in NETWORKS.items()
        for learner, name in labels.LEARNERS.items()
    ]
    mlp = f"{labels.CPU}:mlp"
    table += [
        labels.row(f"MLP with batch norm: {ablation}", f"{mlp},bilevel", *words)
        for ablation, words in ABLATIONS.items()
    ]
    # Batch norm hides the length of a gradient. Without it, and without L1, the runs
    # end after 24 to 512 steps: their updates are not finite.
    plain = {
        "a) no L1 (a tenth of the rate)": (
            *ABLATIONS["a) no L1"],
            "--config.optim.classifier.learning_rate=0.005",
        ),
        **{name: words for name, words in ABLATIONS.items() if name != "a) no L1"},
    }
    table += [
        labels.row(f"MLP without: {name}", f"{mlp}_plain,bilevel", *words)
        for name, words in plain.items()
    ]
    masks = {"shared": "d) dropout (shared masks)", "split": "d) dropout (split masks)"}
    for mask, name in masks.items():
        words = DROPOUT, f"--config.learner.dropout_masks={mask}"
        table.append(
            labels.row(f"MLP with batch norm: {name}", f"{mlp},bilevel", *words)
        )
    table += [
        labels.row(
            f"MLP with batch norm (clean): {learner}", f"{mlp},{name}", *labels.CLEAN
        )
        for learner, name in labels.LEARNERS.items()
    ]
    return table


def _paper() -> list[runner.Row]:
    variants = {name: (learner, ()) for name, learner in labels.LEARNERS.items()}
    variants |= {name: ("bilevel", words) for name, words in ABLATIONS.items()}
    split = ("--config.learner.dropout_masks=split",)
    variants["d) dropout"] = ("bilevel", split)
    table = []
    for network in ("CifarNet", "Inception"):
        for noise, rate in (("clean", 0.0), ("50 % random", 0.5)):
            for name, (learner, words) in variants.items():
                found = THESIS.get((network, name))
                thesis = {}
                if found:
                    clean = {"last": found[0], "gap": found[1]}
                    noisy = {"fit": found[2], "last": found[3]}
                    thesis = noisy if rate else clean
                table.append(
                    labels.row(
                        f"{network} ({noise}): {name}",
                        f"{labels.PAPER}:{network.lower()},{learner}",
                        *length(),
                        *words,
                        *labels.noise(rate),
                        thesis=thesis,
                    )
                )
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("table_8_1", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
