"""Affine and perspective maps and the fill of borders, against SciPy and OpenCV."""

import functools
import re

import cv2
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import ndimage, stats

from jaxssl import transforms as T  # noqa: N812

IMAGE = np.random.default_rng(0).uniform(size=(11, 14, 3)).astype(np.float32)
FILL = (0.5, -1.0, 2.0)
KEY = jax.random.key(0)


def _sampled(image: np.ndarray, coords: np.ndarray, border: str) -> np.ndarray:
    """Return an image at (y, x), by SciPy; `FILL` outside with border "constant"."""
    mode = {"edge": "nearest", "constant": "grid-constant", "reflect": "mirror"}
    planes = [
        ndimage.map_coordinates(
            image[..., c].astype(np.float64),
            np.moveaxis(coords, -1, 0),
            order=1,
            mode=mode[border],
            cval=FILL[c],
        )
        for c in range(3)
    ]
    return np.stack(planes, axis=-1)


def _through(matrix: np.ndarray) -> np.ndarray:
    """Return where the pixels of `IMAGE` go by a matrix over (x, y, 1), as (y, x)."""
    y, x = np.meshgrid(*map(np.arange, IMAGE.shape[:2]), indexing="ij")
    x, y, depth = np.einsum("ij,hwj->ihw", matrix, np.stack([x, y, 0 * x + 1], -1))
    return np.stack([y, x], axis=-1) / depth[..., None]


def _affine_matrix(angle, translate, scale, shear) -> np.ndarray:
    """Return the forward matrix over (x, y, 1) as a product of plain ones."""

    def shift(x, y):
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    height, width = IMAGE.shape[:2]
    centre = (width - 1) / 2, (height - 1) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    # The y axis points down: a turn that looks counter-clockwise is one by -angle.
    turn = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    across = np.array([[1, shear[1], 0], [0, 1, 0], [0, 0, 1]])
    down = np.array([[1, 0, 0], [shear[0], 1, 0], [0, 0, 1]])
    resized = np.diag([scale, scale, 1])
    moved = shift(translate[1] * width, translate[0] * height)
    about = turn @ down @ across @ resized
    return moved @ shift(*centre) @ about @ shift(-centre[0], -centre[1])


AFFINE = {
    "turned": (0.7, (0.0, 0.0), 1.0, (0.0, 0.0)),
    "moved": (0.0, (0.2, -0.3), 1.0, (0.0, 0.0)),
    "scaled": (0.0, (0.0, 0.0), 1.7, (0.0, 0.0)),
    "sheared": (0.0, (0.0, 0.0), 1.0, (0.3, -0.4)),
    "all": (-0.5, (-0.1, 0.2), 0.8, (-0.2, 0.5)),
}


@pytest.mark.parametrize("border", ["edge", "constant", "reflect"])
def test_affine_is_a_product_of_plain_matrices(border: str) -> None:
    fill = FILL if border == "constant" else 0
    apply = jax.jit(functools.partial(T.affine, border=border, fill=fill))
    for name, numbers in AFFINE.items():
        params = jax.tree.map(jnp.float32, T.AffineParams(*numbers))
        params = params._replace(
            translate=jnp.array(numbers[1]), shear=jnp.array(numbers[3])
        )
        coords = _through(np.linalg.inv(_affine_matrix(*numbers)))
        expected = _sampled(IMAGE, coords, border)
        moved = apply(jnp.array(IMAGE), params)
        np.testing.assert_allclose(moved, expected, atol=2e-5, err_msg=name)


def test_affine_without_the_rest_is_a_rotation() -> None:
    params = T.AffineParams(0.3, (0, 0), 1, (0, 0))
    both = jax.jit(lambda image: (T.affine(image, params), T.rotate(image, 0.3)))
    np.testing.assert_allclose(*both(jnp.array(IMAGE)), atol=1e-5)


