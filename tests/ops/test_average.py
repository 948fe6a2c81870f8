import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.ops.average import Pool, average_pool


def literal(x: np.ndarray, size: int, padding: str) -> np.ndarray:
    """Average pixel by pixel; TensorFlow's SAME puts the odd row last."""
    b, h, w, c = x.shape
    if padding == "SAME":
        rows, columns = -(-h // size), -(-w // size)
        top, left = (rows * size - h) // 2, (columns * size - w) // 2
    else:
        rows, columns, top, left = h // size, w // size, 0, 0
    out = np.zeros((b, rows, columns, c))
    for i in range(rows):
        for j in range(columns):
            values = [
                x[:, y, z]
                for y in range(i * size - top, (i + 1) * size - top)
                for z in range(j * size - left, (j + 1) * size - left)
                if 0 <= y < h and 0 <= z < w
            ]
            out[:, i, j] = np.mean(values, axis=0)
    return out


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(16, 16, 6), (8, 8, 4), (4, 7, 3), (13, 5, 2)]
)
def test_it_is_the_mean_of_each_window(height, width, size, padding):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    got = average_pool(jnp.asarray(x), Pool(size, padding))
    np.testing.assert_allclose(got, literal(x, size, padding), atol=1e-6)


def test_a_window_of_one_pixel_keeps_the_map():
    x = jnp.arange(24.0).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(average_pool(x, Pool(1)), x)


@pytest.mark.parametrize(
    ("side", "pool", "cells"),
    [
        (55, Pool(6, "SAME"), 10),
        (27, Pool(4, "VALID"), 6),
        (13, Pool(3, "SAME"), 5),
        (13, Pool(2, "VALID"), 6),
        (16, Pool(6, "SAME"), 3),
        (8, Pool(4, "VALID"), 2),
        (4, Pool(3, "SAME"), 2),
        (4, Pool(2, "VALID"), 2),
    ],
)
def test_sides_of_the_probe_table(side, pool, cells):
    shape = jax.eval_shape(
        lambda x: average_pool(x, pool),
        jax.ShapeDtypeStruct((2, side, side, 5), jnp.float32),
    ).shape
    assert shape == (2, cells, cells, 5)


def test_bad_pools_say_what_to_do():
    x = jnp.zeros((1, 4, 4, 1))
    with pytest.raises(ValueError, match="does not fit a map of 4; use SAME"):
        average_pool(x, Pool(5, "VALID"))
    with pytest.raises(ValueError, match="allowed: SAME, VALID"):
        average_pool(x, Pool(2, "same"))
