"""Write tables from experiments/results into README.md and docs, between their markers.

    python docs/make_tables.py           # after a table has been run
    python docs/make_tables.py --check   # exit code 1 if a page is not up to date

A row without a measured number says "not run". Numbers of a CPU-sized run never stand
in a line with the thesis', which are of another data set.
"""

import argparse
import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxssl.report.labels import QUANTITIES

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from tests import faults  # noqa: E402 (the tests know what they inject)

README = ROOT / "README.md"
FAULTS = ROOT / "docs" / "faults.md"
BILEVEL = ROOT / "docs" / "bilevel.md"
RESULTS = ROOT / "experiments" / "results"
ENDPOINTS = ("conv1", "conv2", "conv3", "conv4", "conv5")
NOT_RUN = "not run"

THESIS = (
    ("4.1", "STL-10, LCI alone", "transformations_stl10", "76.2 (conv5)"),
    ("4.2", "STL-10", "transformations_stl10", "59.2 69.7 71.9 73.1 73.7"),
    ("4.3", "CelebA, mAP", "transformations_celeb_a", "71.8 74.0 73.5 72.5 69.2"),
    ("4.5", "ImageNet", "transformations_imagenet2012", "20.8 34.5 40.2 43.1 41.4"),
    ("4.6", "Places", "probe_places365", "24.1 33.3 37.9 39.5 37.7"),
    ("4.7", "STL-10, ResNet-34", "classify_resnet34_stl10", "91.8 (fine-tuned)"),
    ("8.1", "CIFAR-10, 50 % noise, Inception", "classify_cifar10", "73.1"),
    ("8.2", "CIFAR-10, permuted pixels, gap", "classify_cifar10", "1.2 (SGD: 16.8)"),
    ("8.3", "CIFAR-10, 40 % noise, PreAct-ResNet-18", "classify_cifar10", "89.0"),
    ("8.4", "ImageNet, 44 % noise", "classify_imagenet2012", "52.69 (SGD: 50.75)"),
)
"""Table, data, config and the thesis' own best row in percent, on conv1 ... conv5."""

BEST = {
    "4.1": "Baseline (48x48 patches)",
    "4.2": "Rot + Warp + LCI",
    "8.1": "Inception (50 % random): Bilevel",
    "8.2": "Bilevel",
    "8.3": "cifar10: Bilevel + mixup",
    "8.4": "Bilevel (44 % noise)",
}
"""The row of that result in experiments/results/table_<n>_paper.json."""

ACCURACIES = {
    name: QUANTITIES[name] for name in ("last", "best", "labels", "memorized")
}
"""What the tables of chapter 8 show."""


def read(results: Path, name: str) -> dict[str, Any] | None:
    """Return a stored result, or None where nothing was run."""
    path = results / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def expected_rows(table: str) -> list[Any]:
    """Return the rows that an experiment's script runs at CPU size."""
    folder = str(ROOT / "experiments")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(table).rows("cpu")


def percent(pair: Sequence[float] | None, num_seeds: int = 2) -> str:
    """Write a mean and, of several seeds, its standard deviation, in percent."""
    if pair is None:
        return NOT_RUN
    spread = f" ± {100 * pair[1]:.1f}" if num_seeds > 1 else ""
    return f"{100 * pair[0]:.1f}{spread}"


def provenance(result: Mapping[str, Any] | None, table: str) -> str:
    """Say where the numbers come from, or how to get them."""
    if result is None:
        return f"Not run yet; run: `python experiments/{table}.py --size cpu`."
    seeds = sorted({len(row["seeds"]) for row in result["rows"]})
    spread = "mean ± standard deviation" if max(seeds) > 1 else "no spread"
    commits = ", ".join(commit[:7] for commit in result["commit"].split(", "))
    return (
        f"{result['hardware']} with other work on them, {result['date']}, code of "
        f"{commits}, {_seeds(seeds)}; accuracy in %, {spread}. "
        f"`experiments/results/{table}_cpu.json`"
    )


def _seeds(counts: Sequence[int]) -> str:
    return f"{' or '.join(map(str, counts))} seed{'s' if max(counts) > 1 else ''}"


def cpu_table(results: Path, table: str, endpoints: Sequence[str]) -> str:
    """Return a CPU-sized table with every row of its script, measured or not."""
    result = read(results, f"{table}_cpu")
    if result is None:
        return provenance(result, table)
    found = {row["name"]: row for row in result["rows"]}
    lines = [
        f"| row | {' | '.join(endpoints)} | pretext | steps | minutes |",
        "|---|" + "---|" * (len(endpoints) + 3),
    ]
    for row in expected_rows(table):
        got = found.get(row.name)
        cells = [
            percent(got["linear_probe"].get(endpoint) if got else None)
            for endpoint in endpoints
        ]
        if got is None:
            cells += [NOT_RUN] * 3
        else:
            told, seconds = got["pretext"], got["train_seconds"]
            cells.append(percent(told) if told else "")
            cells.append(f"{got['steps']:,}")
            minutes = sum(seconds) / len(seconds) / 60 if seconds else None
            cells.append("" if minutes is None else f"{minutes:.0f}")
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", provenance(result, table)])


