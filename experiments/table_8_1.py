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
import thesis

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
                title = f"{network} ({noise}): {name}"
                table.append(
                    labels.row(
                        title,
                        f"{labels.PAPER}:{network.lower()},{learner}",
                        *length(),
                        *words,
                        *labels.noise(rate),
                        thesis=thesis.numbers("8.1", title),
                    )
                )
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("table_8_1", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
