"""The blur against SciPy; its rim, its width, and what is drawn."""

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
