"""What XLA sets aside for a step, against plain SGD that accumulates as long."""

import jax
import jax.numpy as jnp
import pytest

from jaxssl import ops
from jaxssl.optim import bilevel

K, B = 8, 16


def dense(kernels, x):
    for kernel in kernels:
        x = jnp.tanh(x @ kernel)
    return jnp.mean(x**2)


def convolutional(kernels, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    for kernel in kernels:
        x = jnp.tanh(
            jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=numbers
            )
        )
    return jnp.mean(x**2)


def ours(kernels, x):
    for kernel in kernels[:-1]:
        x = jnp.tanh(ops.conv_general_dilated(x, kernel, (1, 1), "SAME"))
        x = ops.max_pool(x, (2, 2), (2, 2))
    return jnp.mean(dense(kernels[-1:], x.reshape(len(x), -1)))


NETS = {
    "dense": (dense, [(256, 512), (512, 512), (512, 10)], (256,)),
    "convolutions": (
        convolutional,
        [(3, 3, 64, 128), (3, 3, 128, 128)],
        (8, 8, 64),
    ),
    "jaxssl.ops": (ours, [(5, 5, 64, 64), (1024, 384)], (8, 8, 64)),
    "convolutions, deeper": (
        convolutional,
        [(3, 3, 3, 64), (3, 3, 64, 128), (3, 3, 128, 256)],
        (16, 16, 3),
    ),
    "jaxssl.ops, deeper": (
        ours,
        [(5, 5, 3, 64), (5, 5, 64, 64), (1024, 384)],
        (16, 16, 3),
    ),
}
CASES = [
    pytest.param(*net, id=name, marks=[pytest.mark.slow] * name.endswith("deeper"))
    for name, net in NETS.items()
]


def accumulate(loss):
    def gradient(params, batch):
        def body(total, minibatch):
            return jax.tree.map(jnp.add, total, jax.grad(loss)(params, minibatch)), None

        return jax.lax.scan(body, jax.tree.map(jnp.zeros_like, params), batch)[0]

    return gradient


def weigh(loss, strategy):
    f = bilevel.value_and_grad(loss, k=K, strategy=strategy)
    return lambda params, batch: f(params, batch)[1]


def temporary_bytes(gradient, params, batch):
    """Compile a step of SGD with momentum; return its working memory."""

    def step(params, trace, batch):
        trace = jax.tree.map(lambda t, g: 0.9 * t + g, trace, gradient(params, batch))
        return jax.tree.map(lambda p, t: p - 0.1 * t, params, trace), trace

    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, params, batch)
    return lowered.compile().memory_analysis().temp_size_in_bytes


@pytest.mark.optimised
@pytest.mark.parametrize(("loss", "shapes", "image"), CASES)
def test_scan_needs_two_and_a_half_parameters_more_than_accumulation(
    loss, shapes, image
):
    params = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    batch = jax.ShapeDtypeStruct((K, B, *image), jnp.float32)
    size = sum(4 * x.size for x in params)
    plain = temporary_bytes(accumulate(loss), params, batch)
    ours = temporary_bytes(weigh(loss, "scan"), params, batch)
    stacked = temporary_bytes(weigh(loss, "vmap"), params, batch)
    assert plain > size  # The accumulator is in it.
    assert ours <= plain + 2.5 * size
    assert stacked > ours + size  # And what a strategy stores is seen.
