"""Test-wide settings: eight fake devices, strict ranks, no warning unseen."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_programs():
    """Free what a file compiled: over the whole suite it would grow to gigabytes."""
    yield
    jax.clear_caches()
