"""Time the strategies of bilevel learning against plain SGD, in one run.

    python benchmarks/bilevel.py [--nets mlp,cifarnet] [--k 8] [--size 16] [--rounds 7]

Every call is one step on the same k * B examples: gradient and update. ``big batch``
takes one gradient of all of them, ``accumulated`` adds up k gradients in a scan; the
others weigh k gradients. The price of the weighting is the ratio to ``accumulated``.
Before anything is timed, the strategies have to agree on the update. Turns alternate;
the table holds medians. The last column is XLA's working memory, which is no time.
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rounds

from jaxssl import losses, ops
from jaxssl.optim import bilevel

Loss = Callable[[Any, Any], jax.Array]
STRATEGIES = ("scan", "loop", "vmap", "jvp", "auto")
RATE = 0.01


def mlp(params: list, x: jax.Array) -> jax.Array:
    """Return logits of dense layers."""
    x = x.reshape(len(x), -1)
    for kernel, bias in params[:-1]:
        x = jax.nn.relu(x @ kernel + bias[None])
    kernel, bias = params[-1]
    return x @ kernel + bias[None]


def cifarnet(params: list, x: jax.Array) -> jax.Array:
    """Return logits of two convolutions with pools, then dense layers."""
    for kernel, bias in params[:2]:
        x = ops.conv_general_dilated(x, kernel, (1, 1), "SAME")
        x = ops.max_pool(jax.nn.relu(x + bias[None, None, None]), (3, 3), (2, 2))
    return mlp(params[2:], x)


def convolutions(params: list, x: jax.Array) -> jax.Array:
    """Return logits of six 3x3 convolutions, two of them with stride 2."""
    for i, (kernel, bias) in enumerate(params[:-1]):
        stride = 2 if i in (2, 4) else 1
        x = ops.conv_general_dilated(x, kernel, (stride, stride), "SAME")
        x = jax.nn.relu(x + bias[None, None, None])
    return mlp(params[-1:], x.mean(axis=(1, 2)))


WIDE = [(3, 3, a, b) for a, b in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 128))]
NETS = {
    "mlp": (mlp, [(3072, 512), (512, 512), (512, 10)]),
    "cifarnet": (
        cifarnet,
        [(5, 5, 3, 64), (5, 5, 64, 64), (3136, 384), (384, 192), (192, 10)],
    ),
    "convolutions": (convolutions, [*WIDE, (3, 3, 128, 128), (128, 10)]),
    "tiny": (mlp, [(3072, 8), (8, 10)]),
}


def make_problem(net: str, k: int, size: int) -> tuple[Loss, list, dict]:
    """Return the loss, random parameters and a batch [k, B, ...]."""
    apply, shapes = NETS[net]
    rng = np.random.default_rng(0)

    def layer(shape):
        scale = np.sqrt(2 / np.prod(shape[:-1]))
        kernel = jnp.asarray(scale * rng.normal(size=shape), jnp.float32)
        return kernel, jnp.zeros(shape[-1])

    def loss(params, minibatch):
        logits = apply(params, minibatch["image"])
        return losses.cross_entropy(logits, minibatch["label"])

    batch = {
        "image": jnp.asarray(rng.normal(size=(k, size, 32, 32, 3)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 10, (k, size)), jnp.int32),
    }
    return loss, [layer(shape) for shape in shapes], batch


def gradients(loss: Loss, k: int) -> dict[str, Callable]:
    """Return the ways to a gradient, by name."""

    def big(params, batch):
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        return jax.grad(loss)(params, flat)

    def accumulated(params, batch):
        def body(total, minibatch):
            gradient = jax.grad(loss)(params, minibatch)
            return jax.tree.map(lambda t, g: t + g / k, total, gradient), None

        return jax.lax.scan(body, jax.tree.map(jnp.zeros_like, params), batch)[0]

    def weighted(strategy, params, batch):
        lam = float("inf") if strategy == "jvp" else 1.0
        f = bilevel.value_and_grad(loss, k=k, lam=lam, strategy=strategy)
        return f(params, batch)[1]

    ways = {name: functools.partial(weighted, name) for name in STRATEGIES}
    return {"big batch": big, "accumulated": accumulated, **ways}


def compile_step(gradient: Callable, params: list, batch: dict) -> Any:
    """Compile one step of SGD."""

    def step(params, batch):
        found = gradient(params, batch)
        return jax.tree.map(lambda p, g: p - RATE * g, params, found)

    return jax.jit(step).lower(params, batch).compile()


def call(step: Any, params: list, batch: dict) -> Callable[[], object]:
    """Return a call of a step that waits for its result."""
    return lambda: jax.block_until_ready(step(params, batch))


def check(steps: dict, params: list, batch: dict) -> None:
    """Compare the updates of all strategies but jvp, whose lambda is another.

    Raises:
      SystemExit: they differ.
    """
    expected = steps["scan"](params, batch)
    for name in ("loop", "vmap", "auto"):
        pairs = zip(
            jax.tree.leaves(steps[name](params, batch)),
            jax.tree.leaves(expected),
            jax.tree.leaves(params),
            strict=True,
        )
        for found, wanted, start in pairs:
            moved = jnp.linalg.norm(wanted - start)
            if not jnp.linalg.norm(found - wanted) <= 1e-3 * moved + 1e-7:
                raise SystemExit(f"{name} and scan do not compute the same update.")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default="mlp,cifarnet,convolutions")
    parser.add_argument("--k", type=int, default=8, help="mini-batches")
    parser.add_argument("--size", type=int, default=16, help="B, examples in each")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one turn")
    args = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"k={args.k}, B={args.size}, {device}, jax {jax.__version__}\n")
    print("| net | step | wall, ms | CPU, ms | to accumulated | to big batch | MiB |")
    print("|---|---|---|---|---|---|---|")
    for net in args.nets.split(","):
        loss, params, batch = make_problem(net, args.k, args.size)
        steps = {
            name: compile_step(gradient, params, batch)
            for name, gradient in gradients(loss, args.k).items()
        }
        check(steps, params, batch)
        calls = {name: call(f, params, batch) for name, f in steps.items()}
        found = rounds.measure(calls, rounds=args.rounds, seconds=args.seconds)
        for name, cost in found.items():
            memory = steps[name].memory_analysis().temp_size_in_bytes / 2**20
            print(
                f"| {net} | {name} | {cost.wall:.2f} | {cost.cpu:.2f} | "
                f"{cost.cpu / found['accumulated'].cpu:.2f} | "
                f"{cost.cpu / found['big batch'].cpu:.2f} | {memory:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
