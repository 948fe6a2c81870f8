"""Standard operations in the form that is fast on the platform they are lowered for.

XLA:CPU runs a few standard operations 3 to 90 times slower than the same function
written otherwise. The functions exported here have two formulations with equal values
and derivatives; one is picked when the program is lowered, so one traced program is
right everywhere, under ``jit`` and under ahead-of-time compilation for another
platform. On CPU they run the fast form, elsewhere the stock operation, but for
convolutions in groups that are divided among GPUs. ``docs/cpu.md`` has the
measurements.
"""

from jaxssl.ops.conv import conv_general_dilated, conv_transpose
from jaxssl.ops.pool import max_pool

__all__ = ["conv_general_dilated", "conv_transpose", "max_pool"]
