"""Time the operations of ``jaxssl.ops`` against the stock forms, in one run.

    taskset -c 1 python benchmarks/ops.py [--rounds 5] [--seconds 0.2] [--only WORD]

Turns of the stock form and of ours alternate, forward and backward, outside of loops
and in the body of a ``lax.scan`` of four turns. Cells are medians of CPU milliseconds a
call (a turn of the loop); ratios above 1 mean that ours is faster. Backward is the
gradient with respect to all inputs for a given cotangent. On an accelerator both forms
are the same program.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
from flax import linen as nn
from jax import lax
from rounds import measure

from jaxssl import ops

TURNS = 4


class Case(NamedTuple):
    """Two forms of one function, and the shapes of its arguments."""

    name: str
    ours: Callable[..., jax.Array]
    stock: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]


def _layout(images):
    spatial = "DHW"[5 - len(images) :]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def convolution(name, x, kernel, stride=1, groups=1):
    """Compare convolutions with SAME padding."""
    strides = (stride,) * (len(x) - 2)

    def stock(x, k):
        return lax.conv_general_dilated(
            x,
            k,
            strides,
            "SAME",
            dimension_numbers=_layout(x.shape),
            feature_group_count=groups,
        )

    def ours(x, k):
        return ops.conv_general_dilated(
            x, k, strides, "SAME", feature_group_count=groups
        )

    return Case(name, ours, stock, (x, kernel))


def mapped(name, x, kernel):
    """Compare convolutions of several mini-batches, each with a kernel of its own."""
    plain = convolution(name, x[1:], kernel[1:])
    return plain._replace(
        ours=jax.vmap(plain.ours), stock=jax.vmap(plain.stock), shapes=(x, kernel)
    )


def transposed(name, x, kernel):
    """Compare transposed convolutions of stride 2."""
    strides = (2,) * (len(x) - 2)

    def stock(x, k):
        return lax.conv_transpose(
            x, k, strides, "SAME", dimension_numbers=_layout(x.shape)
        )

    def ours(x, k):
        return ops.conv_transpose(x, k, strides=strides)

    return Case(name, ours, stock, (x, kernel))


def pooled(name, x, window, strides, padding="SAME"):
    """Compare max pooling."""

    def stock(x):
        return nn.max_pool(x, window, strides, padding)

    def ours(x):
        return ops.max_pool(x, window, strides, padding)

    return Case(name, ours, stock, (x,))


CASES = (
    convolution("3x3, 32 to 32, 32 px", (16, 32, 32, 32), (3, 3, 32, 32)),
    convolution("3x3/2, 16 to 32, 32 px", (16, 32, 32, 16), (3, 3, 16, 32), 2),
    convolution("3x3, 96 to 96, 8 px", (16, 8, 8, 96), (3, 3, 96, 96)),
    convolution("3x3/2, 64 to 128, 8 px", (16, 8, 8, 64), (3, 3, 64, 128), 2),
    convolution("1x1, 64 to 64, 16 px", (16, 16, 16, 64), (1, 1, 64, 64)),
    convolution("5x5, CifarNet conv1", (16, 32, 32, 3), (5, 5, 3, 64)),
    convolution("5x5, CifarNet conv2", (16, 16, 16, 64), (5, 5, 64, 64)),
    convolution("5x5/2, AlexNet/4 conv1", (64, 32, 32, 3), (5, 5, 3, 24), 2),
    convolution("9, 64 to 64, length 256", (16, 256, 64), (9, 64, 64)),
    convolution("3x3 on 2x2 maps, ResNet", (64, 2, 2, 256), (3, 3, 256, 256)),
    convolution("4x4/2 to 3x3, inpainter", (64, 6, 6, 64), (4, 4, 64, 128), 2),
    convolution("5x5 in 2 groups, AlexNet", (32, 8, 8, 96), (5, 5, 48, 256), 1, 2),
    convolution("3x3 in 32 groups, ResNeXt", (32, 16, 16, 128), (3, 3, 4, 128), 1, 32),
    convolution("depthwise 3x3, 64", (32, 16, 16, 64), (3, 3, 1, 64), 1, 64),
    mapped("vmap of 8: 3x3, 32 to 32", (8, 16, 16, 16, 32), (8, 3, 3, 32, 32)),
    transposed("transposed 4x4, inpainter up1", (32, 6, 6, 384), (4, 4, 384, 192)),
    transposed("transposed 4x4, inpainter up3", (32, 24, 24, 96), (4, 4, 96, 48)),
    transposed("transposed 4x4, 32 to 16", (32, 12, 12, 32), (4, 4, 32, 16)),
    transposed("transposed 5x5, 64 to 32", (32, 8, 8, 64), (5, 5, 64, 32)),
    convolution("3x3x3, 3 to 64, 16x28", (2, 16, 28, 28, 3), (3, 3, 3, 3, 64)),
    convolution("3x3x3, 64 to 128, 8x14", (2, 8, 14, 14, 64), (3, 3, 3, 64, 128)),
    pooled("max pool 2x2, 32 px", (64, 32, 32, 32), (2, 2), (2, 2)),
    pooled("max pool 3x3/2, AlexNet", (96, 16, 16, 96), (3, 3), (2, 2)),
    pooled("max pool 3x3/2, 227 px", (8, 55, 55, 96), (3, 3), (2, 2), "VALID"),
    pooled("max pool 2x2x2, C3D", (4, 16, 28, 28, 64), (2, 2, 2), (2, 2, 2)),
)


def forward(function, arguments, cotangent):
    """Return the value; the cotangent is there so that both take the same arguments."""
    del cotangent
    return (function(*arguments),)


def backward(function, arguments, cotangent):
    """Return the gradients for a given cotangent."""
    return jax.vjp(function, *arguments)[1](cotangent)


def in_scan(call, function):
    """Repeat a call on other images each time, and add up what it returns."""

    def run(arguments, cotangent):
        x, *others = arguments
        shapes = jax.eval_shape(lambda: call(function, arguments, cotangent))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def body(totals, scale):
            found = call(function, (scale * x, *others), scale * cotangent)
            return jax.tree.map(jnp.add, totals, found), None

        return lax.scan(body, zeros, 1.0 + jnp.arange(TURNS, dtype=x.dtype))[0]

    return run


def prepare(case: Case) -> dict[str, Callable[[], object]]:
    """Compile every form of a case; the keys say which."""
    arguments = tuple(
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate(case.shapes)
    )
    value = jax.eval_shape(case.stock, *arguments)
    cotangent = jax.random.normal(jax.random.key(9), value.shape)
    calls = {}
    for form, function in (("stock", case.stock), ("ours", case.ours)):
        for call in (forward, backward):
            once = jax.jit(lambda a, c, f=function, call=call: call(f, a, c))
            loop = jax.jit(in_scan(call, function))
            for place, step in (("outside", once), ("scan", loop)):
                calls[f"{form} {call.__name__} {place}"] = lambda step=step: (
                    jax.block_until_ready(step(arguments, cotangent))
                )
    return calls


def row(case: Case, rounds: int, seconds: float) -> str:
    """Return a row of the table: stock, ours and ratio for each of four programs."""
    costs = measure(prepare(case), rounds=rounds, seconds=seconds)
    cells = [case.name]
    for place, turns in (("outside", 1), ("scan", TURNS)):
        for call in ("forward", "backward"):
            stock, ours = (
                costs[f"{form} {call} {place}"].cpu / turns
                for form in ("stock", "ours")
            )
            cells.append(f"{stock:.2f} / {ours:.2f} = {stock / ours:.1f}")
    return "| " + " | ".join(cells) + " |"


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each turn")
    parser.add_argument("--only", default="", help="cases with this in their name")
    options = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"{device}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, stock / ours")
    print("\n| operation, ms | forward | backward | forward, scan | backward, scan |")
    print("|---|---|---|---|---|", flush=True)
    for case in CASES:
        if options.only in case.name:
            print(row(case, options.rounds, options.seconds), flush=True)


if __name__ == "__main__":
    main()
