"""What the demo is measured against: the same network, crops and steps, other tasks.

--size cpu    rotations alone (RotNet) and training from labels, 1,200 steps each as in
              ``make demo``, whose report shows these rows beside the run

The untrained network is measured by each run itself.
"""

import runner

DEMO = "configs/transformations_fashion_on_photos.py"
FILES = {"cpu": DEMO}
SUPERVISED = "configs/classify_fashion_on_photos.py"


def rows(size: str) -> list[runner.Row]:
    """Return the baselines; there is one size."""
    return [
        runner.Row("Rotations alone (RotNet)", f"{FILES[size]}:rot"),
        runner.Row("Supervised", SUPERVISED, evals=("linear_probe",)),
    ]


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    print(runner.markdown(runner.measure("baselines", rows(args.size), args)))
