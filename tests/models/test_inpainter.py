"""Inpainter: parameter counts, sizes, range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.models.inpainter import inpainter


@pytest.mark.parametrize(
    ("num_layers", "size", "expected"), [(4, 48, 3_101_235), (5, 64, 9_394_483)]
)
def test_parameter_counts_and_size_of_the_image(abstract, num_layers, size, expected):
    params, outputs = abstract(inpainter(num_layers=num_layers), 2, size, size, 3)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
    assert outputs["image"].shape == (2, size, size, 3)


@pytest.mark.parametrize(("num_layers", "size"), [(2, 10), (3, 20), (4, 24), (4, 56)])
def test_image_has_the_size_of_the_patch(abstract, num_layers, size):
    network = inpainter(depth=4, num_layers=num_layers)
    _, outputs = abstract(network, 2, size, size, 3)
    assert outputs["image"].shape == (2, size, size, 3)


def test_patches_that_do_not_divide_are_refused():
    network = inpainter(depth=4)
    x = jnp.zeros((1, 42, 42, 3))
    with pytest.raises(
        UserError, match=r"42 x 42; with num_layers=4 .* multiples of 8"
    ):
        network.init(jax.random.key(0), x)
    with pytest.raises(UserError, match="num_layers is 1"):
        inpainter(num_layers=1)


def test_image_stays_in_range_and_learns_a_constant(fill, images):
    network = inpainter(depth=8, num_layers=2)
    x = images(8, 8, 8, 3)
    params, stats = fill(network, x)

    def loss(params, stats):
        outputs, stats = network.apply(params, stats, x, train=True)
        return jnp.square(outputs["image"] - 0.5).mean(), (outputs["image"], stats)

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    first = None
    for _ in range(20):
        (value, (image, stats)), grads = step(params, stats)
        first = value if first is None else first
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert float(jnp.abs(image).max()) <= 1.0
    assert float(value) < 0.5 * float(first)


def test_every_input_pixel_reaches_the_middle_of_the_image(fill, images):
    network = inpainter(depth=4)
    x = images(1, 16, 16, 3)
    params, stats = fill(network, x)

    def middle(x):
        return network.apply(params, stats, x, train=False)[0]["image"][0, 8, 8].sum()

    seen = np.asarray(jnp.abs(jax.jit(jax.grad(middle))(x)).sum((0, 3)))
    assert (seen[1:-1, 1:-1] > 0).all()
