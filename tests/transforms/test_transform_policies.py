"""Policies: each operation as it was published, by Pillow; what is drawn; the cost."""

import functools
import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

HEIGHT, WIDTH = 32, 40
KEY = jax.random.key(0)


def _picture() -> np.ndarray:
    """Return a smooth picture of 256 levels with noise on it, float32 in [0, 1]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    waves = [np.sin(3 * x + 2 * y), np.cos(5 * y), np.sin(4 * x) * y]
    noise = np.random.default_rng(0).normal(0, 0.02, (HEIGHT, WIDTH, 3))
    unit = np.clip(0.45 + 0.3 * np.stack(waves, axis=-1) + noise, 0, 1)
    return np.round(255 * unit).astype(np.float32) / 255


PICTURE = _picture()
rand_augment, augmix = jax.jit(T.rand_augment), jax.jit(T.augmix)
trivial_augment = jax.jit(T.trivial_augment, static_argnames="value_range")


def _moved(numbers, image: np.ndarray) -> np.ndarray:
    """Sample as Pillow does for ``Image.transform``, NaN where it sees the outside."""
    channels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
    how = (Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR)
    moved = [Image.fromarray(one).transform((WIDTH, HEIGHT), *how) for one in channels]
    shown = np.stack(moved, axis=-1)
    # What lies outside Pillow takes from the border, up to half a pixel away.
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    a, b, c, d, e, f = numbers
    column, row = a * x + b * y + c, d * x + e * y + f
    near = (column > 0.5) & (column < WIDTH - 0.5) & (row > 0.5) & (row < HEIGHT - 0.5)
    return np.where(near[..., None], shown, np.nan)


def _turned(degrees: float, image: np.ndarray) -> np.ndarray:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = WIDTH / 2, HEIGHT / 2
    numbers = (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)
    return _moved(numbers, image)


def _by_pillow(change, image: np.ndarray) -> np.ndarray:
    changed = change(Image.fromarray(np.round(255 * image).astype(np.uint8)))
    return np.asarray(changed, np.float32) / 255


def _blend(other, factor: float, image: np.ndarray) -> np.ndarray:
    return np.clip(factor * image + (1 - factor) * other, 0, 1)


def _smooth(image: np.ndarray) -> np.ndarray:
    out = image.copy()
    for y, x in itertools.product(range(1, HEIGHT - 1), range(1, WIDTH - 1)):
        box = image[y - 1 : y + 2, x - 1 : x + 2].sum((0, 1))
        out[y, x] = (box + 4 * image[y, x]) / 13
    return out


def _published(space: dict, name: str, m: float, image: np.ndarray) -> np.ndarray:
    """Apply an operation as the codes of the three papers write it down."""
    size, gray = abs(m), (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    shear, factor = space["shear"] * m, 1 + space["factor"] * m
    across, down = space["across"] * m, space["down"] * m
    bits = space["bits"](size)
    blends = {
        "brightness": lambda: np.zeros(()),
        "contrast": lambda: gray.mean(),
        "saturation": lambda: gray,
        "sharpness": lambda: _smooth(image),
    }
    if name in blends:
        return _blend(blends[name](), factor, image)
    threshold = 256 - 256 * size
    others = {
        "identity": lambda: image,
        "rotate": lambda: _turned(space["degrees"] * m, image),
        "shear_x": lambda: _moved((1, shear, 0, 0, 1, 0), image),
        "shear_y": lambda: _moved((1, 0, 0, shear, 1, 0), image),
        "translate_x": lambda: _moved((1, 0, across, 0, 1, 0), image),
        "translate_y": lambda: _moved((1, 0, 0, 0, 1, down), image),
        "autocontrast": lambda: (image - image.min((0, 1))) / np.ptp(image, (0, 1)),
        "equalize": lambda: _by_pillow(ImageOps.equalize, image),
        "posterize": lambda: _by_pillow(lambda x: ImageOps.posterize(x, bits), image),
        "solarize": lambda: _by_pillow(
            lambda x: ImageOps.solarize(x, math.ceil(threshold)), image
        ),
    }
    return others[name]()


RAND = {
    "shear": 0.3,
    "across": 150 / 331 * WIDTH,
    "down": 150 / 331 * HEIGHT,
    "degrees": 30,
    "factor": 0.9,
    "bits": lambda size: 8 - round(4 * size),
}
WIDE = {
    "shear": 0.99,
    "across": 32,
    "down": 32,
    "degrees": 135,
    "factor": 0.99,
    "bits": lambda size: 8 - round(6 * size),
}
MIX = RAND | {
    "across": WIDTH / 3,
    "down": HEIGHT / 3,
    "bits": lambda size: 4 - int(4 * size),
}


def _compare(image, expected: np.ndarray) -> None:
    seen = np.isfinite(expected)
    assert seen.mean() > 0.02
    np.testing.assert_allclose(np.asarray(image)[seen], expected[seen], atol=2e-4)


@pytest.mark.parametrize("name", T.OPERATIONS)
def test_operations_are_those_of_the_papers(name: str) -> None:
    place = T.OPERATIONS.index(name)
    for m in (0.3, -0.55, 0.8, -1.0):
        one = T.RandAugmentParams(jnp.array([place]), jnp.array([m]))
        image = rand_augment(PICTURE, one)
        _compare(image, _published(RAND, name, m, PICTURE))
        if name.startswith("translate") and abs(m) == 1:
            continue  # Nothing of the picture is left.
        wide = T.TrivialAugmentParams(jnp.array(place), jnp.array(m))
        _compare(trivial_augment(PICTURE, wide), _published(WIDE, name, m, PICTURE))


def test_operations_follow_each_other() -> None:
    names = ("brightness", "posterize", "contrast")
    places = [T.OPERATIONS.index(name) for name in names]
    magnitudes = (-0.4, 0.7, 0.9)
    params = T.RandAugmentParams(jnp.array(places), jnp.array(magnitudes))
    expected = PICTURE
    for name, m in zip(names, magnitudes, strict=True):
        expected = _published(RAND, name, m, expected)
    np.testing.assert_allclose(rand_augment(PICTURE, params), expected, atol=1e-5)


def test_augmix_is_a_mixture_of_chains() -> None:
    chains = (("posterize", "autocontrast"), ("solarize", "identity"))
    magnitudes = np.array([[0.6, 0.2], [0.4, 0.1]], np.float32)
    places = jnp.array([[T.OPERATIONS.index(name) for name in row] for row in chains])
    weights, share = np.array([0.3, 0.7], np.float32), 0.6
    params = T.AugMixParams(places, magnitudes, weights, jnp.array(share))
    expected = (1 - share) * PICTURE
    for weight, names, sizes in zip(weights, chains, magnitudes, strict=True):
        made = PICTURE
        for name, m in zip(names, sizes, strict=True):
            made = _published(MIX, name, float(m), made)
        expected = expected + share * weight * made
    np.testing.assert_allclose(augmix(PICTURE, params), expected, atol=1e-5)


def test_what_comes_from_outside_may_be_grey() -> None:
    """As in the code of RandAugment."""
    place = jnp.array(T.OPERATIONS.index("translate_x"))
    params = T.TrivialAugmentParams(place, jnp.array(0.5))
    moved = T.trivial_augment(
        jnp.array(PICTURE), params, border="constant", fill=(0.1, 0.5, 0.7)
    )
    np.testing.assert_allclose(moved[:, : WIDTH - 16], PICTURE[:, 16:], atol=1e-6)
    expected = np.broadcast_to(np.float32([0.1, 0.5, 0.7]), (HEIGHT, 16, 3))
    np.testing.assert_array_equal(moved[:, WIDTH - 16 :], expected)


def test_value_ranges_and_one_channel() -> None:
    """Grey has no saturation to change."""
    gray = np.repeat(PICTURE[..., :1], 3, axis=-1)
    for name in T.OPERATIONS:
        place = jnp.array(T.OPERATIONS.index(name))
        params = T.TrivialAugmentParams(place, jnp.array(0.5))
        expected = trivial_augment(gray, params)[..., :1]
        wide = 2 * gray[..., :1] - 1
        changed = trivial_augment(wide, params, value_range=(-1.0, 1.0))
        np.testing.assert_allclose(changed, 2 * expected - 1, atol=1e-4)
        is_kept = np.allclose(expected, gray[..., :1], atol=1e-3)
        assert is_kept == (name in ("identity", "saturation"))


# --- What is drawn


def _draws(sample, num: int = 10_000, **options):
    keys = jax.random.split(jax.random.key(7), num)
    draw = jax.jit(jax.vmap(functools.partial(sample, **options)))
    return jax.device_get(draw(keys))


def _is_fair(values: np.ndarray, allowed) -> bool:
    counts = [int((values == one).sum()) for one in allowed]
    assert sum(counts) == values.size
    return stats.chisquare(counts).pvalue > 1e-3


def test_rand_augment_draws_operations_and_signs_independently() -> None:
    params = _draws(T.rand_augment_params, num_ops=2, magnitude=0.25)
    pairs = 14 * params.operation[:, 0] + params.operation[:, 1]
    assert _is_fair(pairs, range(196))
    assert _is_fair(params.magnitude, (-0.25, 0.25))
    few = ("rotate", "brightness")
    params = _draws(T.rand_augment_params, num_ops=1, operations=few)
    assert _is_fair(params.operation, [T.OPERATIONS.index(name) for name in few])


def test_trivial_augment_draws_from_bins() -> None:
    params = _draws(T.trivial_augment_params)
    assert _is_fair(params.operation, range(14))
    assert _is_fair(np.round(30 * np.abs(params.magnitude)), range(31))
    assert _is_fair(np.sign(params.magnitude[params.magnitude != 0]), (-1, 1))
    assert np.abs(np.corrcoef(params.operation, params.magnitude)[0, 1]) < 0.05


def test_augmix_draws_chains_and_a_mixture() -> None:
    params = _draws(T.augmix_params, 3000, magnitude=0.5)
    lengths = (params.operation != 0).sum(-1)
    assert _is_fair(lengths, (1, 2, 3))
    known = [T.OPERATIONS.index(name) for name in T.AUGMIX_OPERATIONS]
    assert _is_fair(params.operation[..., 0], known)
    assert stats.kstest(params.share, stats.uniform.cdf).pvalue > 1e-3
    for weight in params.weights.T:
        assert stats.kstest(weight, stats.beta(1, 2).cdf).pvalue > 1e-3
    np.testing.assert_allclose(params.weights.sum(-1), 1, atol=1e-6)
    sizes = np.abs(params.magnitude).ravel()
    assert stats.kstest(sizes, stats.uniform(0.01, 0.49).cdf).pvalue > 1e-3


def test_tiny_alphas_choose_one_chain() -> None:
    params = _draws(T.augmix_params, 1000, alpha=1e-3, depth=(1, 1))
    assert np.isfinite(params.weights).all()
    assert (params.weights.max(-1) > 0.99).mean() > 0.95
    assert ((params.share < 0.01) | (params.share > 0.99)).mean() > 0.95


# --- Cost


def test_an_operation_is_one_sampling_and_no_branch() -> None:
    """Under vmap all branches are computed: one sampling for five of them."""

    def step(image, operation, magnitude):
        params = T.TrivialAugmentParams(operation, magnitude)
        return T.trivial_augment(image, params)

    given = (jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32), jnp.zeros(2))
    program = str(jax.make_jaxpr(jax.vmap(step))(*given))
    assert " cond[" not in program
    assert program.count(" gather[") == 4 + 1  # bilinear taps, levels of equalize
    assert program.count(" scatter-add[") == 1


# --- Errors

IMAGE = jnp.zeros((6, 8, 3))
ONE = T.TrivialAugmentParams(jnp.array(0), jnp.array(0.0))
TWO = T.RandAugmentParams(jnp.zeros(2, jnp.int32), jnp.zeros(2))
MIXED = T.AugMixParams(jnp.zeros((2, 1), jnp.int32), jnp.zeros((2, 1)), jnp.ones(3), 1)
WRONG = {
    "weights": (
        lambda: T.augmix(IMAGE, MIXED._replace(share=jnp.array(0.5))),
        "weights must have one number for each of the 2 chains; got shape (3,)",
    ),
    "magnitude": (
        lambda: T.random_rand_augment(KEY, IMAGE, magnitude=9),
        "magnitude must lie in [0, 1]; got 9",
    ),
    "num_ops": (lambda: T.rand_augment_params(KEY, num_ops=0), "at least 1; got 0"),
    "unknown": (
        lambda: T.random_trivial_augment(KEY, IMAGE, operations=("cutout",)),
        "got 'cutout'",
    ),
    "none": (lambda: T.rand_augment_params(KEY, operations=()), "at least one"),
    "bins": (lambda: T.trivial_augment_params(KEY, num_bins=1), "at least 2; got 1"),
    "severity": (lambda: T.augmix_params(KEY, magnitude=3), "got 3"),
    "alpha": (lambda: T.random_augmix(KEY, IMAGE, alpha=0), "alpha must be above 0"),
    "depth": (lambda: T.augmix_params(KEY, depth=(3, 1)), "low <= high; got (3, 1)"),
    "no depth": (lambda: T.augmix_params(KEY, depth=(0, 1)), "at least 1; got 0"),
    "channels": (lambda: T.rand_augment(jnp.zeros((6, 8, 4)), TWO), "1 or 3 channels"),
    "border": (lambda: T.trivial_augment(IMAGE, ONE, border="grey"), "got 'grey'"),
    "magnitudes": (
        lambda: T.rand_augment(IMAGE, TWO._replace(magnitude=jnp.zeros(3))),
        "one shape (n,); got (2,) and (3,)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_value_errors(case: str) -> None:
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=r".") as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_type_errors() -> None:
    with pytest.raises(TypeError, match="num_ops must be a Python integer"):
        inspect.unwrap(T.rand_augment_params)(KEY, num_ops=2.0)
    with pytest.raises(TypeError, match="operation must be whole"):
        inspect.unwrap(T.trivial_augment)(IMAGE, T.TrivialAugmentParams(0.5, 0.5))
    with pytest.raises(TypeError, match="augmix needs floating-point"):
        inspect.unwrap(T.augmix)(IMAGE.astype(jnp.uint8), MIXED)
