"""A twin of JAX's convolution: the same operation, lowered otherwise on CPU and GPUs.

The twin takes the parameters of ``jax.lax.conv_general_dilated_p``. Its derivatives and
its batching are traced from those of the stock primitive with the twin in its place, so
derivatives of any order, forward and reverse, and ``vmap`` are made of twins again. On
CPU, and on GPUs that share a program, ``jaxssl.ops.lowering`` lowers it; anywhere else
it is the stock one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax
from jax.extend import core
from jax.interpreters import ad, batching, mlir
from jax.typing import ArrayLike

from jaxssl.ops.lowering import lower_on_cpu, lower_on_gpus
from jaxssl.types import Array

_stock_p = lax.conv_general_dilated_p

convolution_p = core.Primitive("jaxssl_convolution")
"""The twin; ``substitute`` binds it."""


def substitute(function: Callable[..., Array], *arguments: ArrayLike) -> Array:
    """Evaluate a function with the twin in place of JAX's own convolution.

    Args:
      function: from arrays to one array, written with ``jax.lax``; convolutions inside
        of a nested ``jax.jit`` or a loop stay as they are.
      *arguments: its arguments.

    Returns:
      Its value.
    """
    closed = jax.make_jaxpr(function)(*arguments)
    values: dict[Any, Any] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
    values.update(zip(closed.jaxpr.constvars, closed.consts, strict=True))

    def read(atom):
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in closed.jaxpr.eqns:
        twin = equation.primitive is _stock_p
        primitive = convolution_p if twin else equation.primitive
        found = primitive.bind(*map(read, equation.invars), **equation.params)
        found = found if primitive.multiple_results else [found]
        values.update(zip(equation.outvars, found, strict=True))
    return read(closed.jaxpr.outvars[0])


def _stock(x: ArrayLike, kernel: ArrayLike, **parameters: Any) -> Array:
    return _stock_p.bind(x, kernel, **parameters)


@functools.partial(jax.jit, static_argnames="parameters")
def _compiled(x: ArrayLike, kernel: ArrayLike, parameters: tuple) -> Array:
    return convolution_p.bind(x, kernel, **dict(parameters))


def _evaluate(x: ArrayLike, kernel: ArrayLike, **parameters: Any) -> Array:
    with jax.disable_jit(False):  # Else _compiled would end up here again.
        return _compiled(x, kernel, tuple(parameters.items()))


def _images_cotangent(cotangent, x, kernel, **parameters: Any):
    """Transpose the convolution as a linear function of the images."""

    def transpose(cotangent, kernel):
        linear = functools.partial(_stock, kernel=kernel, **parameters)
        return jax.linear_transpose(linear, x.aval)(cotangent)[0]

    return substitute(transpose, cotangent, kernel)


def _kernel_cotangent(cotangent, x, kernel, **parameters: Any):
    """Transpose the convolution as a linear function of the kernel."""

    def transpose(cotangent, x):
        linear = functools.partial(_stock, x, **parameters)
        return jax.linear_transpose(linear, kernel.aval)(cotangent)[0]

    return substitute(transpose, cotangent, x)


def _batch(arguments, axes, *, dimension_numbers: Any, **parameters: Any):
    """Batch the stock form; leave the new axis where JAX puts it, next to its part."""
    out = dimension_numbers.out_spec
    axis = out[0] if axes[1] is None else out[1]
    stock = functools.partial(_stock, dimension_numbers=dimension_numbers, **parameters)
    return substitute(jax.vmap(stock, axes, axis), *arguments), axis


def _lower_on_gpu(context: mlir.LoweringRuleContext, *operands, **parameters: Any):
    """Keep the stock form unless XLA is to divide the program among devices.

    Under ``jax.shard_map`` over all axes of a mesh each has a program of its own.
    """
    devices = context.module_context.axis_context
    if isinstance(devices, mlir.ShardingContext):
        several = devices.num_devices > 1
    elif isinstance(devices, mlir.SPMDAxisContext):
        several = devices.manual_axes != set(devices.mesh.axis_names)
    else:
        several = False
    form = mlir.lower_fun(lower_on_gpus if several else _stock, multiple_results=False)
    return form(context, *operands, **parameters)


convolution_p.def_impl(_evaluate)
convolution_p.def_effectful_abstract_eval(_stock_p.abstract_eval)
ad.defbilinear(convolution_p, _images_cotangent, _kernel_cotangent)
batching.primitive_batchers[convolution_p] = _batch
mlir.register_lowering(convolution_p, mlir.lower_fun(_stock, multiple_results=False))
mlir.register_lowering(
    convolution_p, mlir.lower_fun(lower_on_cpu, multiple_results=False), platform="cpu"
)
for _platform in ("cuda", "rocm"):
    mlir.register_lowering(convolution_p, _lower_on_gpu, platform=_platform)
