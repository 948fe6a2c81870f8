"""bilinear_sample and geometric_chain against SciPy, OpenCV and plain indexing."""

import re

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxssl import transforms as T  # noqa: N812

# SciPy's names: "grid-constant" interpolates towards 0 beyond the outermost centres.
SCIPY_MODE = {"edge": "nearest", "constant": "grid-constant", "reflect": "mirror"}
CV2_BORDER = {
    "edge": cv2.BORDER_REPLICATE,
    "constant": cv2.BORDER_CONSTANT,
    "reflect": cv2.BORDER_REFLECT_101,
}


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def _coords(seed: int, size, height: int, width: int, reach: float) -> np.ndarray:
    """Draw positions in the image and up to ``reach`` sides outside of it."""
    uniform = np.random.default_rng(seed).uniform(-reach, 1 + reach, (*size, 2))
    return (uniform * [height, width]).astype(np.float32)


def _scipy_sample(image: np.ndarray, coords: np.ndarray, border: str) -> np.ndarray:
    planes = [
        ndimage.map_coordinates(
            image[..., c].astype(np.float64),
            np.moveaxis(coords.astype(np.float64), -1, 0),
            order=1,
            mode=SCIPY_MODE[border],
        )
        for c in range(image.shape[-1])
    ]
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize("border", list(SCIPY_MODE))
@pytest.mark.parametrize(("height", "width"), [(9, 14), (2, 2), (1, 5), (1, 1)])
def test_matches_scipy(border: str, height: int, width: int) -> None:
    if border == "reflect" and min(height, width) == 1:
        expected_border = "edge"  # Nothing to mirror: SciPy has no answer for length 1.
    else:
        expected_border = border
    image = _image(0, (height, width, 3))
    coords = _coords(1, (11, 8), height, width, 1.7)
    if expected_border != border:
        coords[..., 1 if height == 1 else 0] %= max(height, width) - 1 or 1
    sampled = T.bilinear_sample(jnp.array(image), jnp.array(coords), border=border)
    expected = _scipy_sample(image, coords, expected_border)
    np.testing.assert_allclose(sampled, expected, atol=1e-5)


@pytest.mark.parametrize("border", list(CV2_BORDER))
def test_matches_opencv(border: str) -> None:
    image = _image(2, (17, 23, 3))
    coords = _coords(3, (12, 20), 17, 23, 0.3)
    coords = np.round(coords * 32) / 32  # OpenCV may quantise positions to 1/32.
    sampled = T.bilinear_sample(jnp.array(image), jnp.array(coords), border=border)
    expected = cv2.remap(
        image,
        coords[..., 1].astype(np.float32),
        coords[..., 0].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=CV2_BORDER[border],
    )
    np.testing.assert_allclose(sampled, expected, atol=1e-5)


@pytest.mark.parametrize("border", list(SCIPY_MODE))
def test_integers_are_rounded_to_the_nearest(border: str) -> None:
    image = np.random.default_rng(4).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    coords = _coords(5, (15, 15), 8, 9, 0.5)
    sampled = T.bilinear_sample(jnp.array(image), jnp.array(coords), border=border)
    expected = _scipy_sample(image, coords, border)
    assert sampled.dtype == jnp.uint8
    assert np.abs(np.asarray(sampled, np.float64) - expected).max() <= 0.5 + 1e-4


def test_half_precision_is_accumulated_in_float32() -> None:
    image = jnp.array(_image(6, (8, 8, 3))).astype(jnp.bfloat16)
    coords = jnp.array(_coords(7, (9, 9), 8, 8, 0.2))
    wide = T.bilinear_sample(image.astype(jnp.float32), coords)
    np.testing.assert_array_equal(
        T.bilinear_sample(image, coords).astype(jnp.float32),
        wide.astype(jnp.bfloat16).astype(jnp.float32),
    )


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
@pytest.mark.parametrize("border", list(SCIPY_MODE))
def test_large_integers_are_exact_at_pixel_centres(dtype, border: str) -> None:
    """Where float32 has no room; so class masks may be warped to the nearest pixel."""
    info, rng = np.iinfo(dtype), np.random.default_rng(5)
    image = rng.integers(info.min, info.max, (7, 9, 2), dtype, endpoint=True)
    grid = np.stack(np.meshgrid(np.arange(7), np.arange(9), indexing="ij"), axis=-1)
    coords = jnp.array(grid, jnp.float32)
    same = T.bilinear_sample(jnp.array(image), coords, border=border)
    np.testing.assert_array_equal(same, image)

    params = T.warp_params(jax.random.key(2), magnitude=0.05)
    nearest = T.CoordMap(lambda coords, size: jnp.round(coords))
    maps = [nearest, T.warp_coords(params)]
    warped = T.geometric_chain(jnp.array(image), maps, border="edge")
    flow = T.warp_flow(params, (7, 9))
    y, x = np.moveaxis(np.round(grid + np.asarray(flow)).astype(int), -1, 0)
    expected = image[np.clip(y, 0, 6), np.clip(x, 0, 8)]
    np.testing.assert_array_equal(warped, expected)


