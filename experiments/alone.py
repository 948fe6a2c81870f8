"""Warp alone and LCI alone at other lengths and rates than in Table 4.2.

--size cpu    Fashion-on-Photos: 300 to 9,000 steps, and 3,000 at lower learning rates

In the CPU-sized Table 4.2 the last layers of these two rows are hardly better than
random, unlike in the thesis. This tells whether it is the length of training, its rate
or the task: read it beside the rows Warp and LCI of that table (3,000 steps).
"""

import runner

FILES = {"cpu": "configs/transformations_fashion_on_photos.py"}
LENGTHS = {"Warp": (300, 800, 9_000), "LCI": (800,)}
RATES = (1e-3, 3e-4)  # The table's is 3e-3.


def rows(size: str) -> list[runner.Row]:
    """Return the rows; there is one size."""

    def row(name, task, steps, *more):
        words = (
            f"--config.train.num_steps={steps}",
            f"--config.train.save_every={steps}",
            f"--config.train.eval_every={steps}",
        )
        return runner.Row(name, f"{FILES[size]}:{task.lower()}", (*words, *more))

    found = [
        row(f"{task}, {steps:,} steps", task, steps)
        for task, lengths in LENGTHS.items()
        for steps in lengths
    ]
    for rate in RATES:
        word = f"--config.optim.classifier.learning_rate={rate}"
        found.append(row(f"Warp, 3,000 steps at {rate:g}", "Warp", 3_000, word))
    return found


if __name__ == "__main__":
    args = runner.parse_args(__doc__, tuple(FILES))
    print(runner.markdown(runner.measure("alone", rows(args.size), args)))
