"""Resized crops against JAX's resizing, cropping, and torchvision's rule."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import transforms as T  # noqa: N812


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def _box(top: float, left: float, height: float, width: float) -> T.ResizedCropParams:
    return T.ResizedCropParams(jnp.array([top, left]), jnp.array([height, width]))


def _weights(start: float, extent: float, length: int, size: int, antialias: bool):
    """Return the triangle filter's (size, length) weights, in float64."""
    step = extent * length / size
    centre = start * length + (np.arange(size) + 0.5) * step - 0.5
    reach = max(step, 1) if antialias else 1
    distance = np.abs(centre[:, None] - np.arange(length)) / reach
    weights = np.maximum(0, 1 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


BOXES = [(0.1, 0.25, 0.5, 0.6), (0.0, 0.0, 1.0, 1.0), (0.73, 0.6, 0.27, 0.3)]


@pytest.mark.parametrize("size", [(5, 7), (12, 16), (31, 22), (40, 3)])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("antialias", [True, False])
def test_matches_the_triangle_filter(size, box, antialias: bool) -> None:
    """Enlarging, shrinking, and one of each."""
    image = _image(0, (12, 16, 3))
    down = _weights(box[0], box[2], 12, size[0], antialias)
    across = _weights(box[1], box[3], 16, size[1], antialias)
    expected = np.einsum("ih,jw,hwc->ijc", down, across, image.astype(np.float64))
    resized = T.resized_crop(jnp.array(image), _box(*box), size, antialias=antialias)
    np.testing.assert_allclose(resized, expected, atol=1e-5)


@pytest.mark.parametrize("box", BOXES)
def test_sampling_equals_scale_and_translate_where_nothing_is_shrunk(box) -> None:
    image, size = jnp.array(_image(1, (2, 20, 24, 3))), (20, 25)
    scale = jnp.array(size) / (jnp.array(box[2:]) * jnp.array([20, 24]))
    expected = jax.image.scale_and_translate(
        image,
        (2, *size, 3),
        (1, 2),
        scale,
        -jnp.array(box[:2]) * jnp.array([20, 24]) * scale,
        "linear",
    )
    for antialias in (True, False):
        resized = T.resized_crop(image, _box(*box), size, antialias=antialias)
        np.testing.assert_allclose(resized, expected, atol=1e-5)


def test_shrinking_keeps_the_mean_only_with_antialiasing() -> None:
    """Stripes of one pixel become grey, or those that the samples happen to hit."""
    stripes = jnp.tile(jnp.array([0.0, 1.0])[None, :, None], (32, 16, 1))
    smooth = T.resized_crop(stripes, _box(0, 0, 1, 1), (8, 8))
    np.testing.assert_allclose(smooth, 0.5, atol=0.04)  # At the rim half a filter.
    rough = T.resized_crop(stripes, _box(0, 0, 1, 0.968), 8, antialias=False)
    assert np.ptp(rough) > 0.4


def test_boxes_at_whole_pixels_are_crops() -> None:
    image = jnp.array(_image(2, (8, 16, 2)))
    box = _box(2 / 8, 4 / 16, 4 / 8, 8 / 16)
    for antialias in (True, False):
        resized = T.resized_crop(image, box, (4, 8), antialias=antialias)
        np.testing.assert_array_equal(resized, image[2:6, 4:12])


def test_boxes_may_be_pairs_of_numbers() -> None:
    """Shrunk and enlarged, which take different ways; traced numbers, too."""
    image = jnp.array(_image(5, (9, 12, 3)))
    for size in (4, 16):
        expected = T.resized_crop(image, _box(0.25, 0.5, 0.5, 0.25), size)
        plain = T.ResizedCropParams((0.25, 0.5), (0.5, 0.25))
        np.testing.assert_array_equal(T.resized_crop(image, plain, size), expected)

        @jax.jit
        def cut(top, size=size):
            params = T.ResizedCropParams((top, 2 * top), (0.5, 0.25))
            return T.resized_crop(image, params, size)

        np.testing.assert_allclose(cut(0.25), expected, atol=1e-6)


def test_same_box_at_another_resolution_shows_the_same() -> None:
    ramp = jnp.broadcast_to(jnp.arange(64.0)[:, None, None], (64, 64, 1))
    small = jax.image.resize(ramp, (32, 32, 1), "linear")
    box = _box(0.3, 0.2, 0.5, 0.4)
    large = T.resized_crop(ramp, box, 16)
    np.testing.assert_allclose(T.resized_crop(small, box, 16), large, atol=1e-3)


# --- What is drawn


def _torchvision_box(rng, height, width, scale, ratio):
    """The rule of RandomResizedCrop.get_params, without rounding to whole pixels."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        side_ratio = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = math.sqrt(area * side_ratio), math.sqrt(area / side_ratio)
        if w <= width and h <= height:
            return rng.uniform(0, height - h), rng.uniform(0, width - w), h, w
    if width / height < ratio[0]:
        w, h = width, width / ratio[0]
    elif width / height > ratio[1]:
        w, h = height * ratio[1], height
    else:
        w, h = width, height
    return (height - h) / 2, (width - w) / 2, h, w


def _drawn(size, **options) -> np.ndarray:
    """Return 10,000 boxes (top, left, height, width) in pixels."""
    keys = jax.random.split(jax.random.key(7), 10_000)
    draw = jax.vmap(lambda key: T.resized_crop_params(key, image_size=size, **options))
    params = jax.jit(draw)(keys)
    fractions = np.concatenate([params.top_left, params.extent], axis=1)
    return fractions.astype(np.float64) * np.tile(size, 2)


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [
        ((50, 50), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((40, 90), (0.08, 1.0), (3 / 4, 4 / 3)),
        ((90, 40), (0.3, 1.0), (0.5, 2.0)),
        ((90, 20), (0.9, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_boxes_are_drawn_as_torchvision_does(size, scale, ratio) -> None:
    """In the last case hardly any fits and the fallback decides."""
    boxes = _drawn(size, scale=scale, ratio=ratio)
    rng = np.random.default_rng(0)
    expected = np.array(
        [_torchvision_box(rng, *size, scale, ratio) for _ in range(10_000)]
    )
    for got, want in zip(_facts(boxes), _facts(expected), strict=True):
        # Rounded, so that what the fallback fixes is the same number in both.
        assert stats.ks_2samp(got.round(3), want.round(3)).pvalue > 1e-3
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= np.array(size) + 1e-3).all()


def _facts(boxes: np.ndarray):
    """Area, log ratio, and both coordinates of the box's centre."""
    top, left, height, width = boxes.T
    return height * width, np.log(width / height), top + height / 2, left + width / 2


def test_area_is_a_share_of_the_input_not_of_the_output() -> None:
    """Kornia took it of the output's size (kornia#927)."""
    boxes = _drawn((80, 80), scale=(0.1, 0.5))
    area = boxes[:, 2] * boxes[:, 3] / 80**2
    assert stats.kstest(area, stats.uniform(0.1, 0.4).cdf).pvalue > 1e-3
    log_ratio = np.log(boxes[:, 3] / boxes[:, 2])
    uniform = stats.uniform(math.log(3 / 4), math.log(16 / 9))
    assert stats.kstest(log_ratio, uniform.cdf).pvalue > 1e-3
    for axis in (0, 1):
        place = boxes[:, axis] / (80 - boxes[:, axis + 2])
        assert stats.kstest(place, stats.uniform(0, 1).cdf).pvalue > 1e-3