def test_derivative_at_pixel_centres_is_the_documented_one() -> None:
    """Towards larger coordinates; half of it on the first pixel, 0 on the last."""
    row = _image(8, (1, 6, 1))

    def value(x, border):
        coords = jnp.stack([jnp.zeros(()), x])[None, None]
        return T.bilinear_sample(jnp.array(row), coords, border=border).sum()

    steps = np.diff(row.ravel())
    for border in SCIPY_MODE:
        slope = jax.jit(jax.grad(value), static_argnums=1)
        for x in (1, 2, 3, 4):
            np.testing.assert_allclose(slope(float(x), border), steps[x], atol=1e-6)
    np.testing.assert_allclose(slope(0.0, "edge"), steps[0] / 2, atol=1e-6)
    assert slope(5.0, "edge") == 0


def test_masks_may_be_boolean() -> None:
    mask = jnp.array([[[True], [False]]])
    coords = jnp.array([[[0.0, 0.4], [0.0, 0.6]]])
    assert T.bilinear_sample(mask, coords)[0, :, 0].tolist() == [True, False]


@pytest.mark.parametrize("border", list(SCIPY_MODE))
@pytest.mark.parametrize("far", [1e9, -1e9, 1e30, np.inf, -np.inf, np.nan])
def test_far_positions_stay_inside_of_memory(border: str, far: float) -> None:
    image = jnp.array(_image(8, (5, 6, 2)))
    coords = jnp.array([[[far, 2.0], [1.0, far]]], jnp.float32)
    sampled = T.bilinear_sample(image, coords, border=border)
    assert jnp.isfinite(sampled).all() or not np.isfinite(far)
    if border == "constant" and not np.isnan(far):
        assert (sampled == 0).all()
    if np.isnan(far):
        assert jnp.isnan(sampled).all()
    integers = (image * 255).astype(jnp.uint8)
    assert T.bilinear_sample(integers, coords, border=border).shape == (
        1,
        2,
        2,
    )


@pytest.mark.parametrize("border", list(SCIPY_MODE))
def test_gradients_are_finite_at_centres_and_far_outside(border: str) -> None:
    def total(image, coords):
        return (T.bilinear_sample(image, coords, border=border) ** 2).sum()

    image = jnp.array(_image(9, (4, 4, 1)))
    coords = jnp.array(
        [[[0, 0], [3, 3], [1, 2], [-1, 4]], [[1e6, -1e6], [-3, -3], [6, 6], [0.5, 3]]],
        jnp.float32,
    )
    for gradient in jax.grad(total, (0, 1))(image, coords):
        assert jnp.isfinite(gradient).all()


def test_gradient_in_the_image_is_the_transpose() -> None:
    image = jnp.array(_image(10, (6, 7, 2)))
    coords = jnp.array(_coords(11, (5, 5), 6, 7, 0.2))
    cotangent = jnp.array(_image(12, (5, 5, 2)))
    _, pull = jax.vjp(lambda image: T.bilinear_sample(image, coords), image)
    matrix = np.stack(  # Column by column, from images with a single bright pixel.
        [
            np.ravel(T.bilinear_sample(jnp.array(one.reshape(6, 7, 2)), coords))
            for one in np.eye(84, dtype=np.float32)
        ],
        axis=1,
    )
    expected = (matrix.T @ np.ravel(cotangent)).reshape(6, 7, 2)
    np.testing.assert_allclose(pull(cotangent)[0], expected, atol=1e-5)


# --- geometric_chain


