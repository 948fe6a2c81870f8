"""The shared losses against the same formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import losses


def test_critic_hinge_is_flat_beyond_its_margins():
    real, fake = np.array([2.0, 0.25, -1.0]), np.array([-3.0, -0.5, 1.0])
    expected = np.mean([0, 0.75, 2]) + np.mean([0, 0.5, 2])
    got = losses.critic_hinge(jnp.asarray(real), jnp.asarray(fake))
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    by_real, by_fake = jax.grad(losses.critic_hinge, argnums=(0, 1))(
        jnp.asarray(real), jnp.asarray(fake)
    )
    np.testing.assert_allclose(by_real, [0, -1 / 3, -1 / 3], rtol=1e-6)
    np.testing.assert_allclose(by_fake, [0, 1 / 3, 1 / 3], rtol=1e-6)


def test_cross_entropy_is_the_mean_of_minus_log_softmax():
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 1, 0])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(p[np.arange(5), labels]).mean()
    got = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_accuracy_counts_the_largest_logit():
    logits = jnp.asarray([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert losses.accuracy(logits, jnp.asarray([1, 1, 1])) == np.float32(2 / 3)


def test_rows_without_a_label_are_left_out_of_losses_and_accuracies():
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(7, 3)), jnp.float32)
    labels = jnp.array([0, -1, 2, 1, -1, 1, -1])
    left = np.flatnonzero(labels >= 0)
    for measure in (losses.cross_entropy, losses.accuracy):
        want = measure(logits[left], labels[left])
        np.testing.assert_allclose(measure(logits, labels), want, rtol=1e-6)
        assert measure(logits, jnp.full(7, -1)) == 0
    targets = 0.9 * jax.nn.one_hot(labels, 3) + 0.1 / 3 * (labels >= 0)[:, None]
    want, slope = jax.value_and_grad(losses.soft_cross_entropy)(
        logits[left], targets[left]
    )
    got, slopes = jax.value_and_grad(losses.soft_cross_entropy)(logits, targets)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(slopes[left], slope, rtol=1e-5)
    assert not slopes[labels < 0].any()
