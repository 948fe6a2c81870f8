"""Count the arithmetic of a traced program: matrix products and convolutions.

Compilers count the body of a loop once, and some count nothing. This module counts the
traced program, whatever it is compiled for. Elementwise operations, reductions and
sampling are left out.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jax.extend import core

from jaxssl.ops.primitive import convolution_p


class Work(NamedTuple):
    """Floating-point operations; a multiplication and an addition are two.

    Attributes:
      total: operations with the body of a loop counted as many times as it runs.
      once: operations with the body of a loop counted once, as compilers do.
    """

    total: int
    once: int


def count(jaxpr: core.Jaxpr) -> Work:
    """Count the operations of a jaxpr and of all jaxprs that it calls.

    Of several branches the most expensive one counts. The body of a ``while`` counts
    once, because its length is unknown.
    """
    total = once = 0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            work = Work(*(_product(equation),) * 2)
        elif name in ("conv_general_dilated", convolution_p.name):
            work = Work(*(_convolution(equation),) * 2)
        elif name == "cond":
            work = max(count(branch.jaxpr) for branch in params["branches"])
        else:
            inner = [count(called) for called in _called(params)]
            times = params["length"] if name == "scan" else 1
            work = Work(
                times * sum(one.total for one in inner), sum(one.once for one in inner)
            )
        total, once = total + work.total, once + work.once
    return Work(total, once)


def _called(params: dict[str, Any]) -> list[core.Jaxpr]:
    """Return the jaxprs among the parameters of an equation."""
    jaxprs = []
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, core.ClosedJaxpr):
                jaxprs.append(one.jaxpr)
            elif isinstance(one, core.Jaxpr):
                jaxprs.append(one)
    return jaxprs


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    depth = math.prod(shape[axis] for axis in contracted)
    return 2 * depth * math.prod(equation.outvars[0].aval.shape)


def _convolution(equation: Any) -> int:
    """Return the FLOPs of a convolution, two for each product of a pixel and a weight.

    Zeros of the padding, and those that dilation puts between pixels, are not counted.
    """
    params = equation.params
    images, weights, out = params["dimension_numbers"]
    x, kernel = (v.aval.shape for v in equation.invars)
    y = equation.outvars[0].aval.shape
    pairs = 1
    for i, (low, _) in enumerate(params["padding"]):
        hole, step = params["lhs_dilation"][i], params["rhs_dilation"][i]
        starts = np.arange(y[out[2 + i]])[:, None] * params["window_strides"][i] - low
        pixels = starts + np.arange(kernel[weights[2 + i]]) * step
        length = (x[images[2 + i]] - 1) * hole + 1
        pairs *= int(((pixels >= 0) & (pixels < length) & (pixels % hole == 0)).sum())
    return 2 * pairs * kernel[weights[1]] * y[out[0]] * y[out[1]]
