"""Colours against their formulas in NumPy; what is drawn; defects found elsewhere.

The formulas are those of torchvision (``adjust_*``, ``ColorJitter``), written out.
"""

import colorsys
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

LUMA = np.array([0.299, 0.587, 0.114])
RANGES = [(0.0, 1.0), (-1.0, 1.0), (0, 255)]
NAMES = ("brightness", "contrast", "saturation", "hue")


def _image(seed: int, shape=(7, 6, 3), value_range=(0.0, 1.0)) -> np.ndarray:
    unit = np.random.default_rng(seed).uniform(size=shape)
    low, high = value_range
    return (low + (high - low) * unit).astype(np.float32)


def _gray(image: np.ndarray) -> np.ndarray:
    return (image @ LUMA)[..., None]


def _hsv_hue(image: np.ndarray, shift: float) -> np.ndarray:
    out = np.empty(image.shape)
    for at in np.ndindex(image.shape[:-1]):
        h, s, v = colorsys.rgb_to_hsv(*image[at])
        out[at] = colorsys.hsv_to_rgb((h + shift) % 1, s, v)
    return out


def _yiq_hue(image: np.ndarray, shift: float) -> np.ndarray:
    yiq = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    y, i, q = np.moveaxis(image @ yiq.T, -1, 0)
    turned = (i + 1j * q) * np.exp(-2j * math.pi * shift)
    rotated = np.stack([y, turned.real, turned.imag], axis=-1)
    return rotated @ np.linalg.inv(yiq).T


def _change(name: str, image: np.ndarray, amount: float, hue=_hsv_hue) -> np.ndarray:
    """Change an image in [0, 1] as torchvision does, before it clips."""
    if name == "hue":
        return hue(image, amount)
    other = {
        "brightness": np.zeros(()),
        "contrast": _gray(image).mean(),
        "saturation": _gray(image),
    }[name]
    return amount * image + (1 - amount) * other


def _in_unit(change, image: np.ndarray, value_range) -> np.ndarray:
    """Apply a change made for [0, 1] to another range."""
    low, high = value_range
    return low + (high - low) * change((image.astype(np.float64) - low) / (high - low))


@pytest.mark.parametrize("value_range", RANGES)
@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("name", NAMES[:3])
def test_factors_match_their_formula(name: str, amount: float, value_range) -> None:
    image = _image(0, value_range=value_range)
    expected = _in_unit(lambda x: _change(name, x, amount), image, value_range)
    changed = getattr(T, name)(jnp.array(image), amount, value_range=value_range)
    expected = np.clip(expected, *value_range)
    np.testing.assert_allclose(changed, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value_range", RANGES)
@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.25, 1 / 3, 2.2])
def test_hue_matches_its_formulas(shift: float, value_range) -> None:
    image = _image(1, value_range=value_range)
    for exact, oracle in ((True, _hsv_hue), (False, _yiq_hue)):
        expected = _in_unit(lambda x, f=oracle: f(x, shift), image, value_range)
        turned = T.hue(jnp.array(image), shift, value_range=value_range, exact=exact)
        expected = np.clip(expected, *value_range)
        np.testing.assert_allclose(turned, expected, rtol=1e-4, atol=1e-4)


def test_hues_turn_from_red_over_green_to_blue() -> None:
    """Exactly in HSV; in YIQ the channel that should win does."""
    primaries = np.eye(3, dtype=np.float32)[None]
    for turns in (1, 2):
        expected = np.roll(primaries, turns, axis=-1)
        exact = T.hue(jnp.array(primaries), turns / 3, exact=True)
        np.testing.assert_allclose(exact, expected, atol=1e-5)
        linear = np.asarray(T.hue(jnp.array(primaries), turns / 3))
        np.testing.assert_array_equal(linear.argmax(-1), expected.argmax(-1))


def test_contrast_of_one_channel_pulls_to_its_mean() -> None:
    image = _image(2, (2, 5, 4, 1))
    mean = image.mean(axis=(1, 2, 3), keepdims=True)
    expected = np.clip(1.4 * image - 0.4 * mean, 0, 1)
    np.testing.assert_allclose(T.contrast(jnp.array(image), 1.4), expected, atol=1e-6)


def test_grayscale_repeats_the_luma_and_keeps_grey() -> None:
    image = _image(3)
    gray = np.asarray(T.grayscale(jnp.array(image)))
    np.testing.assert_allclose(gray, np.repeat(_gray(image), 3, -1), atol=1e-6)
    assert (gray == gray[..., :1]).all()
    np.testing.assert_allclose(T.grayscale(jnp.array(gray)), gray, atol=1e-6)


def test_normalize_matches_numpy() -> None:
    image, mean, std = _image(4, (2, 5, 4, 3)), (0.4, 0.5, 0.6), (0.2, 0.3, 0.5)
    expected = (image - np.array(mean)) / np.array(std)
    for given in ((mean, std), (jnp.array(mean), jnp.array(std))):
        normalized = T.normalize(jnp.array(image), *given)
        np.testing.assert_allclose(normalized, expected, atol=1e-5)


# --- Colour jitter


def _jitter(order) -> tuple[T.ColorJitterParams, dict[str, float]]:
    amounts = {"brightness": 0.8, "contrast": 1.3, "saturation": 0.6, "hue": -0.08}
    fields = {name: jnp.array(amount) for name, amount in amounts.items()}
    return T.ColorJitterParams(**fields, order=jnp.array(order, jnp.int32)), amounts


color_jitter = jax.jit(T.color_jitter, static_argnames=("value_range", "exact"))


