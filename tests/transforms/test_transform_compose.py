"""batched: one key per example, by position or by id."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