def test_affine_parameters_are_uniform() -> None:
    keys = jax.random.split(jax.random.key(1), 10_000)
    options = {"max_translate": (0.1, 0.3), "scale": (0.5, 2.0), "max_shear": (0.2, 0)}
    draw = functools.partial(T.affine_params, max_angle=0.4, **options)
    params = jax.jit(jax.vmap(draw))(keys)
    ranges = [
        (params.angle, -0.4, 0.4),
        (params.translate[:, 0], -0.1, 0.1),
        (params.translate[:, 1], -0.3, 0.3),
        (params.scale, 0.5, 2.0),
        (params.shear[:, 0], -0.2, 0.2),
    ]
    values = np.stack([drawn for drawn, _, _ in ranges])
    for drawn, low, high in ranges:
        assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    assert (params.shear[:, 1] == 0).all()
    others = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(others).max() < 0.05


# --- Perspective


def _corners(offsets) -> np.ndarray:
    """Return the corners of `IMAGE` after offsets, (4, 2) float32 as (x, y)."""
    size = np.array(IMAGE.shape[:2])
    square = np.stack(np.meshgrid([0, 1], [0, 1], indexing="ij"), axis=-1)
    corners = square * (size - 1) + np.asarray(offsets) * size
    return corners.reshape(4, 2)[:, ::-1].astype(np.float32)


@pytest.mark.parametrize("border", ["edge", "constant"])
def test_perspective_is_that_of_opencv(border: str) -> None:
    fill = FILL if border == "constant" else 0
    apply = jax.jit(functools.partial(T.perspective, border=border, fill=fill))
    rng, still = np.random.default_rng(1), _corners(np.zeros((2, 2, 2)))
    for scale in (0.05, 0.15, 0.2):
        offsets = rng.uniform(-scale, scale, (2, 2, 2))
        matrix = cv2.getPerspectiveTransform(_corners(offsets), still)
        expected = _sampled(IMAGE, _through(matrix), border)
        params = T.PerspectiveParams(jnp.array(offsets, jnp.float32))
        seen = apply(jnp.array(IMAGE), params)
        np.testing.assert_allclose(seen, expected, atol=2e-4)


def test_corners_go_where_the_offsets_say() -> None:
    """Corners that move by whole pixels show their pixels exactly where they go."""
    height, width = IMAGE.shape[:2]
    pixels = np.array([[[2, 1], [3, -4]], [[-1, 2], [-2, -3]]])
    offsets = jnp.array(pixels / [height, width], jnp.float32)
    seen = jax.jit(T.perspective)(jnp.array(IMAGE), T.PerspectiveParams(offsets))
    for row in (0, 1):
        for column in (0, 1):
            y, x = pixels[row, column] + [row * (height - 1), column * (width - 1)]
            corner = IMAGE[-row, -column]
            np.testing.assert_allclose(seen[y, x], corner, atol=1e-4)


def test_nothing_is_seen_beyond_the_horizon() -> None:
    """The lower corners move close together: the plane ends within the image."""
    offsets = jnp.array([[[0, 0], [0, 0]], [[-0.3, 0.45], [-0.3, -0.45]]], jnp.float32)
    image = jnp.full((24, 24, 1), 0.25)
    params = T.PerspectiveParams(offsets)
    see = functools.partial(T.perspective, border="constant", fill=9)
    seen = jax.jit(see)(image, params)
    assert jnp.isfinite(seen).all()
    assert (seen[-3:] == 9).all()
    assert (seen[0, 1:-1] == 0.25).all()

    def total(params):
        return (T.perspective(jnp.array(IMAGE), params) ** 2).sum()

    assert jnp.isfinite(jax.jit(jax.grad(total))(params).offsets).all()


