"""Figure 8.5: few labelled images.

--size cpu    the MLP with batch norm on parts of Fashion-MNIST, right labels
--size paper  AlexNet from scratch on parts of PASCAL VOC 2007, mean average precision
              (needs the data and a GPU)

Parts of the data are trained on for as many steps as the whole. The thesis shows curves
and no numbers. Its second curve is the precision on the complete trainval set; the fit
here, and with it the gap, is of the part that was trained on.
"""

import labels
import runner

FILES = {"cpu": labels.CPU, "paper": "configs/classify_voc2007.py"}
PERCENT = (10, 20, 40, 60, 80, 100)
IMAGES = (200, 1_000, 5_000)


def rows(size: str) -> list[runner.Row]:
    """Return one row for each learner and part."""
    if size == "paper":
        table = []
        for percent in PERCENT:
            for name, learner in labels.LEARNERS.items():
                part = f"--config.percent={percent}"
                made = labels.row(
                    f"{percent} %: {name}", f"{FILES[size]}:{learner}", part
                )
                table.append(made._replace(curves=("test/precision",)))
        return table
    return [
        labels.row(
            f"{count:,} images: {name}".replace(",", " "),
            f"{FILES[size]}:mlp,{learner}",
            f"--config.data.num_train={count}",
            *labels.CLEAN,
        )
        for count in IMAGES
        for name, learner in labels.LEARNERS.items()
    ]


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    found = runner.measure("figure_8_5", rows(args.size), args, labels.collect)
    print(labels.markdown(found))
