"""The warps against SciPy's splines; bounds, folding, inverse, distributions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from scipy.interpolate import RBFInterpolator

from jaxssl import transforms as T  # noqa: N812
from jaxssl.transforms import polyharmonic

# Compiled as a whole: faster here than operation by operation.
free_warp_flow = jax.jit(T.free_warp_flow, static_argnums=1, static_argnames="stride")

KERNELS = {1: "linear", 2: "thin_plate_spline", 3: "cubic"}


def _pixels(size: tuple[int, int]) -> np.ndarray:
    return np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1).astype(float)


def _nodes(grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    axes = [np.linspace(0, s - 1, g) for g, s in zip(grid, size, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def _scipy_flow(nodes, values, positions, order=2, smoothing=0.0, length=1.0):
    """Interpolate with SciPy, distances measured in units of ``length``."""
    spline = RBFInterpolator(
        nodes / length, values, kernel=KERNELS[order], degree=1, smoothing=smoothing
    )
    return spline(positions.reshape(-1, 2) / length).reshape(*positions.shape)


# --- Control points on a grid


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    ("grid", "size"), [((4, 4), (32, 32)), ((2, 2), (9, 9)), ((3, 5), (20, 33))]
)
def test_flow_matches_scipy(order: int, grid, size) -> None:
    params = T.warp_params(jax.random.key(order), grid=grid)
    values = np.asarray(params.offsets, np.float64).reshape(-1, 2) * size
    expected = _scipy_flow(_nodes(grid, size), values, _pixels(size), order)
    operator = polyharmonic.grid_operator(grid, size, order)
    assert operator.dtype == np.float64
    np.testing.assert_allclose(
        (operator @ values).reshape(*size, 2), expected, atol=1e-10
    )
    flow = T.warp_flow(params, size, order=order)
    assert flow.dtype == jnp.float32
    np.testing.assert_allclose(flow, expected, atol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_coordinate_form_matches_scipy_off_the_grid(order: int) -> None:
    size = (40, 30)
    params = T.warp_params(jax.random.key(order))
    values = np.asarray(params.offsets, np.float64).reshape(-1, 2) * size
    positions = np.random.default_rng(0).uniform(-3, 40, (20, 7, 2))
    expected = _scipy_flow(_nodes((4, 4), size), values, positions, order)
    given_ = jnp.array(positions, jnp.float32)
    flow = T.warp_coords(params, order=order).pull(given_, size) - given_
    np.testing.assert_allclose(flow, expected, atol=3e-4 if order == 3 else 3e-5)


def test_warp_matches_scipy_from_end_to_end() -> None:
    size = (24, 18)
    image = np.random.default_rng(0).uniform(size=(*size, 3)).astype(np.float32)
    params = T.warp_params(jax.random.key(5), grid=(3, 4), magnitude=0.12)
    values = np.asarray(params.offsets, np.float64).reshape(-1, 2) * size
    positions = _pixels(size)
    positions += _scipy_flow(_nodes((3, 4), size), values, positions)
    expected = np.stack(
        [
            ndimage.map_coordinates(
                image[..., c], np.moveaxis(positions, -1, 0), order=1, mode="nearest"
            )
            for c in range(3)
        ],
        axis=-1,
    )
    np.testing.assert_allclose(T.warp(jnp.array(image), params), expected, atol=1e-4)


def test_control_points_show_the_input_at_their_offset() -> None:
    params = T.warp_params(jax.random.key(0))
    for order in (1, 2, 3):
        flow = np.asarray(T.warp_flow(params, 31, order=order))
        at_nodes = flow[::10, ::10]
        np.testing.assert_allclose(at_nodes, 31 * np.asarray(params.offsets), atol=1e-5)


def test_constant_offsets_shift_by_that_constant() -> None:
    offsets = jnp.broadcast_to(jnp.array([2 / 16, -3 / 16]), (4, 4, 2))
    image = jax.random.uniform(jax.random.key(0), (16, 16, 3))
    flow = T.warp_flow(T.WarpParams(offsets), 16)
    np.testing.assert_allclose(flow, np.broadcast_to([2.0, -3.0], (16, 16, 2)), 1e-6)
    shifted = T.warp(image, T.WarpParams(offsets))
    np.testing.assert_allclose(shifted[:-2, 3:], image[2:, :-3], atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    order=st.sampled_from([1, 2, 3]),
    magnitude=st.floats(0.0, 0.5),
)
def test_flow_stays_below_its_bound(seed: int, order: int, magnitude: float) -> None:
    documented = {1: 1.25, 2: 1.68, 3: 1.95}[order]
    offsets = np.random.default_rng(seed).choice([-magnitude, magnitude], (16, 2))
    flow = polyharmonic.grid_operator((4, 4), (32, 32), order) @ (offsets * 32)
    assert np.abs(flow).max() <= (documented + 5e-3) * magnitude * 32 + 1e-9


@pytest.mark.parametrize(("order", "bound"), [(1, 1.25), (2, 1.68), (3, 1.95)])
def test_documented_bound_is_the_operators_norm(order: int, bound: float) -> None:
    operator = polyharmonic.grid_operator((4, 4), (64, 64), order)
    assert np.abs(operator).sum(axis=1).max() == pytest.approx(bound, abs=5e-3)
    np.testing.assert_allclose(operator.sum(axis=1), 1, atol=1e-11)


def _folded(order: int, grid, magnitude: float, count: int) -> float:
    """Return the share of random warps with a Jacobian that is not positive."""
    rng = np.random.default_rng(0)
    operator = polyharmonic.grid_operator(grid, (32, 32), order)
    offsets = rng.uniform(-magnitude, magnitude, (count, grid[0] * grid[1], 2))
    mapped = (operator @ (offsets * 32)).reshape(count, 32, 32, 2) + _pixels((32, 32))
    down = np.diff(mapped, axis=1)[:, :, :-1]
    across = np.diff(mapped, axis=2)[:, :-1]
    jacobian = down[..., 0] * across[..., 1] - down[..., 1] * across[..., 0]
    return float((jacobian <= 0).any(axis=(1, 2)).mean())


def test_default_warp_hardly_folds_and_fine_grids_do() -> None:
    assert _folded(2, (4, 4), 0.1, 400) <= 0.03
    assert _folded(2, (4, 4), 1 / 16, 400) == 0
    assert _folded(2, (8, 8), 0.1, 50) == 1


def test_same_params_warp_another_size_alike() -> None:
    params = T.warp_params(jax.random.key(3))
    small, large = T.warp_flow(params, 21), T.warp_flow(params, 41)
    # Positions scale with side - 1, offsets with the side.
    np.testing.assert_allclose(small / 21, large[::2, ::2] / 41, atol=1e-6)


def test_operator_is_cached_and_protected() -> None:
    operator = polyharmonic.grid_operator((4, 4), (8, 8), 2)
    assert polyharmonic.grid_operator((4, 4), (8, 8), 2) is operator
    with pytest.raises(ValueError, match="read-only"):
        operator[0, 0] = 1


def test_compiled_warp_has_four_gathers_and_no_loop() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    images = jnp.zeros((3, 16, 16, 3))
    compiled = jax.jit(jax.vmap(T.random_warp)).lower(keys, images).compile()
    assert 1 <= len(re.findall(r"\bgather\(", compiled.as_text())) <= 4
    params = jax.vmap(T.warp_params)(keys)
    compiled = jax.jit(jax.vmap(T.warp)).lower(images, params).compile()
    assert 1 <= len(re.findall(r"\bgather\(", compiled.as_text())) <= 4
    assert not re.search(r"\bwhile\(", compiled.as_text())


@pytest.mark.optimised
def test_compiled_warp_needs_little_memory() -> None:
    """64 images at 224 pixels, less than 8 times their own bytes."""
    images = jax.ShapeDtypeStruct((64, 224, 224, 3), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 64))
    warp = jax.jit(jax.vmap(lambda key, image: T.random_warp(key, image)[0]))
    memory = warp.lower(keys, images).compile().memory_analysis()
    own = 4 * images.size
    assert memory.output_size_in_bytes == own
    assert 0 < memory.temp_size_in_bytes < 8 * own


# --- Points


@pytest.mark.parametrize("order", [1, 2, 3])
def test_warped_points_are_where_the_warp_looks_at_them(order: int) -> None:
    size = (48, 64)
    params = T.warp_params(jax.random.key(order), magnitude=0.08)
    values = np.asarray(params.offsets, np.float64).reshape(-1, 2) * size
    points = np.random.default_rng(0).uniform(0, 47, (200, 2)).astype(np.float32)
    warped = T.warp_points(jnp.array(points), params, size=size, order=order, iters=40)
    warped = np.asarray(warped, np.float64)
    seen = warped + _scipy_flow(_nodes((4, 4), size), values, warped, order)
    assert np.quantile(np.linalg.norm(seen - points, axis=-1), 0.99) <= 1e-2


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bfloat16, jnp.float16])
def test_points_of_any_dtype_come_back_as_real_ones(dtype) -> None:
    params = T.warp_params(jax.random.key(0))
    points = np.random.default_rng(1).integers(0, 48, (20, 2))
    warped = T.warp_points(jnp.array(points, dtype), params, size=48)
    assert warped.dtype == jnp.float32
    expected = T.warp_points(jnp.array(points, jnp.float32), params, size=48)
    np.testing.assert_array_equal(warped, expected)
    with jax.enable_x64(True):
        wide = T.warp_points(jnp.array(points, np.float64), params, size=48)
        assert wide.dtype == jnp.float64
        np.testing.assert_allclose(wide, expected, atol=1e-4)


def test_documented_error_of_warped_points() -> None:
    def error(key, iters):
        params = T.warp_params(key)
        points = 63 * jax.random.uniform(key, (50, 2))
        warped = T.warp_points(points, params, size=64, iters=iters)
        exact = T.warp_points(points, params, size=64, iters=60)
        return jnp.linalg.norm(warped - exact, axis=-1)

    keys = jax.random.split(jax.random.key(1), 100)
    errors = jax.jit(jax.vmap(lambda key: [error(key, n) for n in (5, 10, 20)]))
    five, ten, twenty = map(np.asarray, errors(keys))
    assert np.median(five) <= 0.12
    assert np.median(ten) <= 0.006
    assert np.quantile(twenty, 0.99) <= 0.05


def test_bright_spot_moves_to_its_warped_point() -> None:
    y, x = np.meshgrid(np.arange(64), np.arange(64), indexing="ij")
    offsets = np.zeros((4, 4, 2), np.float32)
    offsets[1:3, 1:3] = [-0.1, 0.06]
    params = T.WarpParams(jnp.array(offsets))
    point = np.array([30.0, 35.0])
    image = np.exp(-((y - point[0]) ** 2 + (x - point[1]) ** 2) / 18)[..., None]
    warped = np.asarray(T.warp(jnp.array(image, jnp.float32), params))[..., 0]
    brightest = np.unravel_index(warped.argmax(), warped.shape)
    moved = T.warp_points(jnp.array(point, jnp.float32), params, size=64)
    assert np.abs(np.asarray(moved) - brightest).max() <= 1.0
    assert np.abs(point - brightest).max() > 3.0


# --- Control points anywhere


def _free(seed: int, size, num_points=16, magnitude=1 / 16):
    """Return parameters, their moved points and backward values, in pixels."""
    key = jax.random.key(seed)
    params = T.free_warp_params(key, num_points=num_points, magnitude=magnitude)
    shift = np.asarray(params.offsets, np.float64) * size
    last = np.array(size) - 1
    return params, np.asarray(params.points, np.float64) * last + shift, -shift


@pytest.mark.parametrize("seed", [0, 4])
@pytest.mark.parametrize(
    ("size", "regularization"), [((32, 32), 0.0), ((20, 28), 0.02)]
)
def test_free_flow_matches_scipy(seed: int, size, regularization: float) -> None:
    params, moved, values = _free(seed, size)
    length = max(size) - 1
    expected = _scipy_flow(
        moved, values, _pixels(size), smoothing=regularization, length=length
    )
    flow = free_warp_flow(params, size, regularization=regularization)
    np.testing.assert_allclose(flow, expected, atol=1e-3)
    grid = jnp.array(_pixels(size), jnp.float32)

    @jax.jit
    def pull(params, grid):
        maps = T.free_warp_coords(params, regularization=regularization)
        return maps.pull(grid, size)

    np.testing.assert_allclose(pull(params, grid) - grid, expected, atol=1e-3)


def test_free_warp_shows_each_point_where_it_moved() -> None:
    params, moved, values = _free(1, (40, 40))
    positions = jnp.array(moved, jnp.float32)[None]
    seen = T.free_warp_coords(params).pull(positions, (40, 40))[0]
    np.testing.assert_allclose(seen, moved + values, atol=1e-3)


def test_regularization_tames_the_flow() -> None:
    params, _, _ = _free(2, (64, 64))
    loose = np.abs(free_warp_flow(params, 64)).max()
    tight = np.abs(free_warp_flow(params, 64, regularization=0.02)).max()
    assert tight < 0.6 * loose


@pytest.mark.parametrize(("stride", "documented"), [(2, 0.014), (4, 0.056)])
def test_documented_error_of_strides(stride: int, documented: float) -> None:
    def error(key):
        params = T.free_warp_params(key)
        exact = free_warp_flow(params, 64)
        return jnp.abs(free_warp_flow(params, 64, stride=stride) - exact).mean()

    errors = jax.jit(jax.vmap(error))(jax.random.split(jax.random.key(0), 64))
    assert 0.3 * documented < float(errors.mean()) < 1.5 * documented


@pytest.mark.parametrize("size", [(13, 9), (2, 3)])
def test_stride_is_exact_at_its_nodes(size: tuple[int, int]) -> None:
    params, _, _ = _free(3, size)
    exact, coarse = (free_warp_flow(params, size, stride=s) for s in (1, 4))
    assert coarse.shape == (*size, 2)
    np.testing.assert_allclose(coarse[::4, ::4], exact[::4, ::4], atol=1e-4)
    middle = (exact[:-4:4] + exact[4::4])[:, ::4] / 2
    np.testing.assert_allclose(coarse[2:-2:4, ::4][: len(middle)], middle, atol=1e-4)


def test_coinciding_points_need_regularization() -> None:
    points = jnp.array([[0.1, 0.1], [0.9, 0.1], [0.5, 0.9], [0.5, 0.9]])
    params = T.FreeWarpParams(points, 0.05 * jnp.ones((4, 2)))
    assert jnp.isfinite(free_warp_flow(params, 8, regularization=0.01)).all()


# --- What is drawn


def test_offsets_are_uniform() -> None:
    keys = jax.random.split(jax.random.key(0), 400)
    offsets = jax.vmap(lambda key: T.warp_params(key, magnitude=0.2))(keys).offsets
    assert offsets.shape == (400, 4, 4, 2)
    flat = np.asarray(offsets).reshape(-1, 2)
    for axis in range(2):
        uniform = stats.uniform(-0.2, 0.4)
        assert stats.kstest(flat[:, axis], uniform.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(flat.T)[0, 1]) < 0.05


def test_free_points_and_offsets_are_uniform_and_independent() -> None:
    keys = jax.random.split(jax.random.key(0), 400)
    params = jax.vmap(T.free_warp_params)(keys)
    assert params.points.shape == params.offsets.shape == (400, 16, 2)
    points, offsets = (np.asarray(x).reshape(-1, 2) for x in params)
    for axis in range(2):
        assert stats.kstest(points[:, axis], stats.uniform().cdf).pvalue > 1e-3
        uniform = stats.uniform(-1 / 16, 1 / 8)
        assert stats.kstest(offsets[:, axis], uniform.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(points[:, 0], offsets[:, 0])[0, 1]) < 0.05
