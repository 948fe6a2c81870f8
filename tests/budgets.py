"""CPU seconds that each part of the suite may take; longer parts start first.

The seconds are those of a test's process and of the processes that it started. A part
over its budget is a printed line, no failure: shrink the part or raise its budget.
"""

import collections
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
BUDGETS = {}
"""Seconds of each directory, and of each file that lies in none."""


def _part(path):
    return Path(path).relative_to(ROOT).parts[0]


def _cpu_seconds():
    return sum(os.times()[:4])


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: -BUDGETS.get(_part(item.path), 0))


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
        budget = BUDGETS.get(part, 0)
        over = "  OVER BUDGET" if seconds > budget else ""
        terminalreporter.line(f"{part:28}{seconds:7.1f} of {budget:4}{over}")


BEGAN = pytest.StashKey[float]()
