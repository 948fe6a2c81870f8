"""CPU seconds that each part of the suite may take; longer parts start first.

The seconds are those of a test's process and of the processes that it started. A part
over its budget is a printed line, no failure: shrink the part or raise its budget.
"""

import collections
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
BUDGETS = {
    "transforms": 230,
    "optim": 70,
    "models": 60,
    "test_tasks_contract.py": 55,
    "methods": 55,
    "train": 55,
    "distributed": 55,
    "ops": 50,
    "test_docs.py": 50,
    "data": 45,
    "verify": 40,
    "test_networks_contract.py": 35,
    "run": 30,
    "cli": 30,
    "test_toys.py": 25,
    "checkpoint": 25,
    "test_experiments.py": 20,
    "test_builders.py": 20,
    "test_docs_transforms.py": 20,
    "config": 20,
    "test_full_size.py": 20,
    "evals": 15,
    "test_benchmarks.py": 15,
    "report": 12,
    "test_docs_tables.py": 7,
    "test_safe_files.py": 7,
}
"""Of each directory, and of each file in none; any other part has 5 seconds.

Together they are nine minutes of two idle cores.
"""


def _part(path):
    return Path(path).relative_to(ROOT).parts[0]


def _budget(part):
    return BUDGETS.get(part, 5)


def _cpu_seconds():
    return sum(os.times()[:4])


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: -_budget(_part(item.path)))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    item.stash[BEGAN] = _cpu_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    try:
        return (yield)
    finally:
        seconds = _cpu_seconds() - item.stash[BEGAN]
        item.user_properties.append(("cpu_seconds", seconds))


def pytest_terminal_summary(terminalreporter):
    spent = collections.Counter()
    for report in terminalreporter.getreports(""):
        part = _part(ROOT.parent / report.location[0])
        spent[part] += dict(report.user_properties).get("cpu_seconds", 0)
    terminalreporter.section("CPU seconds of at most (budget)")
    for part, seconds in spent.most_common():
        budget = _budget(part)
        over = "  OVER BUDGET" if seconds > budget else ""
        terminalreporter.line(f"{part:28}{seconds:7.1f} of {budget:4}{over}")


BEGAN = pytest.StashKey[float]()
