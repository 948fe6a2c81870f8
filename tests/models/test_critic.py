"""Critic: parameter counts, spectral norms against the SVD, the power iterate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.models import layers
from jaxssl.models.critic import critic


@pytest.fixture(scope="module")
def small(fill, images):
    network = critic(depth=8)
    x = images(4, 12, 12, 6)
    return network, *fill(network, x), x


@pytest.mark.parametrize(
    ("num_stages", "size", "expected"), [(3, 48, 700_673), (4, 64, 2_929_921)]
)
def test_parameter_counts(abstract, num_stages, size, expected):
    params, outputs = abstract(critic(num_stages=num_stages), 2, size, size, 6)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    assert outputs["logits"].shape == (2,)


@pytest.mark.parametrize("channels", [3, 6])
def test_single_patches_and_pairs(abstract, channels):
    params, outputs = abstract(critic(), 3, 10, 14, channels)
    assert params["stage1_conv"]["kernel"].shape == (3, 3, channels, 64)
    assert outputs["logits"].shape == (3,)


@functools.cache
def training_pass(network):
    return jax.jit(functools.partial(network.apply, train=True))


def advance(network, params, stats, x, passes):
    for _ in range(passes):
        _, stats = training_pass(network)(params, stats, x)
    return stats


def test_normalised_kernels_have_the_spectral_norm_of_the_svd(small):
    network, params, stats, x = small
    stats = advance(network, params, stats, x, 300)
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"], np.float64)
        largest = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
        found, _ = layers.spectral_normalize(layer["kernel"], stats[name]["u"])
        np.testing.assert_allclose(found, kernel / largest, rtol=2e-3, atol=1e-5)


def test_gradient_through_the_norm_is_that_of_the_svd():
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 2, 5))
    weights = jax.random.normal(jax.random.key(1), kernel.shape)
    u = jnp.ones(5)
    u = jax.lax.fori_loop(
        0, 100, lambda _, u: layers.spectral_normalize(kernel, u)[1], u
    )

    def ours(kernel):
        return (layers.spectral_normalize(kernel, u)[0] * weights).sum()

    def reference(kernel):
        sigma = jnp.linalg.svd(kernel.reshape(-1, 5), compute_uv=False)[0]
        return (kernel / sigma * weights).sum()

    np.testing.assert_allclose(
        jax.grad(ours)(kernel), jax.grad(reference)(kernel), rtol=1e-4, atol=1e-5
    )


def test_iterate_moves_once_a_training_pass_and_depends_on_weights_alone(small):
    network, params, stats, x = small
    once = advance(network, params, stats, x, 1)
    other = advance(network, params, stats, -2 * x[:2], 1)
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [
        bool(jnp.any(a != b))
        for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(stats), strict=True)
        if a.size > 1
    ]
    assert all(moved)
    trained, _ = training_pass(network)(params, stats, x)
    inference, _ = jax.jit(functools.partial(network.apply, train=False))(
        params, stats, x
    )
    np.testing.assert_allclose(trained["logits"], inference["logits"], rtol=1e-5)


def test_scores_add_up_over_places(small):
    """Sum pooling: a score grows with the area, minus the bias, for a flat image."""
    network, params, stats, _ = small
    score = jax.jit(lambda x: network.apply(params, stats, x, train=False)[0]["logits"])
    one, two, three = (score(jnp.full((1, 16, w, 6), 0.3)) for w in (32, 64, 96))
    bias = params["logits"]["bias"]
    assert bool(jnp.abs(one - bias) > 0)
    np.testing.assert_allclose(three - two, two - one, rtol=1e-3)
    np.testing.assert_allclose(two - bias, 2 * (one - bias), rtol=0.2)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="num_stages is 0"):
        critic(num_stages=0)
