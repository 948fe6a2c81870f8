"""Crops by hand, and what they refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.evals import crops
from jaxssl.evals.crops import CenterCrops


def test_views_keep_type_and_centre():
    images = jnp.arange(2 * 6 * 7 * 1, dtype=jnp.uint8).reshape(2, 6, 7, 1)
    cut = CenterCrops(3, "five")({"image": images})
    assert cut.shape == (2, 5, 3, 3, 1)
    assert cut.dtype == jnp.uint8
    np.testing.assert_array_equal(cut[:, 0], images[:, 1:4, 2:5])
    np.testing.assert_array_equal(cut[:, 4], images[:, 3:, 4:])


def test_views_refuse_what_cannot_be_cut():
    images = jnp.zeros((1, 6, 7, 3), jnp.uint8)
    with pytest.raises(UserError, match="crop_size is 7 but the images are 6x7"):
        crops.crop_views(images, size=7)
    with pytest.raises(UserError, match="allowed: center, five, ten"):
        CenterCrops(3, "tenn")
    with pytest.raises(UserError, match="size is 0"):
        CenterCrops(0)


def test_records_that_are_no_images_are_named():
    with pytest.raises(UserError, match="'image', but the records hold clip, id"):
        CenterCrops(3)({"clip": jnp.zeros((2, 4, 6, 6, 3)), "id": jnp.arange(2)})
    with pytest.raises(UserError, match=r"records of shape \(6, 6\)"):
        CenterCrops(3)({"image": jnp.zeros((2, 6, 6))})


def test_equal_settings_share_what_was_compiled():
    assert CenterCrops(8) == CenterCrops(8, "center")
    assert hash(CenterCrops(8)) == hash(CenterCrops(8, "center"))
    assert CenterCrops(8) != CenterCrops(8, "five")
