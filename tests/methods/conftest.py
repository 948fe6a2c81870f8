"""A network of five endpoints that compiles in no time, and a batch of pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.types import Network

SHRINK = {"conv1": 1, "conv2": 2, "conv3": 2, "conv4": 1, "conv5": 1}


def make_network(num_classes: int | None) -> Network:
    """1x1 convolutions of 4 channels with a running mean; 16 px -> 16, 8, 4, 4, 4."""

    def init(key, x):
        names = [*SHRINK] + (["logits"] if num_classes else [])
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        params = {
            endpoint: jax.random.normal(keys[endpoint], (4, 4)) for endpoint in SHRINK
        }
        params["conv1"] = params["conv1"][:3]
        if num_classes:
            width = x.shape[1] * x.shape[2] // 4
            params["logits"] = 0.1 * jax.random.normal(
                keys["logits"], (width, num_classes)
            )
        return params, {endpoint: jnp.zeros((4,)) for endpoint in SHRINK}

    def apply(params, stats, x, *, train, key=None):
        outputs, new_stats = {}, {}
        for endpoint, step in SHRINK.items():
            x = jax.nn.relu(x[:, ::step, ::step] @ params[endpoint])
            mean = x.mean(axis=(0, 1, 2)) if train else stats[endpoint]
            new_stats[endpoint] = 0.5 * stats[endpoint] + 0.5 * mean if train else mean
            x = outputs[endpoint] = x - mean[None, None, None]
        if num_classes:
            outputs["logits"] = x.reshape(len(x), -1) @ params["logits"]
        return outputs, new_stats

    return Network(init, apply)


@pytest.fixture
def network():
    """Return the maker of the stand-in, by number of classes."""
    return make_network


@pytest.fixture
def batch() -> dict[str, jax.Array]:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 19, 20, 3))
    return {
        "image": jnp.asarray(pixels, jnp.uint8),
        "label": jnp.arange(12) % 3,
        "id": jnp.arange(100, 112),
    }


@pytest.fixture
def coloured(batch) -> dict[str, jax.Array]:
    """Return the batch with images whose colour is their class."""
    colours = 60 + 140 * jax.nn.one_hot(batch["label"], 3)
    image = jnp.broadcast_to(colours[:, None, None], batch["image"].shape)
    return batch | {"image": image.astype(jnp.uint8)}
