"""A network small enough to be computed by hand, and some pictures."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import ArraySource, image_source
from jaxssl.types import TrainState


class Tiny(NamedTuple):
    """A state and predict_fns: one 1x1 convolution, seen at two resolutions."""

    state: TrainState
    predict_fns: dict


@pytest.fixture
def tiny() -> Tiny:
    kernel = jax.random.normal(jax.random.key(3), (3, 5))
    state = TrainState(
        jnp.zeros((), jnp.int32),
        {"classifier": {"kernel": kernel}},
        {"classifier": {"mean": jnp.zeros((5,))}},
        {"classifier": ()},
    )

    def features(state, images):
        x = images.astype(jnp.float32) / 255
        maps = jax.nn.relu(x @ state.params["classifier"]["kernel"])
        return {"conv1": maps, "conv2": maps[:, ::2, ::2]}

    def pretext(state, batch, key):
        turned = [jnp.rot90(batch["image"], k, axes=(1, 2)) for k in range(4)]
        images = jnp.stack(turned, axis=1)
        left = images[:, :, :, 0].astype(jnp.float32).mean(axis=(2, 3))
        right = images[:, :, :, -1].astype(jnp.float32).mean(axis=(2, 3))
        top = images[:, :, 0].astype(jnp.float32).mean(axis=(2, 3))
        bottom = images[:, :, -1].astype(jnp.float32).mean(axis=(2, 3))
        return {"image": images, "logits": jnp.stack([top, left, bottom, right], -1)}

    return Tiny(state, {"features": features, "pretext": pretext})


def pictures(count: int, *, seed: int, side: int = 9) -> ArraySource:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 120, (count, side, side, 3))
    images[np.arange(count), :, :, labels] += 100  # The class is the brighter colour.
    names = ("red", "green", "blue")
    return image_source(images.astype(np.uint8), labels, class_names=names)


@pytest.fixture
def train_set() -> ArraySource:
    return pictures(46, seed=0)


@pytest.fixture
def test_set() -> ArraySource:
    return pictures(23, seed=1)


def noisy(source: ArraySource) -> tuple[ArraySource, np.ndarray]:
    """Make every third label wrong; return the source and the labels."""
    labels = source.arrays["label"].copy()
    labels[::3] = (labels[::3] + 1) % 3
    extras = {"true_label": source.arrays["label"]}
    return image_source(source.arrays["image"], labels, extras=extras), labels


def colour_logits(state, images):
    """Name the strongest colour, which is the true class of these images."""
    return images.astype(jnp.float32).mean(axis=(1, 2))
