"""Losses shared by methods: means over their inputs, in float32.

A label below 0 says that a row has none; such rows are left out of losses and of
accuracies. Where no row has a label, these are 0.
"""

import jax
import jax.numpy as jnp
import optax

from jaxssl.types import Array, Bool, Float, Int, Shaped


def cross_entropy(
    logits: Float[Array, "b k"], labels: Int[Array, " b"]
) -> Float[Array, ""]:
    """Return the mean softmax cross-entropy of the rows that have a label."""
    logits = logits.astype(jnp.float32)
    classes = jnp.maximum(labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
    return _mean_labelled(losses, labels >= 0)


def soft_cross_entropy(
    logits: Float[Array, "*b k"], probabilities: Float[Array, "*b k"]
) -> Float[Array, ""]:
    """Return the mean softmax cross-entropy with probabilities of the classes.

    A row of zeros has no label, and is left out.
    """
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), probabilities)
    return _mean_labelled(losses, probabilities.any(axis=-1))


def attribute_cross_entropy(
    logits: Float[Array, "*b k"], labels: Shaped[Array, "*b k"]
) -> Float[Array, ""]:
    """Return the mean sigmoid cross-entropy with labels in [0, 1] by attribute."""
    logits = logits.astype(jnp.float32)
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()


def critic_hinge(
    real: Float[Array, " b"], fake: Float[Array, " b"]
) -> Float[Array, ""]:
    """Return the critic's hinge loss, mean relu(1 - real) + mean relu(1 + fake).

    References:
      Lim and Ye, "Geometric GAN", 2017 (thesis reference 140).
    """
    return jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean()


def masked_mse(
    x: Float[Array, "b h w c"],
    target: Float[Array, "b h w c"],
    mask: Bool[Array, "h w"],
) -> Float[Array, ""]:
    """Return the mean squared error over the pixels where ``mask`` is true."""
    weight = mask[None, :, :, None].astype(x.dtype)
    count = mask.sum() * x.shape[0] * x.shape[-1]
    return (jnp.square(x - target) * weight).sum() / count


def accuracy(
    logits: Float[Array, "*b k"], labels: Int[Array, "*b"]
) -> Float[Array, ""]:
    """Return the share of labelled rows whose largest logit is the label's."""
    right = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
    return _mean_labelled(right, labels >= 0)


def attribute_accuracy(
    logits: Float[Array, "*b k"], labels: Int[Array, "*b k"]
) -> Float[Array, ""]:
    """Return the share of 0/1 labels on the right side of a logit of 0."""
    return ((logits > 0) == (labels > 0)).mean(dtype=jnp.float32)


def _mean_labelled(
    values: Float[Array, "*b"], labelled: Bool[Array, "*b"]
) -> Float[Array, ""]:
    count = jnp.maximum(labelled.sum(), 1)
    return jnp.where(labelled, values, 0).sum() / count
