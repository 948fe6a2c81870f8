"""Test-wide settings: eight fake devices, strict ranks, no warning unseen."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most tests compile more than they compute; the marker ``optimised`` is for the others.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# XLA's older code generator compiles small programs in half the time.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax
import pytest

from tests.faults import Ledger

pytest_plugins = ["tests.budgets", "tests.runs"]

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Compile as users do where a test asks for it, here and in processes it starts."""
    quick = not any(map(item.get_closest_marker, ("optimised", "slow")))
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = str(quick)
    jax.config.update("jax_disable_most_optimizations", quick)


def pytest_addoption(parser):
    parser.addoption("--fault-table", help="file that keeps the counts of faults")


@pytest.fixture
def faults(request):
    """Record injected faults and fail unless all of them were survived."""
    path = request.config.getoption("--fault-table")
    folder = request.config.invocation_params.dir
    return Ledger(request.node.nodeid, folder / path if path else None)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """Free what a file compiled: over the whole suite it would grow to gigabytes."""
    yield
    jax.clear_caches()


def pytest_collection_modifyitems(items):
    """Let ``-m fault`` choose the tests that inject faults."""
    for item in items:
        if "faults" in getattr(item, "fixturenames", ()):
            item.add_marker("fault")
