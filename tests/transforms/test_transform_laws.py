"""Laws that every public transform obeys; a new name must join to pass.

`EXAMPLES` holds one way to call each transform, with how its parameters are drawn.
`test_every_public_name_is_covered` fails for a public name that is neither covered by
an example nor listed in `OTHERS` with the file that tests it.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import transforms as T  # noqa: N812

SIDE = 10
CROP = (6, 7)


class Example(NamedTuple):
    """One transform as ``apply(image, params)``.

    Attributes:
      covers: public names that the example exercises.
      apply: deterministic.
      sample: ``sample(key) -> params``; None where there is nothing to draw.
      random: ``random(key, image) -> (image, params)``, if there is one.
      identity: parameters that return the image bit by bit, if there are any.
      smooth: whether it may be differentiated in its floating-point parameters.
    """

    covers: set[str]
    apply: Callable[[Any, Any], Any]
    sample: Callable[[Any], Any] | None = None
    random: Callable[[Any, Any], Any] | None = None
    identity: Any = None
    smooth: bool = False


def _fractional_corner(key):
    return jax.random.uniform(key, (2,), maxval=3.0)


def _positions(key):
    return jax.random.uniform(key, (5, 6, 2), minval=-2.0, maxval=SIDE + 1.0)


def _all_pixels():
    axes = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    return jnp.array(np.stack(axes, axis=-1), jnp.float32)


class View(NamedTuple):
    """The parameters of the pretext task's view."""

    warp: T.WarpParams
    angle: Any
    top_left: Any
    flip: Any


def _view(image, view):
    maps = [
        T.warp_coords(view.warp),
        T.rotate_coords(view.angle),
        T.crop_coords(view.top_left, CROP),
        T.hflip_coords(view.flip),
    ]
    return T.geometric_chain(image, maps)


def _view_params(key):
    first, second, third, fourth = jax.random.split(key, 4)
    return View(
        T.warp_params(first, grid=(2, 3)),
        T.rotate_params(second).angle,
        _fractional_corner(third),
        T.hflip_params(fourth).flip,
    )


def _corner_params(key):
    return T.crop_params(key, image_size=SIDE, size=CROP)


# Few control points: the splines are unrolled over them, and compilation is what costs.
NO_SHIFT = T.WarpParams(jnp.zeros((2, 3, 2)))
STILL = T.FreeWarpParams(
    jax.random.uniform(jax.random.key(9), (5, 2)), jnp.zeros((5, 2))
)
OFF = jnp.array(False)
few_points = functools.partial(T.free_warp_params, num_points=5)
small_grid = functools.partial(T.warp_params, grid=(2, 3))

