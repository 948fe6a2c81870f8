"""NumPy arrays of 64 bits, as NumPy makes them by default, are handled without a word.

Jax holds them in 32 bits unless x64 is on; results then have 32 bits, too.
"""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from tests.transforms.laws import draw, plain
from tests.transforms.test_transform_laws import EXAMPLES

WIDE = {"f": np.float64, "i": np.int64}


class Given(np.ndarray):
    """An array with which NumPy may not compute: that is jax's work."""

    def __array_ufunc__(self, ufunc, method, *values, **options):
        raise AssertionError(f"NumPy computes {ufunc.__name__}.{method}, not jax.")


@pytest.fixture(autouse=True)
def _as_users_call():
    """Without the shape checks that pytest adds: they refuse arrays of NumPy."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32])
def test_arrays_of_64_bits_are_those_of_32(name: str, dtype) -> None:
    """A warning would be an error here; nothing is computed."""
    example = EXAMPLES[name]
    if dtype == jnp.int32 and jnp.uint8 not in example.dtypes:
        return
    data, params = example.data(dtype), jax.eval_shape(lambda: draw(example))

    def wide(leaf):
        array = plain(leaf)
        return array.astype(WIDE.get(array.dtype.kind, array.dtype))

    def ones(leaf):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return wide(jnp.ones(leaf.shape, leaf.dtype))

    given = jax.tree.map(lambda leaf: wide(leaf).view(Given), data)
    drawn = jax.tree.map(ones, params)
    expected = jax.eval_shape(example.apply, data, params)
    # Closed over, as arguments of a traced function are jax's arrays already.
    assert jax.eval_shape(lambda: example.apply(given, drawn)) == expected
