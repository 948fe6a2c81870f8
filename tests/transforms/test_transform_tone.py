"""Tone curves, histograms and sharpness against Pillow's, on uint8; what is drawn."""

import functools
import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

SIZE = (40, 50, 3)
RANGES = [(0.0, 1.0), (-1.0, 1.0), (0, 255)]


def _pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 180, SIZE[0] * SIZE[1]).reshape(SIZE[:2])
    dark = rng.exponential(20, SIZE)
    pictures = {
        "noise": rng.uniform(0, 256, SIZE),
        "ramp": np.stack([ramp, ramp[::-1], ramp[:, ::-1] / 2], axis=-1),
        "dark": dark,
        "black and white": np.where(dark > 20, 255, 0),
        "one bright pixel": np.where(np.mgrid[:40, :50].sum(0)[..., None], 0, 200),
        "flat": np.full(SIZE, 77),
        "few others": np.where(np.arange(2000).reshape(40, 50, 1) < 254, dark, 255),
    }
    return {
        name: np.clip(np.broadcast_to(image, SIZE), 0, 255).astype(np.uint8)
        for name, image in pictures.items()
    }


PICTURES = _pictures()
every_picture = pytest.mark.parametrize("name", PICTURES)


def _real(pixels: np.ndarray) -> jax.Array:
    """Return the picture as users make it real: float32 in [0, 1]."""
    return jnp.asarray(pixels.astype(np.float32) / 255)


def _byte(image) -> np.ndarray:
    levels = 255 * np.asarray(image, np.float64)
    assert np.abs(levels - np.round(levels)).max() < 1e-3
    return np.round(levels).astype(np.uint8)


solarize, posterize = jax.jit(T.solarize), jax.jit(T.posterize)
sharpness, gamma = jax.jit(T.sharpness), jax.jit(T.gamma)
equalize, autocontrast = jax.jit(T.equalize), jax.jit(T.autocontrast)


# --- Pillow


@every_picture
def test_solarize_is_that_of_pillow(name: str) -> None:
    pixels = PICTURES[name]
    for threshold in (0, 1, 9, 77, 128, 254, 255, 256):
        expected = np.asarray(ImageOps.solarize(Image.fromarray(pixels), threshold))
        inverted = _byte(solarize(_real(pixels), threshold / 255))
        np.testing.assert_array_equal(inverted, expected)


@every_picture
def test_posterize_is_that_of_pillow(name: str) -> None:
    pixels = PICTURES[name]
    for bits in range(1, 9):
        expected = np.asarray(ImageOps.posterize(Image.fromarray(pixels), bits))
        kept = _byte(posterize(_real(pixels), bits))
        np.testing.assert_array_equal(kept, expected)
    assert (np.asarray(posterize(_real(pixels), 0)) == 0).all()


@every_picture
def test_equalize_is_that_of_pillow(name: str) -> None:
    pixels = PICTURES[name]
    expected = np.asarray(ImageOps.equalize(Image.fromarray(pixels)))
    np.testing.assert_array_equal(_byte(equalize(_real(pixels))), expected)


@every_picture
def test_autocontrast_is_that_of_pillow_before_it_rounds_down(name: str) -> None:
    pixels = PICTURES[name]
    expected = np.asarray(ImageOps.autocontrast(Image.fromarray(pixels)), np.float64)
    rest = 255 * np.asarray(autocontrast(_real(pixels)), np.float64) - expected
    # Pillow's own arithmetic may fall short of a whole level.
    assert rest.min() > -1e-3
    assert rest.max() < 1 + 1e-3


@every_picture
def test_smoothing_is_that_of_pillow(name: str) -> None:
    pixels = PICTURES[name]
    expected = np.asarray(Image.fromarray(pixels).filter(ImageFilter.SMOOTH))
    smooth = 255 * np.asarray(sharpness(_real(pixels), 0.0), np.float64)
    np.testing.assert_array_equal(np.round(smooth), expected)


