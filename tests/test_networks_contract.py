"""What every Network keeps; a new one joins by one line in ``tests/networks.py``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.models.network import compute_in, rematerialized
from tests.networks import NETWORKS

BATCH = 4

LARGE = ("inception", "resnet50")
"""They compile for long; ``resnet18`` and ``preact_resnet18`` have what they have."""


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.slow if name in LARGE else ())
        for name in sorted(NETWORKS)
    ],
    scope="module",
)
def built(request):
    """One initialised network, and a batch for it."""
    network, shape = NETWORKS[request.param]()
    x = jax.random.uniform(jax.random.key(1), (BATCH, *shape), minval=-1.0)
    params, stats = jax.jit(network.init)(jax.random.key(0), x[:1])
    return network, params, stats, x


@pytest.fixture(scope="module")
def trained(built):
    """Outputs and statistics of a training pass, and the gradient of a loss."""
    network, params, stats, x = built
    weights = jax.random.normal(jax.random.key(2), (16,))

    def loss(p, stats, x):
        found = network.apply(p, stats, x, train=True, key=jax.random.key(3))
        y = list(found[0].values())[-1].reshape(BATCH, -1)
        return (jnp.square(y) * weights[:BATCH, None]).sum() + (y**3).mean(), found

    grads, found = jax.jit(jax.grad(loss, has_aux=True))(params, stats, x)
    return *found, grads


@pytest.fixture(scope="module")
def inferred(built):
    """Inference, compiled once."""
    network, params, stats, _ = built
    apply = jax.jit(lambda p, s, x: network.apply(p, s, x, train=False))
    return lambda x: apply(params, stats, x)


def test_parameters_and_outputs_are_finite_float32(built, trained):
    _, params, stats, _ = built
    outputs, *_ = trained
    for leaf in jax.tree.leaves((params, stats)):
        assert leaf.dtype == jnp.float32
    for name, value in outputs.items():
        assert value.shape[0] == BATCH, name
        assert value.dtype == jnp.float32, name
        assert bool(jnp.isfinite(value).all()), name


def test_inference_leaves_statistics_alone_and_training_keeps_their_shape(
    built, trained, inferred
):
    _, _, stats, x = built
    _, same = inferred(x)
    jax.tree.map(np.testing.assert_array_equal, same, stats)
    _, moved, _ = trained
    assert jax.tree.structure(moved) == jax.tree.structure(stats)
    if jax.tree.leaves(stats):
        changed = jax.tree.map(lambda a, b: bool((a != b).any()), moved, stats)
        assert any(jax.tree.leaves(changed))


def test_inference_of_a_sample_does_not_depend_on_the_batch(built, inferred):
    *_, x = built
    whole, _ = inferred(x)
    others, _ = inferred(x.at[2:].set(-0.5 * x[2:]))
    for name in whole:
        scale = float(jnp.abs(whole[name]).max())
        np.testing.assert_allclose(
            whole[name][:2],
            others[name][:2],
            rtol=1e-4,
            atol=1e-5 * scale,
            err_msg=name,
        )
        assert bool((whole[name][2:] != others[name][2:]).any()), name


def test_every_parameter_gets_a_finite_gradient(trained):
    *_, grads = trained
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
