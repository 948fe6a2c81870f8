"""Flips, quarter turns, crops, rotations against NumPy and SciPy."""

import inspect
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxssl import transforms as T  # noqa: N812


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(4, 6, 3), (2, 5, 3, 1), (1, 1, 2)])
def test_flips_match_numpy(shape: tuple[int, ...]) -> None:
    image = _image(0, shape)
    for on in (True, False):
        for flip in (on, jnp.array(on)):
            across = np.flip(image, -2) if on else image
            down = np.flip(image, -3) if on else image
            np.testing.assert_array_equal(T.hflip(jnp.array(image), flip), across)
            np.testing.assert_array_equal(T.vflip(jnp.array(image), flip), down)


@pytest.mark.parametrize("random", [T.random_hflip, T.random_vflip, T.random_rot90])
def test_moved_pixels_are_written_once(random) -> None:
    """No transposed image and no copy of it, which cost 5 times as much on a CPU."""
    images = jax.ShapeDtypeStruct((5, 16, 16, 3), jnp.float32)
    program = jax.jit(T.batched(random)).lower(jax.random.key(0), images).compile()
    text = program.as_text()
    layouts = set(re.findall(r"f32\[5,16,16,3\]\{([\d,]+)", text))
    assert layouts == {"3,2,1,0"}
    assert len(re.findall(r"f32\S* gather\(", text)) == 1
    assert not re.search(r"f32\[5,[\d,]+\]\S* (?:copy|transpose)\(", text)


@pytest.mark.parametrize("k", range(-5, 6))
@pytest.mark.parametrize("side", [1, 4, 5])
def test_rot90_matches_numpy(k: int, side: int) -> None:
    image = np.arange(2 * side * side * 3).reshape(2, side, side, 3).astype(np.uint8)
    expected = np.rot90(image, k, axes=(1, 2))
    np.testing.assert_array_equal(T.rot90(jnp.array(image), k), expected)
    np.testing.assert_array_equal(T.rot90(jnp.array(image), jnp.array(k)), expected)


@pytest.mark.parametrize("k", range(5))
def test_static_rot90_takes_any_shape(k: int) -> None:
    image = _image(1, (4, 7, 3))
    turned = np.rot90(image, k)
    np.testing.assert_array_equal(T.rot90(jnp.array(image), k), turned)
    chained = T.geometric_chain(jnp.array(image), [T.rot90_coords(k)])
    np.testing.assert_array_equal(chained, turned)


def test_four_quarter_turns_are_none() -> None:
    image = jnp.array(_image(2, (5, 5, 3)))
    turned = image
    for _ in range(4):
        turned = T.rot90(turned, jnp.array(1))
    np.testing.assert_array_equal(turned, image)


def test_flipping_twice_is_nothing() -> None:
    image = jnp.array(_image(3, (5, 6, 3)))
    for flip in (T.hflip, T.vflip):
        np.testing.assert_array_equal(flip(flip(image)), image)


def test_all_rotations_stacks_the_four() -> None:
    image = _image(4, (2, 5, 5, 3))
    stacked = T.all_rotations(jnp.array(image))
    assert stacked.shape == (2, 4, 5, 5, 3)
    for k in range(4):
        expected = np.rot90(image, k, axes=(1, 2))
        np.testing.assert_array_equal(stacked[:, k], expected)


@pytest.mark.parametrize("top_left", [(0, 0), (3, 1), (4, 3)])
def test_crop_matches_slicing(top_left: tuple[int, int]) -> None:
    image = _image(5, (2, 9, 8, 3))
    y, x = top_left
    expected = image[:, y : y + 5, x : x + 5]
    for given in (top_left, jnp.array(top_left)):
        np.testing.assert_array_equal(T.crop(jnp.array(image), given, 5), expected)


def test_traced_crop_is_moved_into_the_image() -> None:
    image = jnp.array(_image(6, (6, 7, 1)))
    far = jnp.array([99, -99])
    np.testing.assert_array_equal(T.crop(image, far, (2, 3)), image[4:, :3])


