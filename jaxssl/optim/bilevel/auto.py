"""Choose the loop over mini-batches: XLA:CPU runs some convolutions slowly in one."""

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxssl.optim.bilevel.problem import Problem, minibatch_at
from jaxssl.optim.bilevel.strategies import unrolled

LOOPS = ("auto", "scan", "loop")


def run_in_loop(
    one_pass: Callable[..., Any],
    loop: str,
    problem: Problem,
    batch: Any,
    state: Any,
    unroll: int,
) -> Any:
    """Go over the mini-batches in the loop that is asked for.

    Args:
      one_pass: ``one_pass(batch, state, loop)``, where ``loop`` is like `jax.lax.scan`.
      loop: "scan", "loop" (unrolled by Python), or "auto": scan, but on CPU unrolled
        where the network's convolutions would be slow; it warns then.
      problem: the loss.
      batch: the mini-batches, [k, B, ...].
      state: the first state.
      unroll: mini-batches that scan has in one turn.

    Returns:
      What ``one_pass`` returns.
    """
    scan = functools.partial(jax.lax.scan, unroll=unroll)
    if loop != "auto":
        return one_pass(batch, state, {"scan": scan, "loop": unrolled}[loop])

    def gradient(batch, state):
        return problem.gradient(minibatch_at(batch, 0), 0, state)

    if not has_slow_convolution(gradient, batch, state):
        return one_pass(batch, state, scan)
    if jax.default_backend() == "cpu":
        warnings.warn(
            "The mini-batches run in a Python loop, as the gradients of these "
            "convolutions are up to 90 times slower inside of lax.scan on CPU. Use "
            "jaxssl.ops.conv_general_dilated in the network, or pass strategy='loop' "
            "to say that you know.",
            stacklevel=4,
        )
    return jax.lax.platform_dependent(
        batch,
        state,
        cpu=functools.partial(one_pass, loop=unrolled),
        default=functools.partial(one_pass, loop=scan),
    )


def has_slow_convolution(fun: Callable[..., Any], *args: Any) -> bool:
    """Say whether a loop around ``fun`` would run convolutions as naive loops on CPU.

    XLA:CPU brings the layout of convolutions into the form that it is fast in (NHWC,
    HWIO) in the outermost computation only. The gradients of a convolution have another
    layout by themselves, and are 18 to 90 times slower inside of `jax.lax.scan`.

    Args:
      fun: what the loop would run; it is traced, not run.
      *args: its arguments.

    Returns:
      Whether a convolution in another layout is in it, on the branch for CPU.
    """
    closed = jax.make_jaxpr(fun)(*args)
    return any(_is_slow(equation) for equation in _equations(closed.jaxpr))


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Yield all equations that a CPU may run, inner ones included."""
    for equation in jaxpr.eqns:
        yield equation
        params = dict(equation.params)
        platforms = params.get("branches_platforms")
        if platforms is not None:  # From jax.lax.platform_dependent.
            params["branches"] = [
                branch
                for branch, names in zip(params["branches"], platforms, strict=True)
                if names is not None and "cpu" in names
            ] or [params["branches"][-1]]
        for value in params.values():
            for inner in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner)


def _is_slow(equation: Any) -> bool:
    if equation.primitive.name != "conv_general_dilated":
        return False
    numbers = equation.params["dimension_numbers"]
    rank = len(numbers.lhs_spec)
    images = (0, rank - 1, *range(1, rank - 1))
    kernel = (rank - 1, rank - 2, *range(rank - 2))
    found = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    return found != (images, kernel, images)