@every_picture
def test_sharpness_is_that_of_pillow_up_to_its_rounding(name: str) -> None:
    """Pillow rounds the smoothed image, which the factor scales, and the result."""
    pixels = PICTURES[name]
    enhance = ImageEnhance.Sharpness(Image.fromarray(pixels)).enhance
    for factor in (0.1, 0.7, 1.0, 1.9):
        sharp = 255 * np.asarray(sharpness(_real(pixels), factor), np.float64)
        off = np.abs(sharp - np.asarray(enhance(factor), np.float64)).max()
        assert off <= (0 if factor == 1 else 1 + 0.5 * abs(1 - factor)) + 1e-3


@pytest.mark.parametrize("value_range", RANGES)
def test_gamma_matches_its_formula(value_range) -> None:
    low, high = value_range
    share = np.concatenate([np.linspace(0, 1, 58), [1e-31, 1e-25]]).reshape(4, 5, 3)
    for exponent in (0.4, 1.0, 1.7, 5.0):
        image = jnp.array(low + (high - low) * share, jnp.float32)
        bent = T.gamma(image, exponent, value_range=value_range)
        expected = low + (high - low) * share**exponent
        np.testing.assert_allclose(bent, expected, atol=1e-3 if high > 1 else 1e-5)


# --- Other value ranges, types and shapes


@pytest.mark.parametrize("value_range", RANGES)
@pytest.mark.parametrize(
    "change",
    [
        functools.partial(T.solarize, threshold=0.5),
        functools.partial(T.posterize, bits=3),
        T.equalize,
        T.autocontrast,
        functools.partial(T.sharpness, factor=1.7),
        functools.partial(T.gamma, exponent=0.6),
    ],
    ids=lambda change: getattr(change, "func", change).__name__,
)
def test_value_ranges_are_alike(change, value_range) -> None:
    low, high = value_range
    unit = _real(PICTURES["noise"])
    changed = change(low + (high - low) * unit, value_range=value_range)
    changed = (np.asarray(changed) - low) / (high - low)
    np.testing.assert_allclose(changed, change(unit), atol=1e-5)


def test_values_between_the_levels_are_rounded_first() -> None:
    real = _real(PICTURES["noise"])
    moved = jnp.clip(real + 0.45 / 255, 0, 1)
    np.testing.assert_array_equal(posterize(moved, 3), posterize(real, 3))
    np.testing.assert_array_equal(equalize(moved), equalize(real))


def test_each_image_of_a_clip_has_its_own_curve() -> None:
    clip = jnp.stack([_real(PICTURES[name]) for name in ("noise", "dark", "flat")])
    for change in (equalize, autocontrast):
        together = change(clip)
        for frame, changed in zip(clip, together, strict=True):
            np.testing.assert_array_equal(changed, change(frame))


def test_images_without_an_inside_have_nothing_to_smooth() -> None:
    for shape in ((1, 1, 3), (2, 5, 1), (5, 2, 4)):
        image = jnp.linspace(0, 1, math.prod(shape)).reshape(shape)
        np.testing.assert_array_equal(T.sharpness(image, 0.0), image)


def test_slopes_are_those_that_are_promised() -> None:
    image = jnp.array([[[0.2], [0.7]]])

    def slopes(change):
        return jax.grad(lambda x: change(x).sum())(image)[0, :, 0].tolist()

    assert slopes(lambda x: T.solarize(x, 0.5)) == [1, -1]
    assert slopes(lambda x: T.posterize(x, 4)) == [0, 0]
    assert slopes(lambda x: T.posterize(x, 8)) == [1, 1]
    assert slopes(lambda x: T.gamma(x, 2.0)) == pytest.approx([0.4, 1.4])
    exponent = jax.grad(lambda e: T.gamma(image, e).sum())(1.0)
    expected = 0.2 * math.log(0.2) + 0.7 * math.log(0.7)
    assert exponent == pytest.approx(expected, rel=1e-5)


