"""Pretext batches against plain indexing: which view has which label."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

DRAWS = 10_000


def _pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _p_value(draws, num_outcomes: int) -> float:
    counts = np.bincount(np.asarray(draws), minlength=num_outcomes)
    assert len(counts) == num_outcomes
    return stats.chisquare(counts).pvalue


# --- Chapter 4


def test_labels_of_rotations_are_quarter_turns() -> None:
    images = _pixels(0, 3, 6, 6, 2)
    views, labels = T.rotation_batch(jnp.array(images))
    for image, row, names in zip(images, views, labels, strict=True):
        assert names.tolist() == [0, 1, 2, 3]
        for view, k in zip(row, names.tolist(), strict=True):
            np.testing.assert_array_equal(view, np.rot90(image, k))


def test_each_class_is_the_transformation_of_its_name() -> None:
    images, painted = _pixels(1, 4, 12, 12, 3), _pixels(2, 4, 12, 12, 3)
    batch = functools.partial(T.transformation_batch, size=8, magnitude=0.1)
    views, labels, params = jax.jit(batch)(
        jax.random.key(3), jnp.array(images), jnp.array(painted)
    )
    assert views.shape == (4, 6, 8, 8, 3)
    np.testing.assert_array_equal(labels, np.tile(np.arange(6), (4, 1)))

    def cut(image, view, i):
        y, x = np.asarray(view.top_left[i])
        window = np.asarray(image)[y : y + 8, x : x + 8]
        return window[:, ::-1] if view.flip[i] else window

    for i in range(4):
        base = cut(images[i], params.base, i)
        for k in range(4):
            np.testing.assert_array_equal(views[i, k], np.rot90(base, k))
        offsets = T.WarpParams(params.warp.offsets[i])
        warped = cut(T.warp(jnp.array(images[i]), offsets), params.warped, i)
        # One rounding step: the coordinates are made in another order.
        assert np.abs(np.int32(views[i, 4]) - warped).max() <= 1
        np.testing.assert_array_equal(views[i, 5], cut(painted[i], params.inpainted, i))
    assert T.TRANSFORMATIONS == ("none", "rot90", "rot180", "rot270", "warp", "lci")


def test_views_without_inpainting_need_no_inpainted_images() -> None:
    images = jnp.array(_pixels(4, 2, 9, 9, 3))
    classes = ("warp", "rot180", "none")
    views, labels, params = T.transformation_batch(
        jax.random.key(5), images, size=6, classes=classes
    )
    assert views.shape[:2] == labels.shape == (2, 3)
    np.testing.assert_array_equal(views[:, 1], views[:, 2, ::-1, ::-1])
    one = jax.tree.map(lambda leaf: leaf[1], params)
    again = T.transformation_views(images[1], None, one, size=6, classes=classes)
    np.testing.assert_array_equal(again, views[1])


def test_crops_and_flips_of_views_are_uniform_and_their_own() -> None:
    draw = functools.partial(T.transformation_params, image_size=5, size=3)
    params = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(6), DRAWS))
    views = (params.base, params.warped, params.inpainted)
    places = [9 * v.flip + 3 * v.top_left[:, 0] + v.top_left[:, 1] for v in views]
    for place in places:
        assert _p_value(place, 18) > 1e-4
    assert _p_value(18 * places[0] + places[1], 18 * 18) > 1e-4
    offsets = np.asarray(params.warp.offsets[:, 1, 2, 0])
    assert stats.kstest(offsets, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-4


def test_views_take_another_base_image_an_angle_and_free_control_points() -> None:
    image, other = (jnp.array(_pixels(i, 9, 9, 3)) for i in (10, 11))
    still = T.ViewParams(jnp.zeros(2, jnp.int32), jnp.array(False))
    turned = still._replace(angle=jnp.pi / 2)
    warp = T.free_warp_params(jax.random.key(12), num_points=4, magnitude=0.1)
    params = T.TransformationParams(turned, still, turned, warp)
    classes = ("rot90", "warp", "lci", "none")
    make = functools.partial(T.transformation_views, size=9, classes=classes)
    views = np.int32(make(image, image, params, base=other))
    # The rotation by interpolation may miss the exact quarter turn by one rounding.
    for k, source, turns in ((0, other, 2), (2, image, 1), (3, other, 1)):
        assert np.abs(views[k] - np.rot90(source, turns)).max() <= 1
    warped = np.int32(T.free_warp(image, warp, stride=1))
    assert np.abs(views[1] - warped).max() <= 1


# --- Chapter 5


def test_clips_are_the_frames_that_the_parameters_name() -> None:
    videos, num_frames = _pixels(7, 5, 70, 2, 3, 1), np.array([70, 16, 40, 61, 31])
    clips, labels, params = jax.jit(T.temporal_batch)(
        jax.random.key(8), jnp.array(videos), jnp.array(num_frames)
    )
    assert clips.shape == (5, 4, 16, 2, 3, 1)
    np.testing.assert_array_equal(labels, np.tile(np.arange(4), (5, 1)))
    for i, video in enumerate(videos):
        indices = np.asarray(params.indices[i])
        assert indices.max() < num_frames[i]
        step = 2 ** int(params.kappa[i])
        assert (np.diff(indices[0]) == step).all()
        assert (np.diff(np.sort(indices[1])) == 1).all()
        assert {step, -step} <= set(np.diff(indices[2]).tolist())
        assert (np.diff(indices[3]) > 0).all()
        np.testing.assert_array_equal(clips[i], video[indices])


@pytest.mark.parametrize(
    ("num_frames", "speeds"), [(16, 1), (31, 2), (90, 3), (121, 4)]
)
def test_the_speed_is_uniform_over_those_that_fit(num_frames, speeds) -> None:
    draw = functools.partial(T.temporal_params, classes=("speed",))
    draw = jax.jit(jax.vmap(draw, in_axes=(0, None)))
    params = draw(jax.random.split(jax.random.key(9), DRAWS), jnp.array(num_frames))
    counts = np.bincount(params.kappa, minlength=speeds)
    assert len(counts) == speeds
    if speeds > 1:
        assert stats.chisquare(counts).pvalue > 1e-4
    steps = np.diff(params.indices[:, 0])
    np.testing.assert_array_equal(
        steps, 2 ** np.asarray(params.kappa)[:, None] + 0 * steps
    )


def test_chosen_kinds_come_in_the_order_asked_for() -> None:
    videos = jnp.array(_pixels(10, 2, 200, 1, 1, 1))
    classes = ("warp", "speed")
    clips, labels, params = T.temporal_batch(
        jax.random.key(11), videos, classes=classes, length=8, variant="released"
    )
    assert clips.shape[:3] == (2, 2, 8)
    np.testing.assert_array_equal(labels, [[0, 1], [0, 1]])
    steps = np.diff(params.indices[:, 1])
    np.testing.assert_array_equal(steps[:, 0], 2 ** np.asarray(params.kappa))


# --- Chapter 6


def test_pairs_are_what_the_thesis_calls_them() -> None:
    scene = _pixels(12, 3, 12, 4, 5, 2)
    pairs = jax.jit(T.view_pairs)
    for mirror in (False, True):
        for flipped in (0, 1):
            params = T.ViewPairParams(
                jnp.array([2, 0]),
                jnp.array([3, 9]),
                jnp.array(mirror),
                jnp.array(flipped),
            )
            seen = scene[..., ::-1, :] if mirror else scene
            synchronized = [seen[2, 3], seen[0, 3]]
            mirrored = list(synchronized)
            mirrored[flipped] = mirrored[flipped][:, ::-1]
            expected = [synchronized, [seen[2, 3], seen[0, 9]], mirrored]
            np.testing.assert_array_equal(pairs(jnp.array(scene), params), expected)


def test_cameras_times_and_flips_are_uniform() -> None:
    draw = functools.partial(
        T.view_pair_params, num_cameras=4, num_frames=12, gap=(5, 8)
    )
    params = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(13), DRAWS))
    first, second = np.asarray(params.cameras).T
    assert (first != second).all()
    assert _p_value(first * 3 + (second - first) % 4 - 1, 12) > 1e-4
    t, other = np.asarray(params.frames).T
    distance, start = np.abs(t - other), np.minimum(t, other)
    assert _p_value(distance - 5, 4) > 1e-4
    for d in range(5, 9):
        assert _p_value(start[distance == d], 12 - d) > 1e-4
    kinds = 4 * params.mirror + 2 * params.flipped + (other > t)
    assert _p_value(kinds, 8) > 1e-4


def test_a_short_recording_shortens_the_gap() -> None:
    draw = functools.partial(T.view_pair_params, num_cameras=2, num_frames=7)
    params = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(14), 200))
    assert set(np.abs(np.diff(params.frames)).ravel().tolist()) == {5, 6}


# --- All of them


BUILDERS = {
    "transformation": (
        functools.partial(T.transformation_batch, size=6),
        [_pixels(15, 8, 9, 9, 3), _pixels(16, 8, 9, 9, 3)],
    ),
    "temporal": (
        T.temporal_batch,
        [_pixels(17, 8, 40, 2, 2, 1), np.arange(33, 41)],
    ),
    "view_pair": (T.view_pair_batch, [_pixels(18, 8, 3, 9, 2, 2, 1)]),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_ids_fix_the_views_of_a_sample(name) -> None:
    builder, samples = BUILDERS[name]
    key, ids = jax.random.key(19), np.array([5, 1, 77, 3, 12, 0, 8, 9])

    @jax.jit
    def build(samples, ids):
        return builder(key, *samples, ids=ids)

    def chosen(rows):
        return build([jnp.array(s[rows]) for s in samples], jnp.array(ids[rows]))

    everyone, order = chosen(slice(None)), np.array([6, 0, 3])
    some = chosen(order)
    jax.tree.map(
        lambda few, all_: np.testing.assert_array_equal(few, all_[order]),
        some,
        everyone,
    )
    views, _, params = everyone
    assert len(np.unique(jax.tree.leaves(params)[0], axis=0)) > 1
    assert views.shape[0] == 8


def test_a_vmapped_choice_is_the_static_group() -> None:
    """What a switch over classes would make, at the cost of all of its branches."""
    images = jnp.array(_pixels(20, 4, 7, 7, 3))
    views, labels = T.rotation_batch(images)
    branches = [functools.partial(jnp.rot90, k=k) for k in range(4)]
    choose = jax.vmap(lambda k, image: jax.lax.switch(k, branches, image))
    for column in range(4):
        np.testing.assert_array_equal(
            choose(labels[:, column], images), views[:, column]
        )


def test_crops_cover_images_that_are_not_square() -> None:
    images = jnp.zeros((256, 40, 24, 1))
    drawn = T.transformation_batch(
        jax.random.key(0), images, size=16, classes=("none", "rot90")
    )[2]
    corners = np.asarray(drawn.base.top_left)
    assert corners.min(0).tolist() == [0, 0]
    assert corners.max(0).tolist() == [24, 8]


def test_more_frames_than_there_are_count_as_all() -> None:
    videos, key = jnp.zeros((2, 20, 2, 2, 1)), jax.random.key(0)
    drawn = T.temporal_batch(key, videos, jnp.array([100, 17]))[2]
    expected = T.temporal_batch(key, videos, jnp.array([20, 17]))[2]
    np.testing.assert_array_equal(drawn.indices, expected.indices)