def test_corners_are_drawn_inwards_as_torchvision_does() -> None:
    keys = jax.random.split(jax.random.key(2), 10_000)
    draw = functools.partial(T.perspective_params, magnitude=0.3)
    offsets = np.asarray(jax.jit(jax.vmap(draw))(keys).offsets)
    inwards = offsets * [[[1, 1], [1, -1]], [[-1, 1], [-1, -1]]]
    assert inwards.min() >= 0
    for drawn in inwards.reshape(len(keys), 8).T:
        assert stats.kstest(drawn, stats.uniform(0, 0.3).cdf).pvalue > 1e-3


# --- What is refused

ONE = jnp.zeros((8, 8, 3))
BYTES = ONE.astype(jnp.uint8)
CASES = {
    "fill unused": (lambda: T.rotate(ONE, 0.1, fill=1), "Pass border='constant'"),
    "fill of two": (
        lambda: T.rotate(ONE, 0.1, border="constant", fill=(1, 2)),
        "fill must be one number, or have one value for each of the 3 channels; got "
        "shape (2,)",
    ),
    "fill of a byte": (
        lambda: T.rotate(BYTES, 0.1, border="constant", fill=(0, 0, 256)),
        "from 0 to 255 for uint8 images; got (0, 0, 256)",
    ),
    "fill between": (lambda: T.random_erase(KEY, BYTES, fill=0.5), "whole number"),
    "fill of a mask": (lambda: T.random_erase(KEY, ONE > 0, fill=2), "from 0 to 1 for"),
    "scale": (lambda: T.affine(ONE, T.AffineParams(0, (0, 0), 0, (0, 0))), "above 0"),
    "scales": (lambda: T.affine_params(KEY, scale=(1.2, 0.8)), "low <= high"),
    "translate": (
        lambda: T.random_affine(KEY, ONE, max_translate=(0.1, -0.1)),
        "max_translate must be at least 0; got -0.1",
    ),
    "shear of one": (
        lambda: T.affine(ONE, T.AffineParams(0, (0, 0), 1, 0.2)),
        "shear must be two numbers (y, x); got shape ()",
    ),
    "corners": (
        lambda: T.perspective(ONE, T.PerspectiveParams(jnp.zeros((4, 2)))),
        "offsets must have the shape (2, 2, 2)",
    ),
    "magnitude": (lambda: T.perspective_params(KEY, magnitude=0.6), "at most 0.5"),
    "one row": (lambda: T.random_perspective(KEY, ONE[:1]), "at least 2x2"),
    "padding": (
        lambda: T.random_pad_and_crop(KEY, ONE, padding=-1),
        "padding must be one side or (height, width), each at least 0; got -1",
    ),
    "padded crop": (
        lambda: T.random_pad_and_crop(KEY, ONE, padding=1, size=11),
        "image of 10x10; got 11x11",
    ),
    "centre": (lambda: T.center_crop(ONE, 9), "image of 8x8; got 9x9"),
    "size": (lambda: T.resize(ONE, 0), "each at least 1; got 0"),
    "cutout": (lambda: T.random_cutout(KEY, ONE, size=0), "each at least 1; got 0"),
    "erased share": (lambda: T.random_erase(KEY, ONE, scale=(2, 33)), "at most 1"),
    "cutmix shapes": (
        lambda: T.random_cutmix(KEY, ONE, ONE[:4]),
        "first and second must have the same shapes; got (8, 8, 3) and (4, 8, 3)",
    ),
    "cutmix alpha": (lambda: T.cutmix_params(KEY, image_size=8, alpha=0), "above 0"),
    "std": (lambda: T.normalize(ONE, 0.5, 0.0), "std must be above 0; got 0.0"),
}


