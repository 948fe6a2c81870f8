"""Write tables from experiments/results into the pages of docs, between their markers.

    python docs/make_tables.py           # after a table has been run
    python docs/make_tables.py --check   # exit code 1 if a page is not up to date

A row without a measured number says "not run". A row whose code has changed since it
was measured is marked as stale. The check prints stale rows and passes: it asks nobody
to measure anew. Numbers of a CPU-sized run never stand in a line with the thesis',
which are of another data set.
"""

import argparse
import functools
import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
sys.path += [str(ROOT), str(ROOT / "experiments")]

import labels  # noqa: E402 (experiments are scripts, not a package)
import runner  # noqa: E402
import thesis  # noqa: E402

from tests import faults  # noqa: E402 (the tests know what they inject)

MEASURED = ROOT / "docs" / "results.md"
FAULTS = ROOT / "docs" / "faults.md"
BILEVEL = ROOT / "docs" / "bilevel.md"
RESULTS = ROOT / "experiments" / "results"
ENDPOINTS = runner.ENDPOINTS
NOT_RUN = "not run"
STALE = "†"
"""Stands behind the name of a stale row, and in front of the line that explains it."""


class Best(NamedTuple):
    """The row of a table of the thesis that stands for the whole table.

    Attributes:
      row: its name in `thesis.json`, and in experiments/results/table_<n>_paper.json.
      config: the file that reproduces it.
      shown: which of its numbers are shown.
      beside: the row that it is compared with; empty for none.
    """

    row: str
    config: str
    shown: Sequence[str]
    beside: str = ""


BEST = {
    "4.1": Best("Baseline (48x48 patches)", "transformations_stl10", ["conv5"]),
    "4.2": Best("Rot + Warp + LCI", "transformations_stl10", ENDPOINTS),
    "4.3": Best("Rot + Warp + LCI", "transformations_celeb_a", ENDPOINTS),
    "4.5": Best("Ours", "transformations_imagenet2012", ENDPOINTS),
    "4.6": Best("Ours", "probe_places365", ENDPOINTS),
    "4.7": Best("Ours", "classify_resnet34_stl10", ["fine-tuned"]),
    "8.1": Best(
        "Inception (50 % random): Bilevel",
        "classify_cifar10",
        ["last"],
        "Inception (50 % random): SGD",
    ),
    "8.2": Best("Bilevel", "classify_cifar10", ["gap"], "SGD"),
    "8.3": Best(
        "cifar10: Bilevel + mixup",
        "classify_cifar10",
        ["last"],
        "cifar10: Standard SGD",
    ),
    "8.4": Best(
        "Bilevel (44 % noise)", "classify_imagenet2012", ["last"], "SGD (44 % noise)"
    ),
}
"""Table of the thesis to its best row."""

ACCURACIES = {
    name: labels.QUANTITIES[name] for name in ("last", "best", "labels", "memorized")
}
"""What the tables of chapter 8 show."""


def read(results: Path, name: str) -> dict[str, Any] | None:
    """Return a stored result, or None where nothing was run."""
    path = results / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def expected_rows(table: str, size: str = "cpu") -> list[runner.Row]:
    """Return the rows that an experiment's script runs at a size."""
    return importlib.import_module(table).rows(size)


@functools.cache
def code_hashes(table: str, size: str) -> dict[str, str]:
    """Return the hash of the code that defines each row of a table, as it is now."""
    return runner.code_hashes(expected_rows(table, size))


def stale_rows(result: Mapping[str, Any], table: str, size: str) -> list[str]:
    """Return the names of measured rows whose code has changed since.

    A row of several seeds is stale if one of them is of other code.
    """
    now = code_hashes(table, size)
    measured = {row["name"]: row["measured"]["code_sha256"] for row in result["rows"]}
    return [name for name in now if measured.get(name, [now[name]]) != [now[name]]]


