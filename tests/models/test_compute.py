"""Any network in bfloat16, and with its cheap layers computed twice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models.network import compute_in, rematerialized
from jaxssl.models.resnet import resnet
from jaxssl.optim import bilevel
from tests.networks import NETWORKS

QUICK = ("alexnet", "critic", "inpainter", "mlp")
"""The others compile for long, or are like these; they are in the slow suite."""

EACH = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(NETWORKS)
    ],
)
BATCH = 8
COSINE = 0.95
"""Least cosine of a network's gradient in bfloat16 with that in float32: 8 bits hold
two to three digits, and a batch norm of eight rows amplifies what they leave out."""


@functools.cache
def example(name):
    """Return a network, parameters, statistics and images."""
    network, shape = NETWORKS[name]()
    x = jax.random.uniform(jax.random.key(1), (BATCH, *shape), minval=-1.0)
    params, stats = jax.jit(network.init)(jax.random.key(0), x[:1])
    return network, params, stats, x


def value_and_grad(network, params, stats, x):
    """Differentiate a projection of the last output; return statistics, too."""

    def loss(params):
        outputs, moved = network.apply(
            params, stats, x, train=True, key=jax.random.key(3)
        )
        y = outputs[list(outputs)[-1]].reshape(len(x), -1)
        weights = jax.random.normal(jax.random.key(2), y.shape)
        return (y * weights).mean(), (outputs, moved)

    return jax.value_and_grad(loss, has_aux=True)(params)


@functools.cache
def exact(name):
    network, *rest = example(name)
    return jax.jit(functools.partial(value_and_grad, network))(*rest)


def flat(tree):
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree)])


@EACH
def test_bfloat16_keeps_high_what_must_be_and_its_gradients_are_close(name):
    network, params, stats, x = example(name)
    low = compute_in(network, "bfloat16")
    step = jax.jit(functools.partial(value_and_grad, low)).lower(params, stats, x)
    (value, (outputs, moved)), grads = step.compile()(params, stats, x)
    for leaf in jax.tree.leaves((value, outputs, moved, grads)):
        assert leaf.dtype == jnp.float32
    (_, (plain, plain_moved)), plain_grads = exact(name)
    # It did compute low, and in the convolutions or products of the middle.
    assert "bf16" in step.as_text()
    assert np.any(flat(outputs) != flat(plain))
    for a, b in zip(*map(jax.tree.leaves, (moved, plain_moved)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05 * np.abs(b).max())
    a, b = flat(grads), flat(plain_grads)
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert cosine > COSINE, cosine
    np.testing.assert_allclose(np.linalg.norm(a), np.linalg.norm(b), rtol=0.05)
    assert network.init is low.init


@EACH
def test_rematerialized_networks_give_the_same_values_and_gradients(name):
    network, params, stats, x = example(name)
    again = rematerialized(network)
    step = jax.jit(functools.partial(value_and_grad, again))
    found, plain = step(params, stats, x), exact(name)
    for a, b in zip(*map(jax.tree.leaves, (found, plain)), strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * scale)


def test_both_together_and_inference():
    network, params, stats, x = example("alexnet")
    both = rematerialized(compute_in(network, "bfloat16"))
    low = compute_in(network, "bfloat16")
    for train in (False, True):
        a, b = (
            jax.jit(lambda x, n=n, t=train: n.apply(params, stats, x, train=t))(x)
            for n in (both, low)
        )
        for left, right in zip(*map(jax.tree.leaves, (a, b)), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-2, atol=1e-3)


def kept_bytes(network, shape):
    """Count what the forward pass keeps for the backward pass, as JAX asks for it.

    Compiled memory says nothing here: XLA merges the second computation with the first
    on CPU (docs/pods.md has what it does elsewhere).
    """
    params, stats = jax.eval_shape(network.init, jax.random.key(0), shape)

    def pull_back(params, stats, x):
        def outputs(params):
            return network.apply(params, stats, x, train=True)[0]["logits"]

        return jax.vjp(outputs, params)[1]

    kept = jax.eval_shape(pull_back, params, stats, shape)
    sizes = {id(x): x.size * x.dtype.itemsize for x in jax.tree.leaves(kept)}
    return sum(sizes.values())


def test_less_is_kept_for_the_backward_pass():
    network = resnet(18, 10, stem="small", width=16)
    shape = jax.ShapeDtypeStruct((64, 32, 32, 3), jnp.float32)
    low = compute_in(network, "bfloat16")
    plain, again, half, both = (
        kept_bytes(n, shape)
        for n in (network, rematerialized(network), low, rematerialized(low))
    )
    assert again < 0.5 * plain
    assert half < 0.8 * plain
    assert both < 0.6 * again


def test_bilevel_learning_compares_gradients_in_float32():
    network, params, stats, x = example("mlp_plain")
    low = compute_in(network, "bfloat16")

    def loss(params, rows):
        outputs, _ = low.apply(params, stats, rows, train=True, key=jax.random.key(3))
        return jnp.square(outputs["logits"]).mean()

    parts = x.reshape(4, 2, *x.shape[1:])
    step = bilevel.value_and_grad(loss, k=4, lam=1.0, mu=0.01)
    _, gradient, info = jax.jit(step)(params, parts)
    for leaf in jax.tree.leaves((gradient, info.weights)):
        assert leaf.dtype == jnp.float32
    # Eq. 8.10 from inner products in NumPy's float64: bfloat16 would be off by 1e-2.
    take = jax.jit(jax.grad(loss))
    grads = [np.float64(flat(take(params, part))) for part in parts]
    dots, squares = (
        jnp.asarray([g @ other for g, other in pairs], jnp.float32)
        for pairs in ([(g, grads[0]) for g in grads[1:]], [(g, g) for g in grads[1:]])
    )
    expected, _ = bilevel.solve_weights(dots, squares, lam=1.0, mu=0.01)
    np.testing.assert_allclose(info.weights, expected, rtol=1e-3, atol=1e-5)
