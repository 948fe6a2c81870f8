"""What every Network keeps; a new one joins by one line in ``tests/networks.py``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models.network import compute_in, rematerialized
from tests.networks import NETWORKS

BATCH = 4


@pytest.fixture(params=sorted(NETWORKS), scope="module")
def built(request):
    """One initialised network, a batch for it, and its compiled application."""
    network, shape = NETWORKS[request.param]()
    x = jax.random.uniform(jax.random.key(1), (BATCH, *shape), minval=-1.0)
    params, stats = jax.jit(network.init)(jax.random.key(0), x)

    def apply(params, stats, x, train):
        key = jax.random.key(3) if train else None
        return network.apply(params, stats, x, train=train, key=key)

    return network, params, stats, x, jax.jit(apply, static_argnums=3)


def test_parameters_and_outputs_are_finite_float32(built):
    _, params, stats, x, apply = built
    outputs, _ = apply(params, stats, x, True)
    for leaf in jax.tree.leaves((params, stats)):
        assert leaf.dtype == jnp.float32
    for name, value in outputs.items():
        assert value.shape[0] == BATCH, name
        assert value.dtype == jnp.float32, name
        assert bool(jnp.isfinite(value).all()), name


def test_inference_leaves_statistics_alone_and_training_keeps_their_shape(built):
    _, params, stats, x, apply = built
    _, same = apply(params, stats, x, False)
    jax.tree.map(np.testing.assert_array_equal, same, stats)
    _, moved = apply(params, stats, x, True)
    assert jax.tree.structure(moved) == jax.tree.structure(stats)
    if jax.tree.leaves(stats):
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), moved, stats)
        assert any(jax.tree.leaves(changed))


def test_inference_of_a_sample_does_not_depend_on_the_batch(built):
    _, params, stats, x, apply = built
    whole, _ = apply(params, stats, x, False)
    half, _ = apply(params, stats, x[:2], False)
    for name in whole:
        scale = float(jnp.abs(whole[name]).max())
        np.testing.assert_allclose(
            whole[name][:2], half[name], rtol=1e-4, atol=1e-5 * scale, err_msg=name
        )


def test_every_parameter_gets_a_finite_gradient(built):
    network, params, stats, x, _ = built
    weights = jax.random.normal(jax.random.key(2), (16,))

    def loss(p):
        outputs, _ = network.apply(p, stats, x, train=True, key=jax.random.key(3))
        last = list(outputs)[-1]
        y = outputs[last].reshape(BATCH, -1)
        return (jnp.square(y) * weights[:BATCH, None]).sum() + (y**3).mean()

    grads = jax.jit(jax.grad(loss))(params)
    for path, leaf in jax.tree.leaves_with_path(grads):
        assert bool(jnp.isfinite(leaf).all()), jax.tree_util.keystr(path)
        assert bool((leaf != 0).any()), jax.tree_util.keystr(path)


def test_the_head_is_what_the_network_has_or_what_a_trunk_lacks(built):
    network, params, *_ = built
    layers = set(network.head) & set(params)
    assert layers in (set(network.head), set())
    assert set(params) - layers
    for wrapped in (compute_in(network, jnp.bfloat16), rematerialized(network)):
        assert wrapped.head == network.head
        assert wrapped.init is network.init
