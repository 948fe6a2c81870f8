"""The blur against SciPy; its rim, its width, and what is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxssl import transforms as T  # noqa: N812


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 7.0])
@pytest.mark.parametrize(("shape", "radius"), [((12, 17, 3), 8), ((2, 4, 5, 1), 3)])
def test_matches_scipy(sigma: float, shape, radius: int) -> None:
    """SciPy calls "mirror" what NumPy, torchvision and this package call reflect."""
    image = _image(0, shape)
    blurred = T.gaussian_blur(jnp.array(image), sigma, radius=radius)
    for mode, equal in (("mirror", True), ("reflect", False)):
        expected = ndimage.gaussian_filter(
            image.astype(np.float64), sigma, axes=(-3, -2), mode=mode, radius=radius
        )
        error = np.abs(blurred - expected).max()
        assert error < 1e-5 if equal else error > 1e-3


def test_tiny_sigmas_are_exact_too() -> None:
    """Weights that vanish do so in the formula as well."""
    image = jnp.array(_image(1, (6, 6, 2)))
    for sigma in (0.0, 1e-30, 0.01, 0.03):
        np.testing.assert_array_equal(T.gaussian_blur(image, sigma, radius=3), image)


def test_radius_of_0_keeps_the_image() -> None:
    image = jnp.array(_image(2, (1, 1, 3)))
    np.testing.assert_array_equal(T.gaussian_blur(image, 2.0, radius=0), image)


def test_half_precision_is_rounded_once() -> None:
    image = jnp.array(_image(3, (32, 32, 3))).astype(jnp.bfloat16)
    blurred = T.gaussian_blur(image, 2.0)
    wide = T.gaussian_blur(image.astype(jnp.float32), 2.0).astype(jnp.bfloat16)
    np.testing.assert_array_equal(blurred, wide)


def _by_scipy(image: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    options = {"axes": (-3, -2), "mode": "mirror", "radius": radius}
    return ndimage.gaussian_filter(image.astype(np.float64), sigma, **options)


@pytest.mark.parametrize(("shape", "radius"), [((2, 24, 33, 3), 3), ((32, 40, 1), 4)])
def test_small_radii_match_scipy(shape, radius: int) -> None:
    """Large images are blurred in another form on a CPU, and exactly at sigma 0."""
    image = _image(6, shape)
    blur = jax.jit(functools.partial(T.gaussian_blur, radius=radius))
    assert "dot" not in blur.lower(jnp.array(image), 1.0).compile().as_text()
    for sigma in (0.4, 1.5):
        expected = _by_scipy(image, sigma, radius)
        np.testing.assert_allclose(blur(jnp.array(image), sigma), expected, atol=1e-5)
    np.testing.assert_array_equal(blur(jnp.array(image), 0.0), image)


def test_gradients_of_small_radii_match_finite_differences() -> None:
    """By SciPy, along one direction of the image and of sigma; forward and reverse."""
    image, step = _image(7, (24, 24, 2)), _image(8, (24, 24, 2))
    weight, sigma, eps = _image(9, (24, 24, 2)).astype(np.float64), 1.3, 1e-4

    def total(image, sigma):
        return (weight * T.gaussian_blur(image, sigma, radius=3)).sum()

    ends = [
        (weight * _by_scipy(image + sign * eps * step, sigma + sign * eps, 3)).sum()
        for sign in (1, -1)
    ]
    point = jnp.array(image), jnp.float32(sigma)
    _, forward = jax.jit(lambda *at: jax.jvp(total, at, (step, 1.0)))(*point)
    to_image, to_sigma = jax.jit(jax.grad(total, (0, 1)))(*point)
    reverse = (to_image * step).sum() + to_sigma
    expected = (ends[0] - ends[1]) / (2 * eps)
    np.testing.assert_allclose([forward, reverse], expected, rtol=1e-3)


# --- Defects of other libraries that must not come back here


def test_the_rim_is_as_bright_as_the_rest() -> None:
    """In dm_pix 0.4.5 ones become 0.36 in the corners."""
    blurred = T.gaussian_blur(jnp.ones((16, 16, 3)), 5.0, radius=15)
    np.testing.assert_allclose(blurred, 1, atol=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.0, 5.0])
def test_a_point_becomes_as_wide_as_sigma_says_and_stays_in_place(sigma) -> None:
    """In augmax 0.4.1 the width is 0.50 to 2.69 pixels, moved by half a pixel."""
    point = jnp.zeros((65, 65, 1)).at[32, 32].set(1)
    blurred = np.asarray(T.gaussian_blur(point, sigma, radius=32), np.float64)[..., 0]
    distance = np.arange(65) - 32
    for marginal in (blurred.sum(axis=0), blurred.sum(axis=1)):
        assert marginal.sum() == pytest.approx(1, abs=1e-5)
        assert (marginal * distance).sum() == pytest.approx(0, abs=1e-4)
        width = np.sqrt((marginal * distance**2).sum())
        assert width == pytest.approx(sigma, rel=1e-3)


@pytest.mark.parametrize(("radius", "kept"), [(20, 0.9), (30, 0.99), (40, 1.0)])
def test_documented_width_of_the_cut_blur(radius: int, kept: float) -> None:
    point = jnp.zeros((99, 1, 1)).at[49].set(1)
    line = jnp.concatenate([point] * 99, axis=1)
    blurred = np.asarray(T.gaussian_blur(line, 10.0, radius=radius))[:, 50, 0]
    width = np.sqrt((blurred * (np.arange(99) - 49.0) ** 2).sum())
    assert width / 10 == pytest.approx(kept, abs=1.5e-2)


# --- What is drawn


def test_sigmas_are_uniform() -> None:
    keys = jax.random.split(jax.random.key(7), 10_000)
    for options, low, high in (({}, 0.1, 2.0), ({"sigma": (1.0, 1.5)}, 1.0, 1.5)):
        draw = jax.vmap(lambda key, o=options: T.gaussian_blur_params(key, **o))
        sigmas = np.asarray(draw(keys).sigma)
        assert low <= sigmas.min()
        assert sigmas.max() <= high
        assert stats.kstest(sigmas, stats.uniform(low, high - low).cdf).pvalue > 1e-3