EXAMPLES = {
    "hflip": Example(
        {"hflip", "hflip_params", "random_hflip", "FlipParams"},
        lambda image, params: T.hflip(image, *params),
        T.hflip_params,
        T.random_hflip,
        T.FlipParams(OFF),
    ),
    "vflip": Example(
        {"vflip", "vflip_params", "random_vflip"},
        lambda image, params: T.vflip(image, *params),
        T.vflip_params,
        T.random_vflip,
        T.FlipParams(OFF),
    ),
    "hflip_coords": Example(
        {"hflip_coords"},
        lambda image, params: T.geometric_chain(image, [T.hflip_coords(*params)]),
        T.hflip_params,
        identity=T.FlipParams(OFF),
    ),
    "vflip_coords": Example(
        {"vflip_coords"},
        lambda image, params: T.geometric_chain(image, [T.vflip_coords(*params)]),
        T.vflip_params,
        identity=T.FlipParams(OFF),
    ),
    "rot90": Example(
        {"rot90", "rot90_params", "random_rot90", "Rot90Params"},
        lambda image, params: T.rot90(image, *params),
        T.rot90_params,
        T.random_rot90,
        T.Rot90Params(jnp.array(-4)),
    ),
    "rot90_coords": Example(
        {"rot90_coords"},
        lambda image, params: T.geometric_chain(image, [T.rot90_coords(*params)]),
        T.rot90_params,
        identity=T.Rot90Params(jnp.array(8)),
    ),
    "all_rotations": Example(
        {"all_rotations"}, lambda image, params: T.all_rotations(image)
    ),
    "rotate": Example(
        {"rotate", "rotate_params", "random_rotate", "RotateParams", "rotate_coords"},
        lambda image, params: T.rotate(image, *params),
        T.rotate_params,
        T.random_rotate,
        T.RotateParams(jnp.array(0.0)),
        smooth=True,
    ),
    "crop": Example(
        {"crop", "crop_params", "random_crop", "CropParams"},
        lambda image, params: T.crop(image, *params, CROP),
        _corner_params,
        lambda key, image: T.random_crop(key, image, size=CROP),
    ),
    "crop_full": Example(
        set(),
        lambda image, params: T.crop(image, *params, SIDE),
        identity=T.CropParams(jnp.array([0, 0])),
    ),
    "crop_coords": Example(
        {"crop_coords"},
        lambda image, corner: T.geometric_chain(image, [T.crop_coords(corner, CROP)]),
        _fractional_corner,
        smooth=True,
    ),
    "warp": Example(
        {"warp", "warp_params", "random_warp", "WarpParams"},
        T.warp,
        small_grid,
        functools.partial(T.random_warp, grid=(2, 3)),
        NO_SHIFT,
        smooth=True,
    ),
    "warp_coords": Example(
        {"warp_coords"},
        lambda image, params: T.geometric_chain(
            image, [T.warp_coords(params, order=3)], border="reflect"
        ),
        small_grid,
        identity=NO_SHIFT,
        smooth=True,
    ),
    "free_warp": Example(
        {"free_warp", "free_warp_params", "random_free_warp", "FreeWarpParams"},
        T.free_warp,
        few_points,
        functools.partial(T.random_free_warp, num_points=5),
        STILL,
        smooth=True,
    ),
    "free_warp_coarse": Example(
        set(),
        lambda image, params: T.free_warp(
            image, params, stride=3, regularization=0.1, border="constant"
        ),
        few_points,
        identity=STILL,
    ),
    "free_warp_coords": Example(
        {"free_warp_coords"},
        lambda image, params: T.geometric_chain(
            image, [T.free_warp_coords(params, regularization=0.01)]
        ),
        few_points,
        identity=STILL,
        smooth=True,
    ),
    "geometric_chain": Example(
        {"geometric_chain", "CoordMap"}, _view, _view_params, smooth=True
    ),
    "bilinear_sample": Example(
        {"bilinear_sample"},
        T.bilinear_sample,
        _positions,
        identity=_all_pixels(),
        smooth=True,
    ),
    "bilinear_sample_reflect": Example(
        set(),
        lambda image, coords: T.bilinear_sample(image, coords, border="reflect"),
        _positions,
        identity=_all_pixels(),
        smooth=True,
    ),
    "bilinear_sample_constant": Example(
        set(),
        lambda image, coords: T.bilinear_sample(image, coords, border="constant"),
        _positions,
        identity=_all_pixels(),
        smooth=True,
    ),
    "extract_patch": Example(
        {"extract_patch"},
        lambda image, params: T.extract_patch(image, *params, CROP),
        _corner_params,
    ),
    "paste_patch": Example(
        {"paste_patch"},
        lambda image, params: T.paste_patch(image, image[..., 1:7, 2:9, :], *params),
        _corner_params,
        identity=T.CropParams(jnp.array([1, 2])),
    ),
    "erase_center": Example(
        {"erase_center"},
        lambda image, params: T.erase_center(image, image[..., 2:8, 4:, :], 2),
    ),
}

OTHERS = {
    "batched": "test_transform_compose.py",
    "border_mask": "test_transform_patches.py",
    "free_warp_flow": "test_transform_warp.py",
    "warp_flow": "test_transform_warp.py",
    "warp_points": "test_transform_warp.py",
}


