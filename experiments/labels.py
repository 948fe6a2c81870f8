"""What the tables and figures of chapter 8 share: rows, what is measured, a table.

Every run measures the last *and* the best epoch on clean test labels, so nobody takes a
stop at the right time for a method that resists noise, and the fit of training labels.
The best epoch is that of the curve, which the last epoch is on. Where labels are right,
the gap is by how much the fit is above the last epoch.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import runner

from jaxssl.report.sections import labels as report

CPU = "configs/classify_fashion_mnist.py"
PAPER = "configs/classify_cifar10.py"
FILES = {"cpu": CPU, "paper": PAPER}
LEARNERS = {"SGD": "sgd", "Ghost batches": "ghost", "Bilevel": "bilevel"}
CLEAN = ("--config.noise.kind=none", "--config.noise.rate=0")
TEST = "test/accuracy"

QUANTITIES = {**report.QUANTITIES, "gap": "gap"}
"""As `jaxssl.report.sections.labels` calls them; a gap is the fit minus the test."""


def noise(rate: float) -> tuple[str, ...]:
    """Return the overrides for so much symmetric noise; 0 is clean."""
    if not rate:
        return CLEAN
    return "--config.noise.kind=symmetric", f"--config.noise.rate={rate}"


def row(
    name: str, config: str, *overrides: str, thesis: Mapping[str, float] | None = None
) -> runner.Row:
    """Return a row that measures the quantities of chapter 8."""
    return runner.Row(
        name,
        config,
        overrides,
        thesis=thesis or {},
        evals=("test", "train"),
        curves=(TEST,),
    )


def collect(row: runner.Row, seeds: Sequence[int], ledger: Path) -> dict[str, Any]:
    """Collect accuracies over seeds: of the last epoch, the best one, and the fit."""
    entries = [runner.read_entry(row, seed, ledger) for seed in seeds]
    each = [_quantities(entry) for entry in entries]
    return {
        "name": row.name,
        "seeds": list(seeds),
        "accuracy": {
            name: runner.mean_sd([found[name] for found in each]) for name in each[0]
        },
        "each_seed": each,
        "steps": entries[0]["config"]["train"]["num_steps"],
        "train_seconds": [entry["train_seconds"] for entry in entries],
        **runner.origin(row, entries),
    }


def _quantities(entry: Mapping[str, Any]) -> dict[str, float]:
    test = entry["trained"]["test"]
    last = test.get("accuracy", test.get("precision"))
    (curve,) = entry["curves"].values()
    # Of images with several labels there is one number, their mean average precision.
    fit = {
        "labels" if name == "precision" else name: round(value, 5)
        for name, value in entry["trained"]["train"].items()
    }
    found = {
        "last": round(last, 5),
        "best": max(value for _, value in curve),
        **fit,
    }
    if "memorized" not in found:
        found["gap"] = round(found["labels"] - found["last"], 5)
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table, ours beside the thesis', labelled as what they are."""
    lines = [
        f"Measured on {result['hardware']}, {result['date']}, size {result['size']}; "
        "accuracy in %, mean ± standard deviation over seeds; gap: fit of right labels "
        "minus test, last epoch.",
        "",
        f"| row | {' | '.join(QUANTITIES.values())} | seeds | thesis |",
        "|---|" + "---|" * (len(QUANTITIES) + 2),
    ]
    for found in result["rows"]:
        cells = [
            runner.percent(found["accuracy"][name]) if name in found["accuracy"] else ""
            for name in QUANTITIES
        ]
        cells.append(str(len(found["seeds"])))
        thesis = found["thesis"].items()
        cells.append(", ".join(f"{name} {value}" for name, value in thesis))
        lines.append(f"| {found['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)