def percent(pair: Sequence[float] | None, num_seeds: int = 2) -> str:
    """Write a mean and, of several seeds, its standard deviation, in percent."""
    if pair is None:
        return NOT_RUN
    spread = f" ± {100 * pair[1]:.1f}" if num_seeds > 1 else ""
    return f"{100 * pair[0]:.1f}{spread}"


def finish(lines: Sequence[str], result: Mapping[str, Any], table: str) -> str:
    """Join a table's lines and say below them where the numbers come from."""
    seeds = sorted({len(row["seeds"]) for row in result["rows"]})
    spread = "mean ± standard deviation" if max(seeds) > 1 else "no spread"
    origin = (
        f"{result['hardware']} with other work on them, {result['date']}, code of "
        f"{_short(result['commit'])}, {_seeds(seeds)}; accuracy in %, {spread}. "
        f"Command: `python experiments/{table}.py --size cpu`. Numbers with their "
        f"settings: `experiments/results/{table}_cpu.json`."
    )
    return "\n".join([*lines, "", origin, *_stale_note(result, table, "cpu")])


def _stale_note(result: Mapping[str, Any], table: str, size: str) -> list[str]:
    stale = set(stale_rows(result, table, size))
    commits = {
        commit
        for row in result["rows"]
        if row["name"] in stale
        for commit in row["measured"]["commit"]
    }
    if not stale:
        return []
    return [
        "",
        f"{STALE} stale: measured on the code of {_short(', '.join(sorted(commits)))}; "
        "the code that defines the row has changed since.",
    ]


def _not_run(table: str) -> str:
    return f"Not run yet; run: `python experiments/{table}.py --size cpu`."


def _short(commits: str) -> str:
    return ", ".join(commit[:7] for commit in commits.split(", "))


def _seeds(counts: Sequence[int]) -> str:
    return f"{' or '.join(map(str, counts))} seed{'s' if max(counts) > 1 else ''}"


def cpu_table(results: Path, table: str, endpoints: Sequence[str]) -> str:
    """Return a CPU-sized table of linear probes with every row of its script."""
    columns = [*endpoints, "pretext", "steps", "minutes"]

    def cells(row):
        probes = [percent(row["linear_probe"].get(endpoint)) for endpoint in endpoints]
        pretext = percent(row["pretext"]) if row["pretext"] else ""
        return [*probes, pretext, f"{row['steps']:,}", _minutes(row, digits=0)]

    return _table(results, table, columns, cells)


def labels_table(results: Path, table: str) -> str:
    """Return a CPU-sized table of chapter 8 with every row of its script."""
    columns = [*ACCURACIES.values(), "seeds", "minutes"]

    def cells(row):
        accuracy, count = row["accuracy"], len(row["seeds"])
        shares = [
            percent(accuracy[name], count) if name in accuracy else ""
            for name in ACCURACIES
        ]
        return [*shares, str(count), _minutes(row, digits=1)]

    return _table(results, table, columns, cells)