def _image(dtype=jnp.float32, lead: tuple[int, ...] = (), seed: int = 0):
    shape = (*lead, SIDE, SIDE, 3)
    values = np.random.default_rng(seed).uniform(size=shape)
    if dtype == jnp.bool_:
        return jnp.array(values > 0.5)
    scale = 1 if jnp.issubdtype(dtype, jnp.floating) else 255
    return jnp.array(scale * values).astype(dtype)


def _params(example: Example, seed: int = 0):
    if example.sample is None:
        return example.identity
    return example.sample(jax.random.key(seed))


def _close(got, expected) -> None:
    """Compare up to rounding: one step for integers, float32 noise otherwise."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float64),
            np.asarray(b, np.float64),
            atol=1 if jnp.issubdtype(a.dtype, jnp.integer) else 1e-4,
        ),
        got,
        expected,
    )


def _equal(got, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def _pick(condition: Callable[[Example], bool]):
    names = [name for name, example in EXAMPLES.items() if condition(example)]
    return pytest.mark.parametrize("name", names)


def test_every_public_name_is_covered() -> None:
    covered = set().union(*(example.covers for example in EXAMPLES.values()))
    assert not covered & set(OTHERS)
    assert covered | set(OTHERS) == set(T.__all__)
    for name, file in OTHERS.items():
        assert f"T.{name}" in (Path(__file__).parent / file).read_text()
    public = {n for n in vars(T) if not n.startswith("_") and n in T.__all__}
    assert public == set(T.__all__)


@pytest.mark.parametrize("name", EXAMPLES)
def test_vmap_equals_loop_and_jit_equals_eager_with_one_trace(name: str) -> None:
    example, traces = EXAMPLES[name], []
    images = _image(lead=(3,))
    params = [_params(example, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    together = jax.jit(jax.vmap(example.apply))(images, stacked)

    @jax.jit
    def one(image, params):
        traces.append(None)
        return example.apply(image, params)

    for i in range(3):
        _close(together[i], one(images[i], params[i]))
    assert len(traces) == 1
    _close(together[0], example.apply(images[0], params[0]))


@pytest.mark.parametrize("name", EXAMPLES)
def test_leading_axes_share_the_parameters(name: str) -> None:
    example = EXAMPLES[name]
    clips, params = _image(lead=(2, 3)), _params(example)
    apply = jax.jit(example.apply)
    for clip, frames in zip(apply(clips, params), clips, strict=True):
        for one, frame in zip(clip, frames, strict=True):
            _close(one, apply(frame, params))


@pytest.mark.parametrize("name", EXAMPLES)
def test_dtype_is_kept_and_the_range_is_not_left(name: str) -> None:
    """Under strict promotion, so that no dtype is chosen by accident."""
    example = EXAMPLES[name]
    images = [_image(dtype) for dtype in (jnp.uint8, jnp.bool_, jnp.bfloat16)]
    apply = jax.jit(lambda images, params: [example.apply(i, params) for i in images])
    with jax.numpy_dtype_promotion("strict"):
        outputs = apply(images, _params(example))
    for image, out in zip(images, outputs, strict=True):
        assert out.dtype == image.dtype
        wide, source = np.asarray(out, np.float64), np.asarray(image, np.float64)
        assert min(0, source.min()) <= wide.min()
        assert wide.max() <= source.max()


@_pick(lambda example: example.identity is not None)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.uint8])
def test_identity_parameters_return_the_image_bit_by_bit(name: str, dtype) -> None:
    example, image = EXAMPLES[name], _image(dtype)
    _equal(example.apply(image, example.identity), image)
    _equal(jax.jit(example.apply)(image, example.identity), image)


@_pick(lambda example: example.random is not None)
def test_random_draws_apply_and_can_be_repeated(name: str) -> None:
    example, image = EXAMPLES[name], _image()
    random = jax.jit(example.random)
    image_1, params_1 = random(jax.random.key(1), image)
    image_2, params_2 = random(jax.random.key(1), image)
    _equal((image_1, params_1), (image_2, params_2))
    eager, drawn = example.random(jax.random.key(1), image)
    _equal(drawn, example.sample(jax.random.key(1)))
    _equal(example.apply(image, drawn), eager)
    _close((image_1, params_1), (eager, drawn))
    others = [random(jax.random.key(seed), image)[1] for seed in range(12)]
    distinct = {tuple(np.ravel(jax.tree.leaves(p)[0]).tolist()) for p in others}
    assert len(distinct) >= 2
    if jnp.issubdtype(jax.tree.leaves(drawn)[0].dtype, jnp.floating):
        assert len(distinct) == 12


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("random_hflip", {"prob": 0.3}),
        ("random_vflip", {"prob": 0.3}),
        ("random_rotate", {"max_angle": 0.3}),
        ("random_warp", {"magnitude": 0.1}),
        ("random_free_warp", {"magnitude": 0.1, "regularization": 0.01}),
    ],
)
def test_strengths_may_be_traced(name: str, options: dict[str, float]) -> None:
    traces = []

    @jax.jit
    def random(key, options):
        traces.append(None)
        return getattr(T, name)(key, _image(), **options)

    for factor in (1.0, 0.5):
        scaled = {option: factor * value for option, value in options.items()}
        image, _ = random(jax.random.key(0), scaled)
        expected, _ = jax.jit(
            lambda key, scaled=scaled: getattr(T, name)(key, _image(), **scaled)
        )(jax.random.key(0))
        _close(image, expected)
    assert len(traces) == 1


def _split(example: Example, params):
    """Split the parameters into those to differentiate in and all of them."""
    leaves = jax.tree.leaves(params)
    return [leaf for leaf in leaves if _is_smooth(example, leaf)], params


def _is_smooth(example: Example, leaf) -> bool:
    return example.smooth and jnp.issubdtype(leaf.dtype, jnp.floating)


def _joined(example: Example, values, params):
    """Put the values back among the parameters."""
    leaves, tree = jax.tree.flatten(params)
    values = iter(values)
    filled = [next(values) if _is_smooth(example, leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(tree, filled)


@pytest.mark.parametrize("name", EXAMPLES)
def test_gradients_are_finite_even_on_flat_images(name: str) -> None:
    example = EXAMPLES[name]

    @jax.jit
    def gradients(image, values, params):
        def energy(image, values):
            return (example.apply(image, _joined(example, values, params)) ** 2).sum()

        return jax.grad(energy, (0, 1))(image, values)

    choices = [_params(example)]
    if example.identity is not None:
        choices.append(example.identity)
    flat = np.zeros((SIDE, SIDE, 3), np.float32)
    for params in choices:
        for image in (_image(), jnp.array(flat), jnp.array(flat + 0.5)):
            for gradient in jax.tree.leaves(gradients(image, *_split(example, params))):
                assert np.isfinite(gradient).all()


def _wide(tree):
    """Return float64 copies of the floating-point leaves."""
    return jax.tree.map(
        lambda leaf: (
            jnp.array(np.asarray(leaf, np.float64))
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        ),
        tree,
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_gradients_match_finite_differences(name: str) -> None:
    """In float64, along one random direction of image and parameters together."""
    example, image, params = EXAMPLES[name], _image(), _params(EXAMPLES[name], 5)
    with jax.enable_x64(True):
        values, params = _split(example, _wide(params))
        point = (_wide(image), values)

        def apply(image, values):
            return example.apply(image, _joined(example, values, params))

        shape = jax.eval_shape(apply, *point)
        assert shape.dtype == jnp.float64
        rng = np.random.default_rng(0)
        step = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), point)
        weight = rng.normal(size=shape.shape)

        def total(moved):
            at = jax.tree.map(lambda a, b: a + moved * b, point, step)
            return (weight * apply(*at)).sum()

        eps = 1e-6

        @jax.jit
        def slopes(zero):
            numeric = (total(zero + eps) - total(zero - eps)) / (2 * eps)
            forward = jax.jvp(total, (zero,), (jnp.ones_like(zero),))[1]
            return numeric, forward, jax.grad(total)(zero)

        numeric, forward, reverse = slopes(np.zeros((), np.float64))
        np.testing.assert_allclose(forward, numeric, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reverse, numeric, rtol=1e-5, atol=1e-6)