def test_gradients_of_gamma_at_black_are_finite() -> None:
    """In dm_pix 0.4.5 they are not."""
    for exponent in (0.2, 1.0, 3.0):
        for value in (0.0, 1e-30, 1e-12, 1.0):
            image = jnp.full((1, 1, 1), value)
            slope = jax.grad(lambda x, e: T.gamma(x, e).sum(), (0, 1))(image, exponent)
            assert all(np.isfinite(part).all() for part in slope)


# --- What is drawn


def _draw(sample, **options):
    keys = jax.random.split(jax.random.key(7), 10_000)
    params = jax.vmap(functools.partial(sample, **options))(keys)
    return np.asarray(params[0])


def _is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    assert low <= values.min()
    assert values.max() <= high
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_what_is_drawn_is_uniform() -> None:
    assert _is_uniform(_draw(T.sharpness_params), 0.1, 1.9)
    assert _is_uniform(_draw(T.solarize_params, threshold=(0.3, 0.9)), 0.3, 0.9)
    exponents = _draw(T.gamma_params, exponent=(0.5, 3.0))
    assert _is_uniform(np.log(exponents), math.log(0.5), math.log(3) + 1e-6)
    bits = _draw(T.posterize_params, bits=(2, 6))
    counts = np.bincount(bits, minlength=9)
    assert counts[[0, 1, 7, 8]].sum() == 0
    assert stats.chisquare(counts[2:7]).pvalue > 1e-3


def test_decisions_have_their_probability() -> None:
    for sample in (T.equalize_params, T.autocontrast_params):
        for prob in (0.0, 0.2, 1.0):
            count = int(_draw(sample, prob=prob).sum())
            assert stats.binomtest(count, 10_000, prob).pvalue > 1e-3


# --- Errors

IMAGE, KEY = jnp.zeros((6, 8, 3)), jax.random.key(0)
WRONG = {
    "exponent": (lambda: T.gamma(IMAGE, 0.0), "exponent must be above 0; got 0.0"),
    "exponents": (lambda: T.gamma_params(KEY, exponent=(2.0, 1.0)), "low <= high"),
    "exponent of 0": (lambda: T.random_gamma(KEY, IMAGE, exponent=(0, 1)), "got 0"),
    "threshold": (lambda: T.solarize(IMAGE, 128), "threshold must be at most 2; got"),
    "threshold below 0": (lambda: T.solarize(IMAGE, -0.1), "at least 0; got -0.1"),
    "thresholds": (
        lambda: T.random_solarize(KEY, IMAGE, threshold=(0, 256)),
        "threshold must be at most 2; got 256",
    ),
    "bits": (lambda: T.posterize(IMAGE, 9), "bits must lie between 0 and 8; got 9"),
    "bits drawn": (lambda: T.posterize_params(KEY, bits=(-1, 4)), "got -1"),
    "bits reversed": (lambda: T.random_posterize(KEY, IMAGE, bits=(8, 4)), "(8, 4)"),
    "prob": (lambda: T.equalize_params(KEY, prob=50), "in [0, 1]; got 50"),
    "prob nan": (lambda: T.random_autocontrast(KEY, IMAGE, prob=math.nan), "got nan"),
    "sharpness": (lambda: T.sharpness(IMAGE, -1.0), "factor must be at least 0"),
    "range": (lambda: T.equalize(IMAGE, value_range=(1, 0)), "low < high; got (1, 0)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_value_errors(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gamma", (1.0,)),
        ("solarize", (0.5,)),
        ("posterize", (4,)),
        ("autocontrast", ()),
        ("equalize", ()),
        ("sharpness", (1.0,)),
    ],
)
def test_whole_numbers_are_refused_as_by_other_colours(name: str, given) -> None:
    bare = inspect.unwrap(getattr(T, name))
    with pytest.raises(TypeError, match=rf"{name} needs floating-point .* / 255"):
        bare(IMAGE.astype(jnp.uint8), *given)


def test_bits_must_be_whole() -> None:
    with pytest.raises(TypeError, match="bits must be whole"):
        inspect.unwrap(T.posterize)(IMAGE, 4.5)
