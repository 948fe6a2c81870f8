"""Tiles and permutations against loops, and their inverses."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

GRID = (3, 2)


def _image(seed: int, shape: tuple[int, ...] = (9, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_tiles_are_slices_and_untile_undoes_them(lead) -> None:
    image = _image(0, (*lead, 9, 8, 3))
    tiles = T.tile(jnp.array(image), grid=GRID)
    assert tiles.shape == (*lead, 6, 3, 4, 3)
    for row, column in np.ndindex(3, 2):
        expected = image[..., 3 * row : 3 * row + 3, 4 * column : 4 * column + 4, :]
        np.testing.assert_array_equal(tiles[..., 2 * row + column, :, :, :], expected)
    np.testing.assert_array_equal(T.untile(tiles, grid=GRID), image)


def test_jigsaw_moves_tiles_and_its_inverse_puts_them_back() -> None:
    image = _image(1)
    shuffled, params = T.random_jigsaw(jax.random.key(2), jnp.array(image), grid=GRID)
    order = np.asarray(params.permutation)
    assert sorted(order) == list(range(6))
    for place, source in enumerate(order):
        (y, x), (v, u) = divmod(place, 2), divmod(int(source), 2)
        np.testing.assert_array_equal(
            shuffled[3 * y : 3 * y + 3, 4 * x : 4 * x + 4],
            image[3 * v : 3 * v + 3, 4 * u : 4 * u + 4],
        )
    back = T.jigsaw(shuffled, jnp.argsort(params.permutation), grid=GRID)
    np.testing.assert_array_equal(back, image)


def test_pixel_permutation_moves_pixels_and_its_inverse_puts_them_back() -> None:
    image = _image(3)
    shuffled, params = T.random_pixel_permutation(jax.random.key(4), jnp.array(image))
    order = np.asarray(params.permutation)
    assert (order != np.arange(72)).sum() > 60
    flat = [image[source // 8, source % 8] for source in order]
    np.testing.assert_array_equal(np.reshape(shuffled, (72, 3)), flat)
    back = T.pixel_permutation(shuffled, jnp.argsort(params.permutation))
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize(
    "draw",
    [
        functools.partial(T.jigsaw_params, grid=(2, 2)),
        functools.partial(T.pixel_permutation_params, size=(1, 4)),
    ],
)
def test_every_order_is_as_likely(draw) -> None:
    keys = jax.random.split(jax.random.key(5), 10_000)
    drawn = np.asarray(jax.jit(jax.vmap(draw))(keys).permutation)
    orders = np.array(list(itertools.permutations(range(4))))
    counts = (drawn[:, None] == orders[None]).all(axis=-1).sum(axis=0)
    assert counts.sum() == 10_000
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(
    "shuffle",
    [functools.partial(T.random_jigsaw, grid=GRID), T.random_pixel_permutation],
)
def test_ids_fix_the_order_of_an_image(shuffle) -> None:
    """The same in every epoch, batch and place, and another for each image."""
    images, ids = jnp.array(_image(6, (5, 9, 8, 3))), jnp.array([12, 7, 0, 99, 3])
    batch = jax.jit(T.batched(shuffle))
    first, orders = batch(jax.random.key(7), images, ids)
    again, _ = batch(jax.random.key(7), images[::-1], ids[::-1])
    np.testing.assert_array_equal(again[::-1], first)
    alone, _ = batch(jax.random.key(7), images[3:4], ids[3:4])
    np.testing.assert_array_equal(alone[0], first[3])
    assert len(np.unique(np.asarray(orders.permutation), axis=0)) == 5