def test_exact_maps_compose_exactly() -> None:
    image = jnp.arange(7 * 9 * 2, dtype=jnp.uint8).reshape(7, 9, 2)
    maps = [
        T.rot90_coords(1),
        T.crop_coords((2, 1), (6, 4)),
        T.hflip_coords(),
        T.vflip_coords(jnp.array(True)),
        T.crop_coords(jnp.array([1, 0]), (4, 4)),
        T.rot90_coords(jnp.array(3)),
        T.rot90_coords(-2),
    ]
    expected = np.rot90(image)[2:8, 1:5][::-1, ::-1][1:5]
    expected = np.rot90(np.rot90(expected, 3), -2)
    np.testing.assert_array_equal(T.geometric_chain(image, maps), expected)


def test_view_matches_coordinates_written_by_hand() -> None:
    """Warp, rotate, crop, flip: the pretext task's view, by NumPy and SciPy."""
    side, size, angle, top_left = 24, (15, 18), 0.2, np.array([3.3, 2.6])
    image = _image(13, (side, side, 3))
    warp = T.warp_params(jax.random.key(0))
    view = T.geometric_chain(
        jnp.array(image),
        [
            T.warp_coords(warp),
            T.rotate_coords(angle),
            T.crop_coords(jnp.array(top_left), size),
            T.hflip_coords(jnp.array(True)),
        ],
        border="reflect",
    )
    y, x = np.meshgrid(np.arange(15.0), np.arange(18.0)[::-1], indexing="ij")
    y, x = y + top_left[0] - 11.5, x + top_left[1] - 11.5
    turned = np.stack(
        [
            np.cos(angle) * y + np.sin(angle) * x + 11.5,
            np.cos(angle) * x - np.sin(angle) * y + 11.5,
        ],
        axis=-1,
    )
    nodes = np.stack(np.meshgrid(*[np.linspace(0, 23, 4)] * 2, indexing="ij"), -1)
    flow = _thin_plate(nodes.reshape(-1, 2), side * np.array(warp.offsets), turned)
    expected = _scipy_sample(image, turned + flow, "reflect")
    np.testing.assert_allclose(view, expected, atol=1e-4)


def _thin_plate(nodes, offsets, positions):
    from scipy.interpolate import RBFInterpolator

    spline = RBFInterpolator(
        nodes, offsets.reshape(-1, 2), kernel="thin_plate_spline", degree=1
    )
    return spline(positions.reshape(-1, 2)).reshape(positions.shape)


def test_border_is_applied_once() -> None:
    """A crop after a rotation sees pixels of the image, not of a made-up border."""
    image = jnp.array(_image(14, (12, 12, 1)))
    there_and_back = [T.rotate_coords(0.6), T.rotate_coords(-0.6)]
    chained = T.geometric_chain(image, there_and_back, border="constant")
    np.testing.assert_allclose(chained, image, atol=1e-5)


def test_own_maps_may_be_added() -> None:
    image = jnp.array(_image(15, (6, 8, 1)))
    half = T.CoordMap(lambda coords, size: 2 * coords, lambda size: (3, 4))
    np.testing.assert_array_equal(
        T.geometric_chain(image, [T.hflip_coords(), half]),
        image[::2, ::-1][:, ::2],
    )


def test_no_maps_return_the_image() -> None:
    image = jnp.array(_image(16, (4, 5, 3)))
    np.testing.assert_array_equal(T.geometric_chain(image, []), image)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_view_compiles_to_four_gathers(dtype: jnp.dtype) -> None:
    def view(image, warp, angle, top_left, flip):
        maps = [
            T.warp_coords(warp),
            T.rotate_coords(angle),
            T.crop_coords(top_left, (8, 8)),
            T.hflip_coords(flip),
        ]
        return T.geometric_chain(image, maps)

    arguments = (
        jnp.zeros((3, 10, 10, 3), dtype),
        jax.vmap(T.warp_params)(jax.random.split(jax.random.key(0), 3)),
        jnp.zeros(3),
        jnp.zeros((3, 2)),
        jnp.zeros(3, bool),
    )
    text = jax.jit(jax.vmap(view)).lower(*arguments).compile().as_text()
    assert 1 <= len(re.findall(r"\bgather\(", text)) <= 4
    assert not re.search(r"\bwhile\(", text)
