"""Time the operations of ``jaxssl.ops`` against the stock forms, in one run.

    python benchmarks/ops.py [--rounds 7]

Rounds of the two forms alternate; the table holds medians and their ratio (above 1:
ours is faster). Each call computes the value and the gradients with respect to all
inputs. On an accelerator both columns run the same program.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
from flax import linen as nn
from jax import lax

from jaxssl import ops

NHWC = ("NHWC", "HWIO", "NHWC")


class Case(NamedTuple):
    """Two forms of one function, and the shapes of its arguments."""

    name: str
    ours: Callable[..., jax.Array]
    stock: Callable[..., jax.Array]
    shapes: tuple[tuple[int, ...], ...]


def grouped(name, x, kernel):
    """Compare convolutions in two groups."""

    def stock(x, k):
        return lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=2
        )

    def ours(x, k):
        return ops.conv_general_dilated(x, k, (1, 1), "SAME", feature_group_count=2)

    return Case(name, ours, stock, (x, kernel))


def ungrouped(name, x, kernel, stride):
    """Compare convolutions whose kernel outgrows the map, or of odd channels."""
    strides = (stride, stride)

    def stock(x, k):
        return lax.conv_general_dilated(x, k, strides, "SAME", dimension_numbers=NHWC)

    def ours(x, k):
        return ops.conv_general_dilated(x, k, strides, "SAME")

    return Case(name, ours, stock, (x, kernel))


def transposed(name, x, features):
    """Compare 4x4 transposed convolutions of stride 2."""

    def stock(x, k):
        return lax.conv_transpose(x, k, (2, 2), "SAME", dimension_numbers=NHWC)

    def ours(x, k):
        return ops.conv_transpose(x, k, strides=(2, 2))

    return Case(name, ours, stock, (x, (4, 4, x[-1], features)))


def pooled(name, x, padding):
    """Compare 3x3 max pooling of stride 2."""

    def stock(x):
        return nn.max_pool(x, (3, 3), (2, 2), padding)

    def ours(x):
        return ops.max_pool(x, (3, 3), (2, 2), padding)

    return Case(name, ours, stock, (x,))


CASES = (
    grouped("grouped 5x5, AlexNet conv2 at 64 px", (32, 8, 8, 96), (5, 5, 48, 256)),
    grouped("grouped 3x3, AlexNet conv4 at 64 px", (32, 4, 4, 384), (3, 3, 192, 384)),
    ungrouped("3x3 on 2x2 maps, ResNet", (64, 2, 2, 256), (3, 3, 256, 256), 1),
    ungrouped("4x4/2 to 3x3, inpainter down3", (64, 6, 6, 64), (4, 4, 64, 128), 2),
    ungrouped("5x5/2, AlexNet/4 conv1 at 32 px", (192, 32, 32, 3), (5, 5, 3, 24), 2),
    transposed("transposed, inpainter up1 at 48 px", (32, 6, 6, 384), 192),
    transposed("transposed, inpainter up3 at 48 px", (32, 24, 24, 96), 48),
    transposed("transposed, depth 16 at 24 px", (32, 12, 12, 32), 16),
    pooled("max pool SAME, AlexNet pool1 at 64 px", (96, 16, 16, 96), "SAME"),
    pooled("max pool SAME, AlexNet/4 pool1 at 32 px", (160, 16, 16, 24), "SAME"),
    pooled("max pool VALID, AlexNet pool1 at 227 px", (8, 55, 55, 96), "VALID"),
)


def step(function: Callable[..., jax.Array], shapes) -> Callable[[], None]:
    """Compile value and gradients; return a call that waits for both."""
    arguments = [
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)
    ]

    @jax.jit
    def value_and_gradients(*arguments):
        value, pull = jax.vjp(function, *arguments)
        return value, pull(value)

    def call():
        jax.block_until_ready(value_and_gradients(*arguments))

    call()
    return call


def measure(case: Case, rounds: int) -> tuple[float, float]:
    """Return the median milliseconds of the stock form and of ours."""
    calls = [step(case.stock, case.shapes), step(case.ours, case.shapes)]
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for call, spent in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            spent.append(1e3 * (time.perf_counter() - start))
    stock, ours = map(statistics.median, times)
    return stock, ours


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="at least 5")
    rounds = max(parser.parse_args().rounds, 5)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {rounds} rounds\n")
    print("| operation, forward + backward | stock, ms | jaxssl, ms | ratio |")
    print("|---|---|---|---|")
    for case in CASES:
        stock, ours = measure(case, rounds)
        print(f"| {case.name} | {stock:.2f} | {ours:.2f} | {stock / ours:.1f} |")


if __name__ == "__main__":
    main()
