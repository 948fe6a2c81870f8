"""Gradient accumulation: where rows go, what the mean is, what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl.optim import microbatch


@pytest.mark.parametrize(("num_micro", "together"), [(1, 1), (2, 1), (4, 3), (6, 2)])
def test_rows_are_dealt_like_cards(num_micro, together):
    """Each part leaves its rows in a row of a table, where the others have zeros."""
    rows = np.arange(24)
    batch = {"id": rows, "image": rows[:, None] * np.ones((1, 5))}

    def place(part, number):
        table = jnp.zeros((2, num_micro, 24 // num_micro))
        both = jnp.stack([part["id"], part["image"][:, 2].astype(int)])
        return table.at[:, number].set(both)

    found = microbatch.mean(place, batch, num_micro=num_micro, together=together)
    found = np.rint(num_micro * np.asarray(found))
    groups = rows.reshape(-1, together)
    for i in range(num_micro):
        np.testing.assert_array_equal(found[0, i], groups[i::num_micro].ravel())
    np.testing.assert_array_equal(found[0], found[1])


def test_what_does_not_divide_is_told():
    with pytest.raises(ValueError, match=r"has 10 rows; 4 micro-batches .* of 4, or"):
        microbatch.mean(jnp.sum, jnp.zeros(10), num_micro=4)
    with pytest.raises(ValueError, match=r"in groups of 3. Give a multiple of 6"):
        microbatch.mean(jnp.sum, jnp.zeros(10), num_micro=2, together=3)


def loss(params, rows):
    hidden = jnp.tanh(rows["x"] @ params["w"])
    return jnp.square(hidden @ params["v"] - rows["y"]).mean()


def example(b=48, width=64):
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(8, width)) / 8, "v": rng.normal(size=width) / 8}
    rows = {"x": rng.normal(size=(b, 8)), "y": rng.normal(size=b)}
    return jax.tree.map(jnp.float32, (params, rows))


def accumulated(num_micro):
    def gradient(params, rows):
        return microbatch.mean(
            lambda part, _: jax.grad(loss)(params, part), rows, num_micro=num_micro
        )

    return jax.jit(gradient)


@pytest.mark.parametrize("num_micro", [1, 3, 16, 48])
def test_the_mean_gradient_is_that_of_the_whole_batch(num_micro):
    params, rows = example()
    expected = jax.jit(jax.grad(loss))(params, rows)
    found = accumulated(num_micro)(params, rows)
    for name in params:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_each_micro_batch_is_told_its_number():
    rows = jnp.arange(6.0)
    found = microbatch.mean(lambda part, i: (part.sum(), 10.0 * i), rows, num_micro=3)
    assert [float(x) for x in found] == [5.0, 10.0]


@pytest.mark.optimised
def test_memory_falls():
    params, rows = example(b=4096, width=256)
    need = {
        m: accumulated(m).lower(params, rows).compile().memory_analysis()
        for m in (1, 16)
    }
    sizes = {m: found.temp_size_in_bytes for m, found in need.items()}
    assert sizes[16] < 0.2 * sizes[1], sizes


@pytest.mark.parametrize("num_micro", [2, 3])
def test_no_row_leaves_its_device(num_micro):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows_place = NamedSharding(mesh, PartitionSpec("data"))
    params, rows = example()
    expected = jax.jit(jax.grad(loss))(params, rows)
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    rows = jax.device_put(rows, rows_place)
    compiled = accumulated(num_micro).lower(params, rows).compile()
    text = compiled.as_text()
    for kind in ("all-to-all", "collective-permute", "all-gather"):
        assert kind not in text
    assert "all-reduce" in text  # It did run on all of them.
    np.testing.assert_allclose(
        compiled(params, rows)["w"], expected["w"], rtol=1e-5, atol=1e-6
    )
