"""Convolutions for several GPUs, on a CPU."""

import jax
import pytest
from jax.interpreters import mlir

from jaxssl.ops import lowering
from jaxssl.ops.primitive import convolution_p


@pytest.fixture
def lowered_as_on_gpus():
    """Let programs for this CPU have the convolutions of those for several GPUs."""

    def register(form):
        rule = mlir.lower_fun(form, multiple_results=False)
        mlir.register_lowering(convolution_p, rule, platform="cpu")
        jax.clear_caches()

    register(lowering.lower_on_gpus)
    yield
    register(lowering.lower_on_cpu)
