"""What depends on the task lies in the head that a network declares."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxssl.models.alexnet import alexnet, original_alexnet
from jaxssl.models.cifarnet import cifarnet
from jaxssl.models.convnet import convnet
from jaxssl.models.inception import inception
from jaxssl.models.mlp import mlp
from jaxssl.models.preact_resnet import preact_resnet18
from jaxssl.models.resnet import resnet


@functools.cache
def layers(make, num_classes, side):
    """Return the shapes of parameters and statistics by layer."""
    network = make(num_classes)
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    trees = jax.eval_shape(network.init, jax.random.key(0), x)
    names = set().union(*trees)
    return {n: [jax.tree.map(jnp.shape, tree.get(n)) for tree in trees] for n in names}


@pytest.mark.parametrize(
    ("make", "sides"),
    [
        (alexnet, (32, 64)),
        (original_alexnet, (99, 131)),
        (cifarnet, (16, 24)),
        (convnet, (32, 24)),
        (inception, (32, 29)),
        (preact_resnet18, (32, 24)),
        (lambda k: resnet(18, k, stem="small"), (16, 24)),
        (mlp, (32, 32)),  # Its first layer sees all pixels.
    ],
    ids=[
        *("alexnet", "original_alexnet", "cifarnet", "convnet", "inception"),
        *("preact_resnet18", "resnet18", "mlp"),
    ],
)
def test_classes_and_image_size_change_the_head_alone(make, sides):
    one, other = (layers(make, k, s) for k, s in zip((3, 5), sides, strict=True))
    head = set(make(3).head)
    assert {name for name in one if one[name] != other[name]} <= head
    assert one["logits"] != other["logits"]
    assert head <= set(one)


@pytest.mark.parametrize("make", [alexnet, convnet, inception, preact_resnet18, mlp])
def test_a_trunk_is_the_network_without_its_head(make):
    head = make(3).head
    assert make(None).head == head
    kept = layers(make, 3, 32).items()
    assert layers(make, None, 32) == {n: s for n, s in kept if n not in head}