def _table(
    results: Path,
    table: str,
    columns: Sequence[str],
    cells: Callable[[Mapping[str, Any]], list[str]],
) -> str:
    result = read(results, f"{table}_cpu")
    if result is None:
        return _not_run(table)
    measured = {row["name"]: row for row in result["rows"]}
    stale = stale_rows(result, table, "cpu")
    lines = [f"| row | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for name in (row.name for row in expected_rows(table)):
        row = measured.get(name)
        values = cells(row) if row else [NOT_RUN] * len(columns)
        mark = f" {STALE}" if name in stale else ""
        lines.append(f"| {name}{mark} | {' | '.join(values)} |")
    return finish(lines, result, table)


def _minutes(row: Mapping[str, Any], digits: int) -> str:
    """Return the mean time in training steps; empty for an untrained network."""
    seconds = row["train_seconds"]
    return f"{sum(seconds) / len(seconds) / 60:.{digits}f}" if seconds else ""


def thesis_table(results: Path) -> str:
    """Return the thesis' tables with our number at the same size, measured or not."""
    lines = [
        "| table | data | row | config | thesis | ours |",
        "|---|---|---|---|---|---|",
    ]
    for table, best in BEST.items():
        cells = [
            table,
            thesis.TABLES[table]["data"],
            best.row,
            f"[`{best.config}`](../configs/{best.config}.py)",
            _of_thesis(table, best),
            _ours(results, f"table_{table.replace('.', '_')}", best),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _of_thesis(table: str, best: Best) -> str:
    numbers = thesis.numbers(table, best.row)
    shown, notes = " ".join(f"{numbers[name]:g}" for name in best.shown), []
    if len(best.shown) == 1 and best.shown != ["last"]:
        notes.append(best.shown[0])
    if best.beside:
        beside = thesis.numbers(table, best.beside)
        notes.append(f"SGD: {beside[best.shown[0]]:g}")
    return f"{shown} ({'; '.join(notes)})" if notes else shown


def _ours(results: Path, table: str, best: Best) -> str:
    result = read(results, f"{table}_paper")
    row = {row["name"]: row for row in result["rows"]}.get(best.row) if result else None
    if result is None or row is None:
        return NOT_RUN
    means = row.get("linear_probe") or row["accuracy"]
    shown = " ".join(f"{100 * means[name][0]:.1f}" for name in best.shown)
    is_stale = best.row in stale_rows(result, table, "paper")
    return f"{shown} {STALE}" if is_stale else shown


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


CHAPTER_4 = {
    "baselines": ENDPOINTS,
    "table_4_2": ENDPOINTS,
    "alone": ENDPOINTS,
    "table_4_1": ("conv5",),
}
"""Tables of linear probes, to the layers that they show."""

CHAPTER_8 = (
    "table_8_1",
    "table_8_2",
    "table_8_3",
    "table_8_4",
    "figure_8_2",
    "figure_8_3",
    "figure_8_4",
    "figure_8_5",
)

TABLES: dict[str, Callable[[Path], str]] = {
    **{
        f"{table}_cpu": functools.partial(cpu_table, table=table, endpoints=layers)
        for table, layers in CHAPTER_4.items()
    },
    **{
        f"{table}_cpu": functools.partial(labels_table, table=table)
        for table in CHAPTER_8
    },
    "thesis": thesis_table,
    "faults": fault_table,
}
"""Marker to what stands between it and its end."""

PAGES = {
    BILEVEL: ["figure_8_3_cpu", "figure_8_4_cpu"],
    FAULTS: ["faults"],
}
PAGES[MEASURED] = [
    name for name in TABLES if name not in {*PAGES[BILEVEL], *PAGES[FAULTS]}
]
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


def without_marks(text: str) -> str:
    """Return a page's text without what it says of stale rows."""
    return re.sub(rf"\n\n{STALE} stale: .*| {STALE}", "", text)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages, or check them, and print how many rows are stale.

    Raises:
      SystemExit: with ``--check``, if the tables are not those of the results. Marks of
        stale rows do not count: they change with the code, not with the results.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args(argv)
    command = "python docs/make_tables.py"
    for page, names in PAGES.items():
        old = page.read_text()
        new = fill(old, names)
        if not args.check:
            page.write_text(new)
        elif without_marks(old) != without_marks(new):
            sys.exit(f"{page.name} is out of date; run: {command}")
        elif old != new:
            sys.stdout.write(f"{page.name}: other rows are stale now; run: {command}\n")
    for table in (*CHAPTER_4, *CHAPTER_8):
        result = read(RESULTS, f"{table}_cpu")
        if result and (stale := stale_rows(result, table, "cpu")):
            count = len(result["rows"])
            sys.stdout.write(f"{table}: {len(stale)} of {count} rows are stale\n")


if __name__ == "__main__":
    main()
