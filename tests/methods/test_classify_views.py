"""Views of labelled images, and what the network takes and should give."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.methods import classify
from jaxssl.methods.classify import Config, make_views, to_input

KEY = jax.random.key(0)


def test_padding_is_zeros_around_the_image():
    image = jnp.full((300, 4, 4, 1), 9, jnp.uint8)
    pad = functools.partial(classify.random_views, size=4, flip=False, padding=2)
    views = jax.jit(pad)(KEY, image, jnp.arange(300))
    counts = np.asarray(views > 0).sum(axis=(1, 2, 3))
    assert set(counts) == {a * b for a in (2, 3, 4) for b in (2, 3, 4)}
    assert set(np.unique(views)) == {0, 9}
    assert views.dtype == jnp.uint8


def test_resized_views_show_the_asked_for_part_of_the_area():
    # A ramp along each axis: the range of a view's values is the side of its part.
    ramp = jnp.linspace(0, 1, 64)
    image = jnp.stack(
        [
            jnp.broadcast_to(ramp[:, None], (64, 64)),
            jnp.broadcast_to(ramp[None], (64, 64)),
        ],
        axis=-1,
    )
    images = jnp.broadcast_to(image[None], (200, 64, 64, 2))
    resize = functools.partial(
        classify.random_resized_views, size=48, flip=True, area=(0.3, 0.5)
    )
    views = jax.jit(resize)(KEY, images, jnp.arange(200))
    spans = np.asarray(jnp.ptp(views, axis=(1, 2)))
    areas = spans.prod(axis=1)
    assert 0.25 < areas.min() < 0.32
    assert 0.47 < areas.max() < 0.53
    steps = np.asarray(views[:, 24, 1:, 1] - views[:, 24, :-1, 1]).mean(axis=1)
    assert 70 < (steps < 0).sum() < 130  # Mirrored; s.d. 7.


def test_colours_change_by_image_about_each_channels_mean():
    pixels = np.random.default_rng(0).integers(40, 200, (20, 6, 6, 3)).astype(np.uint8)
    config = Config(crop_size=6, flip=False, brightness=0.2, contrast=0.5)
    batch = {"image": jnp.asarray(pixels), "id": jnp.arange(20)}
    views = jax.jit(functools.partial(make_views, config=config))(KEY, batch)
    assert views.dtype == jnp.float32
    before = pixels / 127.5 - 1
    spreads = np.asarray(views).std(axis=(1, 2)) / before.std(axis=(1, 2))
    np.testing.assert_allclose(spreads, spreads[:, :1].repeat(3, axis=1), rtol=1e-4)
    assert 0.5 <= spreads.min() < 0.7
    assert 1.3 < spreads.max() <= 1.5
    added = np.asarray(views).mean(axis=(1, 2)) - before.mean(axis=(1, 2))
    np.testing.assert_allclose(added, added[:, :1].repeat(3, axis=1), atol=1e-5)
    assert -0.4 <= added.min() < -0.25  # A fifth of the range of 2.
    assert 0.25 < added.max() <= 0.4
    plain = make_views(KEY, batch, Config(crop_size=6, flip=False))
    np.testing.assert_array_equal(plain, pixels)


def test_standardized_images_have_mean_0_and_variance_1():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    x = np.asarray(to_input(jnp.asarray(pixels), Config(pixels="standardized")))
    wide = pixels.astype(np.float64)
    axes = (1, 2, 3)
    wanted = (wide - wide.mean(axes, keepdims=True)) / wide.std(axes, keepdims=True)
    np.testing.assert_allclose(x, wanted, atol=1e-5)
    flat = to_input(
        jnp.full((1, 4, 4, 3), 77, jnp.uint8), Config(pixels="standardized")
    )
    np.testing.assert_allclose(flat, np.zeros((1, 4, 4, 3)), atol=1e-3)


def test_symmetric_images_span_minus_1_to_1():
    x = to_input(jnp.array([0, 255], jnp.uint8).reshape(1, 2, 1, 1), Config())
    np.testing.assert_allclose(x.ravel(), [-1, 1])


def test_normalized_images_have_the_data_sets_mean_and_deviation_taken_out():
    pixels = np.random.default_rng(1).integers(0, 256, (5, 6, 7, 3)).astype(np.uint8)
    mean, std = (0.49, 0.48, 0.45), (0.2, 0.21, 0.22)
    config = Config(pixels="normalized", mean=mean, std=std)
    wanted = (pixels / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(to_input(pixels, config), wanted, atol=1e-5)
    with pytest.raises(UserError, match="with pixels='normalized' each needs 3 values"):
        Config(pixels="normalized", mean=mean)
    with pytest.raises(UserError, match="with pixels='symmetric' each needs 0 values"):
        Config(std=std)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_targets_of_classes_are_probabilities(smoothing):
    config = Config(smoothing=smoothing)
    found = classify.make_targets(jnp.array([2, 0]), 4, config)
    wanted = (1 - smoothing) * np.eye(4)[[2, 0]] + smoothing / 4
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_targets_of_attributes_are_the_labels():
    labels = jnp.array([[0, 1, 1], [1, 0, 0]])
    found = classify.make_targets(labels, 3, Config(labels="attributes"))
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == jnp.float32