@pytest.mark.parametrize("value_range", RANGES)
def test_jitter_is_the_four_changes_clipped_once(value_range) -> None:
    """In any order, as they commute; each image of a clip has its own mean."""
    clip = _image(5, (2, 5, 4, 3), value_range)
    for order in itertools.permutations(range(4)):
        params, amounts = _jitter(order)

        def change(image, order=order, amounts=amounts):
            for i in order:
                image = _change(NAMES[i], image, amounts[NAMES[i]], _yiq_hue)
            return image

        jittered = color_jitter(jnp.array(clip), params, value_range=value_range)
        for image, got in zip(clip, jittered, strict=True):
            expected = np.clip(_in_unit(change, image, value_range), *value_range)
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value_range", RANGES)
def test_exact_jitter_is_that_of_torchvision(value_range) -> None:
    image = _image(6, (5, 4, 3), value_range)
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2), (2, 0, 3, 1)):
        params, amounts = _jitter(order)

        def change(image, order=order, amounts=amounts):
            for i in order:
                image = _change(NAMES[i], image, amounts[NAMES[i]])
                image = np.clip(image, 0, 1)
            return image

        jittered = color_jitter(
            jnp.array(image), params, value_range=value_range, exact=True
        )
        expected = _in_unit(change, image, value_range)
        np.testing.assert_allclose(jittered, expected, rtol=1e-4, atol=1e-4)


def test_half_precision_is_rounded_once() -> None:
    """Sums in bfloat16 would be off by many times its last bit, 2 ** -8 relative."""
    image = jnp.array(_image(7, (32, 32, 3))).astype(jnp.bfloat16)
    params, _ = _jitter((1, 2, 0, 3))
    jittered = T.color_jitter(image, params)
    expected = T.color_jitter(image.astype(jnp.float32), params).astype(jnp.bfloat16)
    np.testing.assert_array_equal(jittered, expected)


# --- What is drawn


def _keys(count: int = 10_000) -> jax.Array:
    return jax.random.split(jax.random.key(7), count)


def _is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    assert values.dtype == np.float32
    assert low <= values.min()
    assert values.max() <= high
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", NAMES[:3])
def test_factors_are_uniform(name: str) -> None:
    sample = getattr(T, f"{name}_params")
    for strength, low, high in ((0.4, 0.6, 1.4), (1.5, 0.0, 2.5)):
        draw = jax.vmap(lambda key, strength=strength: sample(key, strength=strength))
        assert _is_uniform(np.asarray(draw(_keys()).factor), low, high)
    assert (
        jax.vmap(lambda key: sample(key, strength=0.0))(_keys(50)).factor == 1
    ).all()


def test_hue_shifts_are_uniform() -> None:
    shifts = np.asarray(jax.vmap(T.hue_params)(_keys()).shift)
    assert _is_uniform(shifts, -0.1, 0.1)


def test_grayscale_probability() -> None:
    for prob in (0.0, 0.2, 1.0):
        draw = jax.vmap(lambda key, p=prob: T.grayscale_params(key, prob=p))
        count = int(np.asarray(draw(_keys()).gray).sum())
        assert stats.binomtest(count, 10_000, prob).pvalue > 1e-3


def test_jitter_draws_uniform_factors_and_orders_independently() -> None:
    params = jax.vmap(T.color_jitter_params)(_keys())
    values = [np.asarray(leaf) for leaf in params[:4]]
    for factor in values[:3]:
        assert _is_uniform(factor, 0.6, 1.4)
    assert _is_uniform(values[3], -0.1, 0.1)
    orders = np.asarray(params.order)
    assert orders.dtype == np.int32
    counts = [
        int((orders == order).all(axis=1).sum())
        for order in itertools.permutations(range(4))
    ]
    assert sum(counts) == 10_000
    assert stats.chisquare(counts).pvalue > 1e-3
    together = np.corrcoef(np.stack([*values, *orders.T[:3]]))
    independent = together - np.eye(7)
    independent[4:, 4:] = 0  # The places of one order exclude each other.
    assert np.abs(independent).max() < 0.05


# --- Defects of other libraries that must not come back here


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_jitter_of_one_thing_alone_changes_the_image(name: str, exact: bool) -> None:
    """In augmax 0.4.1 a jitter of saturation or of hue alone leaves the image."""
    off = dict.fromkeys(NAMES, 0.0) | {name: 0.4}
    image = jnp.array(_image(8))
    for key in jax.random.split(jax.random.key(0), 3):
        jittered, params = T.random_color_jitter(key, image, exact=exact, **off)
        amount = float(getattr(params, name))
        oracle = _hsv_hue if exact else _yiq_hue
        expected = np.clip(_change(name, np.asarray(image), amount, oracle), 0, 1)
        np.testing.assert_allclose(jittered, expected, atol=1e-4)
        assert np.abs(jittered - image).max() > 1e-2


@pytest.mark.parametrize("exact", [False, True])
def test_gradients_on_grey_pixels_are_finite(exact: bool) -> None:
    """In augmax 0.4.1 they are NaN."""
    params, _ = _jitter((3, 0, 2, 1))
    for value in (0.0, 1e-30, 0.5, 1.0):
        image = jnp.full((3, 3, 3), value).at[1, 1, 0].add(1e-7)

        def total(image, factors):
            changed = T.color_jitter(image, params._replace(**factors), exact=exact)
            return (changed**2).sum()

        factors = {name: getattr(params, name) for name in NAMES}
        for gradient in jax.tree.leaves(jax.grad(total, (0, 1))(image, factors)):
            assert np.isfinite(gradient).all()
