"""Patches against plain NumPy slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import transforms as T  # noqa: N812


def _image(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize("top_left", [(0, 0), (2, 3), (4, 1)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 2)])
def test_paste_matches_slicing(top_left, lead) -> None:
    image, patch = _image(0, (*lead, 9, 8, 3)), _image(1, (*lead, 5, 4, 3))
    y, x = top_left
    expected = image.copy()
    expected[..., y : y + 5, x : x + 4, :] = patch
    for given in (top_left, jnp.array(top_left)):
        pasted = T.paste_patch(jnp.array(image), jnp.array(patch), given)
        np.testing.assert_array_equal(pasted, expected)


def test_paste_undoes_extract_and_extract_undoes_paste() -> None:
    image, patch = jnp.array(_image(2, (10, 11, 3))), jnp.array(_image(3, (4, 6, 3)))
    for top_left in ([0, 0], [6, 5], [3, 2], [99, -5]):
        where = jnp.array(top_left)
        cut = T.extract_patch(image, where, (4, 6))
        np.testing.assert_array_equal(T.paste_patch(image, cut, where), image)
        pasted = T.paste_patch(image, patch, where)
        np.testing.assert_array_equal(T.extract_patch(pasted, where, (4, 6)), patch)


def test_gradients_go_to_the_patch_inside_and_to_the_image_outside() -> None:
    image, patch = jnp.array(_image(4, (6, 6, 1))), jnp.array(_image(5, (3, 2, 1)))
    weight = jnp.array(_image(6, (6, 6, 1)))

    def total(image, patch, top_left):
        return (weight * T.paste_patch(image, patch, top_left)).sum()

    top_left = jnp.array([1, 3])
    to_image, to_patch = jax.grad(total, (0, 1))(image, patch, top_left)
    np.testing.assert_array_equal(to_patch, weight[1:4, 3:5])
    np.testing.assert_array_equal(to_image, weight.at[1:4, 3:5].set(0))


@pytest.mark.parametrize(("size", "border"), [(8, 2), (5, 2), (3, 1)])
def test_border_mask_and_erased_centre_are_complementary(size, border) -> None:
    mask = np.asarray(T.border_mask(size, border))
    inner = size - 2 * border
    assert mask.shape == (size, size)
    assert mask.dtype == bool
    assert (~mask).sum() == inner * inner
    assert not mask[border:-border, border:-border].any()
    patch = jnp.array(_image(7, (2, size, size, 3)))
    noise = jnp.array(_image(8, (2, inner, inner, 3)))
    erased = np.asarray(T.erase_center(patch, noise, border))
    np.testing.assert_array_equal(erased[:, mask], np.asarray(patch)[:, mask])
    np.testing.assert_array_equal(erased[:, border:-border, border:-border], noise)


def test_border_mask_has_a_height_and_a_width() -> None:
    mask = np.asarray(T.border_mask((8, 6), 2))
    expected = np.ones((8, 6), bool)
    expected[2:6, 2:4] = False
    np.testing.assert_array_equal(mask, expected)