def test_each_place_of_a_crop_may_be_traced_alone() -> None:
    image = jnp.array(_image(6, (9, 8, 3)))
    across = jax.jit(lambda x: T.crop(image, (2, x), (4, 3)))
    np.testing.assert_array_equal(across(4), image[2:6, 4:7])
    np.testing.assert_array_equal(across(9), image[2:6, 5:8])
    sampled = jax.jit(lambda y: T.geometric_chain(image, [T.crop_coords((y, 1), 4)]))
    np.testing.assert_array_equal(sampled(3.0), image[3:7, 1:5])


def test_numpy_numbers_are_static_too() -> None:
    """And so cost no gather."""
    image = jnp.array(_image(7, (5, 6, 3)))
    for flip in (np.bool_(True), np.array(True)):
        program = jax.make_jaxpr(lambda x, flip=flip: inspect.unwrap(T.hflip)(x, flip))
        assert "gather" not in str(program(image))
        np.testing.assert_array_equal(
            inspect.unwrap(T.hflip)(image, flip), image[:, ::-1]
        )


@pytest.mark.parametrize("k", range(4))
@pytest.mark.parametrize("side", [6, 7])
def test_rotate_turns_as_rot90(k: int, side: int) -> None:
    image = _image(7, (side, side, 2))
    turned = T.rotate(jnp.array(image), k * math.pi / 2)
    np.testing.assert_allclose(turned, np.rot90(image, k), atol=1e-5)


@pytest.mark.parametrize("angle", [-2.0, -0.2, 0.15, 1.0])
@pytest.mark.parametrize("shape", [(16, 16, 3), (11, 18, 1)])
def test_rotate_matches_scipy(angle: float, shape: tuple[int, ...]) -> None:
    image = _image(8, shape)
    for border, mode in (("edge", "nearest"), ("reflect", "mirror")):
        expected = ndimage.rotate(
            image, math.degrees(angle), reshape=False, order=1, mode=mode
        )
        turned = T.rotate(jnp.array(image), jnp.array(angle), border=border)
        np.testing.assert_allclose(turned, expected, atol=1e-4)


# --- What is drawn


def _keys(count: int) -> jax.Array:
    return jax.random.split(jax.random.key(7), count)


def test_flip_probability() -> None:
    for sample in (T.hflip_params, T.vflip_params):
        for prob in (0.0, 0.3, 1.0):
            draw = jax.vmap(lambda key, p=prob, sample=sample: sample(key, prob=p))
            flips = np.asarray(draw(_keys(10_000)).flip)
            assert flips.dtype == bool
            assert stats.binomtest(int(flips.sum()), 10_000, prob).pvalue > 1e-3


def test_quarter_turns_are_uniform() -> None:
    k = np.asarray(jax.vmap(T.rot90_params)(_keys(10_000)).k)
    assert k.dtype == np.int32
    counts = np.bincount(k, minlength=4)
    assert len(counts) == 4
    assert stats.chisquare(counts).pvalue > 1e-3


def test_angles_are_uniform() -> None:
    for options, limit in (({}, 0.07 * math.pi), ({"max_angle": 0.5}, 0.5)):
        draw = jax.vmap(lambda key, options=options: T.rotate_params(key, **options))
        angles = np.asarray(draw(_keys(10_000)).angle)
        uniform = stats.uniform(-limit, 2 * limit)
        assert np.abs(angles).max() <= limit
        assert stats.kstest(angles, uniform.cdf).pvalue > 1e-3


def test_every_place_of_a_crop_is_equally_likely() -> None:
    """The last row and column count too, and both axes have their own range."""
    draw = jax.vmap(lambda key: T.crop_params(key, image_size=(7, 5), size=(4, 2)))
    places = np.asarray(draw(_keys(10_000)).top_left)
    counts = [
        int((places == place).all(axis=1).sum())
        for place in itertools.product(range(4), range(4))
    ]
    assert sum(counts) == 10_000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_full_size_crop_has_one_place() -> None:
    image = jnp.array(_image(9, (4, 5, 1)))
    cropped, params = T.random_crop(jax.random.key(0), image, size=(4, 5))
    assert params.top_left.tolist() == [0, 0]
    np.testing.assert_array_equal(cropped, image)
