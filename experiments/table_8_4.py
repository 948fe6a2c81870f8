"""Table 8.4: labels that another network has predicted, with its dropout active.

--size cpu    MLPs on Fashion-MNIST, 10,000 images; the first has dropout 0.5
--size paper  AlexNet on ImageNet, about 44 % noise (needs the data and GPUs)

"Labeller" is the run whose predictions are the noisy labels: trained on right ones. At
paper size it is the run of "SGD (clean)" as well.
"""

import labels
import runner
import thesis

FILES = {"cpu": labels.CPU, "paper": "configs/classify_imagenet2012.py"}
LABELLER = "Labeller"
PREDICTED = ("--config.noise.kind=predicted", "--config.noise.rate=0")


def rows(size: str) -> list[runner.Row]:
    """Return the labeller, then each learner on clean labels and on the labeller's."""
    paper = size == "paper"
    config = FILES[size] if paper else f"{FILES[size]}:mlp"
    mark = ":" if paper else ","
    dropout = () if paper else ("--config.model.dropout=0.5",)
    clean = () if paper else labels.CLEAN
    table = [labels.row(LABELLER, f"{config}{mark}sgd", *clean, *dropout)]
    needs = {"noise.file": (LABELLER, "evals/predictions.npz")}
    for noise in ("clean", "44 % noise" if paper else "predicted"):
        for name, learner in labels.LEARNERS.items():
            title = f"{name} ({noise})"
            made = labels.row(
                title,
                f"{config}{mark}{learner}",
                *(clean if noise == "clean" else PREDICTED),
                thesis=thesis.numbers("8.4", title) if paper else None,
            )
            table.append(made if noise == "clean" else made._replace(needs=needs))
    return table


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("table_8_4", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
