"""Backgrounds and poses against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import transforms as T  # noqa: N812

PAIRS = ((1, 4), (2, 5), (3, 6))


def _pixels(seed: int, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    values = np.random.default_rng(seed).uniform(size=shape)
    return (values * (255 if dtype == np.uint8 else 1)).astype(dtype)


@pytest.mark.parametrize("count", [1, 4, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_median_is_numpys_over_time(count, dtype) -> None:
    frames = _pixels(0, (2, count, 5, 6, 3), dtype)
    median = T.median_background(jnp.array(frames))
    expected = np.median(frames, axis=1)
    if dtype == np.uint8:
        expected = np.round(expected)
    assert median.dtype == dtype
    np.testing.assert_allclose(median, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.uint32])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_integers_of_any_size_are_exact(dtype, count) -> None:
    """Beyond what float32 holds, and at the ends of the range."""
    info, rng = np.iinfo(dtype), np.random.default_rng(count)
    frames = rng.integers(info.min, info.max, (count, 6, 7, 3), dtype, endpoint=True)
    frames[:, 0, 0] = info.min
    frames[::2, 0, 1], frames[1::2, 0, 1] = info.min, info.max
    ordered = np.sort(frames, axis=0).astype(np.int64)
    low, high = ordered[(count - 1) // 2], ordered[count // 2]
    total = low + high
    middle = total // 2 + ((total % 2) & (total // 2 % 2))
    np.testing.assert_array_equal(T.median_background(jnp.array(frames)), middle)
    image, wall = jnp.array(frames[0]), jnp.array(frames[1])
    apart = np.abs(frames[0].astype(np.int64) - frames[1].astype(np.int64)).max(-1)
    seen = T.foreground_mask(image, wall, threshold=100)
    np.testing.assert_array_equal(seen, apart > 100)
    shifted = jnp.array(frames[0] ^ 1)
    assert not T.foreground_mask(shifted, image, threshold=1).any()
    assert T.foreground_mask(shifted, image, threshold=0).all()


def test_a_traced_fill_is_rounded_into_the_range() -> None:
    image = jnp.full((2, 2, 1), 7, jnp.uint8)
    fill = jax.jit(lambda x: T.remove_background(image, image, threshold=1, fill=x))
    for given, expected in ((300.0, 255), (-2.0, 0), (6.6, 7), (300, 255)):
        assert (fill(given) == expected).all()


def test_a_passing_subject_leaves_no_trace_in_the_median() -> None:
    wall = _pixels(1, (8, 9, 3), np.uint8)
    frames = np.repeat(wall[None], 9, axis=0)
    for t in range(9):
        frames[t, 2:6, t : t + 1] = 255 - wall[2:6, t : t + 1]
    np.testing.assert_array_equal(T.median_background(jnp.array(frames)), wall)


@pytest.mark.parametrize(("dtype", "threshold"), [(np.uint8, 60), (np.float32, 0.3)])
def test_background_is_removed_and_substituted_pixel_by_pixel(dtype, threshold) -> None:
    images, wall = _pixels(2, (2, 6, 7, 3), dtype), _pixels(3, (6, 7, 3), dtype)
    other = _pixels(4, (6, 7, 3), dtype)
    removed, substituted = np.empty_like(images), np.empty_like(images)
    for n, y, x in np.ndindex(2, 6, 7):
        differs = [
            abs(float(a) - float(b)) > threshold
            for a, b in zip(images[n, y, x], wall[y, x], strict=True)
        ]
        removed[n, y, x] = images[n, y, x] if any(differs) else 1
        substituted[n, y, x] = images[n, y, x] if any(differs) else other[y, x]
    given, back = jnp.array(images), jnp.array(wall)
    got = T.remove_background(given, back, threshold=threshold, fill=1)
    np.testing.assert_array_equal(got, removed)
    got = T.substitute_background(given, back, jnp.array(other), threshold=threshold)
    np.testing.assert_array_equal(got, substituted)
    mask = np.asarray(T.foreground_mask(given, back, threshold=threshold))
    assert 0 < mask.mean() < 1
    np.testing.assert_array_equal(removed[mask], images[mask])


def test_removing_twice_changes_nothing_more() -> None:
    image, wall = (jnp.array(_pixels(seed, (6, 7, 3))) for seed in (5, 6))
    for fill in (0, 0.5):
        once = T.remove_background(image, wall, threshold=0.2, fill=fill)
        twice = T.remove_background(once, wall, threshold=0.2, fill=fill)
        np.testing.assert_array_equal(once, twice)


def test_threshold_is_traced_and_has_no_gradient_through_the_mask() -> None:
    image, wall = (jnp.array(_pixels(seed, (6, 7, 3))) for seed in (7, 8))

    @jax.jit
    def total(image, threshold):
        return T.remove_background(image, wall, threshold=threshold).sum()

    mask = T.foreground_mask(image, wall, threshold=0.4)
    gradient = jax.grad(total)(image, jnp.array(0.4))
    np.testing.assert_array_equal(gradient, np.repeat(mask[..., None], 3, axis=-1))


def test_a_mirrored_pose_is_what_the_mirrored_image_shows() -> None:
    """Left and right joints, painted into an image each in its colour."""
    side, rng = 21, np.random.default_rng(9)
    joints = rng.choice(side * side, 7, replace=False)
    pose = np.stack([joints % side - 10, joints // side - 10], axis=-1)  # x, y
    mirrored = np.asarray(T.flip_pose(jnp.array(pose), pairs=PAIRS))

    def paint(pose, names):
        image = np.zeros((side, side, 1), np.int32)
        for (x, y), name in zip(pose, names, strict=True):
            image[y + 10, x + 10] = name
        return image

    seen = T.hflip(jnp.array(paint(pose, [1, 2, 3, 4, 5, 6, 7])))
    # What was the left hand is the right one in the mirror.
    np.testing.assert_array_equal(seen, paint(mirrored, [1, 5, 6, 7, 2, 3, 4]))


def test_mirroring_twice_is_nothing_and_depth_stays() -> None:
    pose = jnp.array(_pixels(10, (2, 7, 3))) - 0.5
    for flip in (True, jnp.array(True)):
        once = T.flip_pose(pose, flip, pairs=PAIRS)
        np.testing.assert_array_equal(T.flip_pose(once, flip, pairs=PAIRS), pose)
        np.testing.assert_array_equal(once[:, 0, 1:], pose[:, 0, 1:])
        np.testing.assert_array_equal(once[:, 0, 0], -pose[:, 0, 0])
    for flip in (False, jnp.array(False)):
        np.testing.assert_array_equal(T.flip_pose(pose, flip, pairs=PAIRS), pose)
