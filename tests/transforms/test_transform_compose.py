"""batched, chain, maybe: keys by id and by position; identity by parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import keys
from jaxssl import transforms as T  # noqa: N812

# One compilation instead of one for each of the operations.
WARP = jax.jit(T.batched(T.random_warp))


def test_without_ids_the_key_is_split() -> None:
    key, images = jax.random.key(0), jax.random.uniform(jax.random.key(1), (3, 6, 6, 1))
    warped, params = WARP(key, images)
    random_warp = jax.jit(T.random_warp)
    for i, one in enumerate(jax.random.split(key, 3)):
        expected, drawn = random_warp(one, images[i])
        np.testing.assert_array_equal(params.offsets[i], drawn.offsets)
        np.testing.assert_allclose(warped[i], expected, atol=1e-5)


def test_ids_make_draws_independent_of_the_batch() -> None:
    key, images = jax.random.key(0), jax.random.uniform(jax.random.key(1), (5, 6, 6, 1))
    ids = jnp.array([7, 3, 11, 4, 900])
    all_five = WARP(key, images, ids)[1].offsets
    order = jnp.array([4, 1])
    two = WARP(key, images[order], ids[order])[1].offsets
    np.testing.assert_array_equal(two, all_five[order])
    assert len(np.unique(all_five[:, 0, 0, 0])) == 5
    own = jax.vmap(T.warp_params)(keys.per_example(key, ids)).offsets
    np.testing.assert_array_equal(all_five, own)


def test_batches_may_be_pytrees_and_options_are_fixed_by_partial() -> None:
    def augment(key, example, *, size):
        image, params = T.random_crop(key, example["image"], size=size)
        return {**example, "image": image, "params": params}

    batch = {"image": jnp.zeros((4, 8, 8, 3), jnp.uint8), "label": jnp.arange(4)}
    apply = T.batched(functools.partial(augment, size=5))
    out = jax.jit(apply)(jax.random.key(0), batch, jnp.arange(4))
    assert out["image"].shape == (4, 5, 5, 3)
    assert out["params"].top_left.shape == (4, 2)
    np.testing.assert_array_equal(out["label"], np.arange(4))


@pytest.mark.parametrize(
    ("batch", "ids"),
    [
        ((jnp.zeros(3), jnp.zeros(4)), None),
        (jnp.zeros((3, 4, 4, 1)), jnp.arange(2)),
        (jnp.zeros(()), None),
        ((), None),
    ],
)
def test_lengths_must_agree(batch, ids) -> None:
    with pytest.raises(ValueError, match="leading batch axis"):
        T.batched(lambda key, x: x)(jax.random.key(0), batch, ids)


# --- Chains


def test_chain_applies_in_order_and_returns_all_parameters() -> None:
    image = jax.random.uniform(jax.random.key(1), (9, 7, 3))
    crop = functools.partial(T.random_crop, size=(4, 5))
    augment = T.chain(crop, T.random_hflip, T.random_brightness)
    out, (place, flip, factor) = augment(jax.random.key(0), image)
    cut = T.crop(image, place.top_left, (4, 5))
    np.testing.assert_array_equal(out, T.brightness(T.hflip(cut, *flip), *factor))


def test_what_a_member_draws_depends_on_its_place_alone() -> None:
    key, image = jax.random.key(3), jnp.zeros((6, 6, 3))
    first, second, third = T.random_rotate, T.random_hue, T.random_contrast
    _, whole = T.chain(first, second, third)(key, image)
    _, shorter = T.chain(first, second)(key, image)
    _, changed = T.chain(T.random_brightness, second, third)(key, image)
    for params, same in ((shorter, whole[:2]), (changed[1:], whole[1:])):
        assert jax.tree.leaves(params) == jax.tree.leaves(same)
    _, twice = T.chain(first, first)(key, image)
    assert twice[0].angle != twice[1].angle
    nested, (_, inner) = T.chain(first, T.chain(second, third))(key, image)
    assert nested.shape == image.shape
    assert [type(params).__name__ for params in inner] == ["HueParams", "FactorParams"]


def test_empty_chain_does_nothing() -> None:
    assert T.chain()(jax.random.key(0), "anything") == ("anything", ())


# --- Parameters that are used with some probability


def test_maybe_takes_one_of_the_two_as_a_whole() -> None:
    params = T.random_color_jitter(jax.random.key(0), jnp.zeros((2, 2, 3)))[1]
    off = T.ColorJitterParams(1, 1.0, 1, 0.0, jnp.arange(4))
    draws = jax.random.split(jax.random.key(1), 10_000)
    chosen = jax.vmap(lambda key: T.maybe(key, params, off, prob=0.3))(draws)
    kept = np.asarray(chosen.hue == params.hue)
    assert stats.binomtest(int(kept.sum()), 10_000, 0.3).pvalue > 1e-3
    for leaf, on, other in zip(chosen, params, off, strict=True):
        assert leaf.dtype == on.dtype
        expected = np.where(kept[(...,) + (None,) * np.ndim(on)], on, other)
        np.testing.assert_array_equal(leaf, expected.astype(on.dtype))


@pytest.mark.parametrize(("prob", "kept"), [(0.0, False), (1.0, True)])
def test_certain_choices(prob: float, kept: bool) -> None:
    params = T.warp_params(jax.random.key(0))
    chosen = T.maybe(jax.random.key(1), params, T.WarpParams(0), prob=prob)
    np.testing.assert_array_equal(chosen.offsets, params.offsets * kept)


# --- A whole view, as the module's docstring writes it


def _fast_view(key, image, size):
    crop, flip, color, use_color, blur, use_blur = jax.random.split(key, 6)
    box = T.resized_crop_params(crop, image_size=image.shape[:2])
    flip = T.hflip_params(flip)
    jitter = T.color_jitter_params(color)
    off = T.ColorJitterParams(1, 1, 1, 0, jitter.order)
    jitter = T.maybe(use_color, jitter, off, prob=0.8)
    sigma = T.gaussian_blur_params(blur)
    sigma = T.maybe(use_blur, sigma, T.BlurParams(0), prob=0.5)
    maps = [T.resized_crop_coords(box, size), T.hflip_coords(*flip)]
    image = T.geometric_chain(image, maps)
    image = T.color_jitter(image, jitter)
    return T.gaussian_blur(image, *sigma, radius=4), (box, flip, jitter, sigma)


def test_view_equals_its_steps_one_by_one() -> None:
    images = jax.random.uniform(jax.random.key(5), (16, 20, 24, 3))
    draw = jax.jit(T.batched(functools.partial(_fast_view, size=(14, 12))))
    views, params = draw(jax.random.key(6), images, jnp.arange(16))
    colored, blurred = 0, 0
    for i, image in enumerate(images):
        box, flip, jitter, sigma = jax.tree.map(lambda leaf, i=i: leaf[i], params)
        image = T.resized_crop(image, box, (14, 12), antialias=False)
        image = jnp.flip(image, -2) if flip.flip else image
        if jitter.brightness != 1:
            image, colored = T.color_jitter(image, jitter), colored + 1
        if sigma.sigma > 0:
            image, blurred = T.gaussian_blur(image, *sigma, radius=4), blurred + 1
        np.testing.assert_allclose(views[i], image, atol=1e-5)
    assert 8 <= colored < 16
    assert 0 < blurred < 16