def labels_table(results: Path, table: str) -> str:
    """Return a CPU-sized table of chapter 8 with every row of its script."""
    result = read(results, f"{table}_cpu")
    if result is None:
        return provenance(result, table)
    found = {row["name"]: row for row in result["rows"]}
    lines = [
        f"| row | {' | '.join(ACCURACIES.values())} | seeds | minutes |",
        "|---|" + "---|" * (len(ACCURACIES) + 2),
    ]
    for row in expected_rows(table):
        got = found.get(row.name)
        if got is None:
            cells = [NOT_RUN] * (len(ACCURACIES) + 2)
        else:
            told, num = got["accuracy"], len(got["seeds"])
            cells = [percent(told[n], num) if n in told else "" for n in ACCURACIES]
            seconds = got["train_seconds"]
            minutes = sum(seconds) / len(seconds) / 60
            cells += [str(num), f"{minutes:.1f}"]
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", provenance(result, table)])


def thesis_table(results: Path) -> str:
    """Return the thesis' tables with our number at the same size, measured or not."""
    lines = [
        "| table | data | config | thesis | ours |",
        "|---|---|---|---|---|",
    ]
    for table, where, config, thesis in THESIS:
        ours = NOT_RUN
        result = read(results, f"table_{table.replace('.', '_')}_paper")
        for row in result["rows"] if result else ():
            if row["name"] == BEST.get(table):
                ours = _shown(table, row)
        link = f"[`{config}`](configs/{config}.py)"
        lines.append(f"| {table} | {where} | {link} | {thesis} | {ours} |")
    return "\n".join(lines)


def _shown(table: str, row: Mapping[str, Any]) -> str:
    if "accuracy" in row:
        last, fit = row["accuracy"]["last"][0], row["accuracy"]["labels"][0]
        return f"{100 * (fit - last if table == '8.2' else last):.1f}"
    endpoints = ("conv5",) if table == "4.1" else ENDPOINTS
    return " ".join(f"{100 * row['linear_probe'][t][0]:.1f}" for t in endpoints)


def fault_table(results: Path) -> str:
    """Return what was injected on purpose, and what became of it."""
    found = read(results, "faults") or {}
    lines = [
        "| | injected | what must hold | faults | survived | lost | silent |",
        "|---|---|---|---|---|---|---|",
    ]
    for number, fault in faults.FAULTS.items():
        tests = found.get(number, {}).values()
        counts = [
            f"{sum(test[what] for test in tests):,}"
            for what in ("injected", "survived", "lost", "silent")
        ]
        cells = counts if tests else [NOT_RUN] * 4
        told = [number, fault.injected, fault.promise, *cells]
        lines.append(f"| {' | '.join(told)} |")
    commits = {test["commit"] for tests in found.values() for test in tests.values()}
    where = f"Code of {', '.join(sorted(commits))}." if commits else ""
    return "\n".join([*lines, "", f"{where} `experiments/results/faults.json`".strip()])


TABLES: dict[str, Callable[[Path], str]] = {
    "table_4_2_cpu": lambda results: cpu_table(results, "table_4_2", ENDPOINTS),
    "table_4_1_cpu": lambda results: cpu_table(results, "table_4_1", ("conv5",)),
    "table_8_1_cpu": lambda results: labels_table(results, "table_8_1"),
    "figure_8_3_cpu": lambda results: labels_table(results, "figure_8_3"),
    "figure_8_4_cpu": lambda results: labels_table(results, "figure_8_4"),
    "thesis": thesis_table,
    "faults": fault_table,
}
"""Marker to what stands between it and its end."""

PAGES = {
    README: [name for name in TABLES if name.startswith("table_")] + ["thesis"],
    BILEVEL: ["figure_8_3_cpu", "figure_8_4_cpu"],
    FAULTS: ["faults"],
}
"""Which page holds which tables."""


def fill(text: str, names: Sequence[str], results: Path = RESULTS) -> str:
    """Return a page's text with its tables written anew.

    Args:
      text: with ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` around each table.
      names: the tables that it must hold.
      results: folder of the stored results.

    Raises:
      ValueError: a marker is missing.
    """
    for name in names:
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{begin}\n.*?{end}", re.S)
        if not pattern.search(text):
            raise ValueError(f"the page lacks the markers of the table {name}.")
        make = TABLES[name]
        block = f"{begin}\n{make(results)}\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages, or check them.

    Raises:
      SystemExit: with ``--check``, if the tables are not those of the results.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    for page, names in PAGES.items():
        old = page.read_text()
        new = fill(old, names)
        if not args.check:
            page.write_text(new)
        elif old != new:
            sys.exit(f"{page.name} is out of date; run: python docs/make_tables.py")


if __name__ == "__main__":
    main()
