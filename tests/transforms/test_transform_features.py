"""Damage to feature maps against loops over cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxssl import transforms as T  # noqa: N812


def _features(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _average_of_cells(features: np.ndarray, size: int) -> np.ndarray:
    """Average what lies on the map, cell by cell."""
    rows, columns = features.shape[:2]
    out, reach = np.zeros_like(features), size // 2
    for i, j in np.ndindex(rows, columns):
        window = features[
            max(i - reach, 0) : min(i + reach, rows - 1) + 1,
            max(j - reach, 0) : min(j + reach, columns - 1) + 1,
        ]
        out[i, j] = window.mean(axis=(0, 1))
    return out


@pytest.mark.parametrize("size", [1, 3, 5, 99])
def test_local_average_is_the_mean_of_the_cells_on_the_map(size) -> None:
    features = _features(0, (2, 6, 5, 4))
    got = T.local_average(jnp.array(features), size=size)
    for one, given in zip(got, features, strict=True):
        np.testing.assert_allclose(one, _average_of_cells(given, size), atol=1e-6)


def test_inside_the_rim_it_is_scipys_box_filter() -> None:
    features = _features(1, (9, 8, 3))
    got = T.local_average(jnp.array(features), size=5)
    box = ndimage.uniform_filter(features, (5, 5, 1))
    np.testing.assert_allclose(got[2:-2, 2:-2], box[2:-2, 2:-2], atol=1e-6)


def test_the_rim_is_not_darkened_and_a_large_window_is_the_global_average() -> None:
    ones = jnp.ones((5, 7, 2))
    for size in (3, 7, 13):
        np.testing.assert_allclose(T.local_average(ones, size=size), 1, atol=1e-6)
    features = jnp.array(_features(2, (5, 7, 2)))
    spread = np.broadcast_to(features.mean(axis=(0, 1)), (5, 7, 2))
    np.testing.assert_allclose(T.local_average(features, size=13), spread, atol=1e-6)


def test_damage_keeps_cells_bit_by_bit_and_averages_undamaged_neighbours() -> None:
    features = _features(3, (2, 6, 6, 4))
    mask = np.asarray(T.drop_mask(jax.random.key(4), 6, 0.3))
    assert 0 < mask.mean() < 1
    got = np.asarray(T.damage(jnp.array(features), jnp.array(mask)))
    np.testing.assert_array_equal(got[:, mask], features[:, mask])
    for one, given in zip(got, features, strict=True):
        average = _average_of_cells(given, 3)
        np.testing.assert_allclose(one[~mask], average[~mask], atol=1e-6)


def test_bfloat16_is_averaged_in_float32() -> None:
    features = jnp.array(_features(5, (8, 8, 16))).astype(jnp.bfloat16)
    got = T.local_average(features, size=15)
    exact = T.local_average(features.astype(jnp.float32), size=15)
    np.testing.assert_array_equal(got, exact.astype(jnp.bfloat16))


def test_cells_are_kept_independently_with_the_probability() -> None:
    keys = jax.random.split(jax.random.key(6), 10_000)
    draw = jax.jit(
        jax.vmap(lambda key, keep: T.drop_mask(key, (2, 2), keep), (0, None))
    )
    masks = np.asarray(draw(keys, 0.3)).reshape(-1, 4)
    states = masks @ np.array([1, 2, 4, 8])
    kept = np.array([bin(state).count("1") for state in range(16)])
    expected = 10_000 * 0.3**kept * 0.7 ** (4 - kept)
    assert stats.chisquare(np.bincount(states, minlength=16), expected).pvalue > 1e-4
    assert not draw(keys, 0.0).any()
    assert draw(keys, 1.0).all()


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_upsampling_repeats_each_cell(factor) -> None:
    mask = np.random.default_rng(7).uniform(size=(3, 4, 5)) < 0.5
    expected = np.repeat(np.repeat(mask, factor, axis=1), factor, axis=2)
    np.testing.assert_array_equal(T.upsample_mask(jnp.array(mask), factor), expected)