@pytest.mark.parametrize("case", CASES)
def test_value_errors(case: str, monkeypatch) -> None:
    """One line, as users see it: without the shape checks that pytest adds."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, expected = CASES[case]
    with pytest.raises(ValueError, match=re.escape(expected)) as caught:
        jax.eval_shape(call)
    assert "\n" not in str(caught.value)


def test_normalize_takes_numbers() -> None:
    """One for all channels is that number for each; also traced."""
    expected = (IMAGE - 0.4) / np.float32([0.2, 0.2, 0.2])
    normalize = jax.jit(T.normalize)
    for mean, std in ((0.4, 0.2), (0.4, (0.2, 0.2, 0.2)), (jnp.full(3, 0.4), 0.2)):
        got = normalize(jnp.array(IMAGE), mean, std)
        np.testing.assert_allclose(got, expected, atol=1e-6)


# --- What lies outside


def test_fill_is_what_scipy_puts_outside() -> None:
    """One number and one a channel, traced and not; near the border it is blended."""
    rng = np.random.default_rng(3)
    coords = rng.uniform(-3, 16, (9, 8, 2)).astype(np.float32)
    sample = jax.jit(functools.partial(T.bilinear_sample, border="constant"))
    expected = _sampled(IMAGE, coords.astype(np.float64), "constant")
    sampled = sample(jnp.array(IMAGE), jnp.array(coords), fill=jnp.array(FILL))
    np.testing.assert_allclose(sampled, expected, atol=1e-5)
    for c, fill in enumerate(FILL):
        sampled = sample(jnp.array(IMAGE), jnp.array(coords), fill=fill)
        np.testing.assert_allclose(sampled[..., c], expected[..., c], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint32])
def test_fill_is_exact_in_every_integer_dtype(dtype) -> None:
    info = np.iinfo(dtype)
    image = np.full((3, 4, 2), 7, dtype)
    coords = jnp.array([[[1.0, 2.0], [-1.0, 0.0], [1.0, 99.0]]])
    fill = (int(info.max), int(info.min))
    sample = functools.partial(T.bilinear_sample, border="constant", fill=fill)
    sampled = jax.jit(sample)(jnp.array(image), coords)
    assert sampled.dtype == dtype
    np.testing.assert_array_equal(sampled, [[[7, 7], fill, fill]])


def test_a_traced_fill_is_rounded_into_the_range_of_integers() -> None:
    image = jnp.zeros((4, 4, 1), jnp.uint8)
    params = T.AffineParams(0, (2, 2), 1, (0, 0))
    apply = jax.jit(functools.partial(T.affine, params=params, border="constant"))
    for fill, expected in ((3.6, 4), (-2.0, 0), (1000.0, 255)):
        assert (apply(image, fill=fill) == expected).all()


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_a_fill_that_is_no_number_stays_outside(fill: float) -> None:
    """So that pixels from outside can be told, and left out of a loss."""
    params = T.AffineParams(0, (0, 0.5), 1, (0, 0))
    move = functools.partial(T.affine, border="constant", fill=fill)
    moved = jax.jit(move)(jnp.array(IMAGE), params)
    np.testing.assert_array_equal(moved[:, 7:], IMAGE[:, :7])
    assert not jnp.isfinite(moved[:, :7]).any()


def test_the_gradient_in_fill_is_the_share_of_the_outside() -> None:
    def total(fill):
        params = T.WarpParams(jnp.full((2, 2, 2), 0.25))
        moved = T.warp(jnp.ones((8, 8, 3)), params, border="constant", fill=fill)
        return moved.sum()

    np.testing.assert_allclose(jax.jit(jax.grad(total))(jnp.zeros(3)), 28, rtol=1e-5)


RANDOM = ("affine", "free_warp", "perspective", "rotate", "warp")


@pytest.mark.parametrize("name", RANDOM)
def test_every_random_warp_hands_fill_on(name: str) -> None:
    """Of a black image, all that is white comes from outside."""
    draw = functools.partial(getattr(T, f"random_{name}"), border="constant")
    black, key = jnp.zeros((9, 9, 1)), jax.random.key(4)
    apply = jax.jit(lambda fill: draw(key, black, fill=fill)[0])
    white = apply(1.0)
    np.testing.assert_allclose(apply(-2.0), -2 * white, atol=1e-5)
    assert 0 < white.max() <= 1 + 1e-6
