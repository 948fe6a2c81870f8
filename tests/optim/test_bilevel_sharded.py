"""One mini-batch a device: the same numbers, and the bytes of one all-reduce."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl.optim import bilevel

K = 8
SHARED, SPLIT = PartitionSpec(), PartitionSpec("mb")
BYTES = {"f32": 4, "bf16": 2, "s32": 4, "pred": 1}


def mesh(size=K):
    return jax.make_mesh((size,), ("mb",), axis_types=(AxisType.Auto,))


def loss_fn(params, minibatch, state, key):
    x = minibatch["x"] * jax.random.bernoulli(key, 0.8, minibatch["x"].shape)
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"][None])
    error = hidden @ params["last"] - minibatch["y"]
    mean = 0.9 * state["mean"] + 0.1 * hidden.mean(axis=0)
    state = {"mean": mean, "count": state["count"] + 1}
    return jnp.mean(error**2), (state, {"error": error})


def problem(hidden=7):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    params = {
        "first": {"kernel": draw(5, hidden), "bias": draw(hidden)},
        "last": draw(hidden),
        "count": jnp.array(3),
    }
    batch = {"x": draw(K, 4, 5), "y": draw(K, 4)}
    state = {"mean": jnp.zeros(hidden), "count": jnp.array(0)}
    return params, batch, state, jax.random.key(0)


def sharded(check_vma=True, **settings):
    f = bilevel.value_and_grad(loss_fn, strategy="shard", axis_name="mb", **settings)
    return jax.jit(
        jax.shard_map(
            f,
            mesh=mesh(),
            in_specs=(SHARED, SPLIT, SHARED, SHARED),
            out_specs=((SHARED, (SHARED, SPLIT)), SHARED, SHARED),
            check_vma=check_vma,
        )
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"reduce_state": "mean"},
        {"reduce_state": "last", "mu": 0.5, "solver": "exact"},
        {"reduce_state": "mean", "per_layer": bilevel.by_layer, "check_vma": False},
        {"reduce_state": "mean", "mask": {"first": False, "last": True, "count": True}},
    ],
    ids=["diagonal", "exact", "per layer, unchecked", "frozen"],
)
def test_eight_devices_find_what_one_finds(settings):
    settings = {"k": K, "has_aux": True, "rng_mode": "split", **settings}
    arguments = problem()
    value, gradient, info = sharded(**settings)(*arguments)
    settings.pop("check_vma", None)
    one = bilevel.value_and_grad(loss_fn, strategy="scan", **settings)
    expected = jax.jit(one)(*arguments)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        (value, gradient, info),
        expected,
    )
    assert np.abs(gradient["last"]).max() > 1e-3


def test_parameters_and_batches_may_be_sharded_under_jit():
    """Without shard_map: XLA splits the examples and the sums over parameters."""
    params, batch, state, key = problem(hidden=16)
    settings = {"k": K, "has_aux": True, "rng_mode": "shared", "reduce_state": "mean"}
    f = jax.jit(bilevel.value_and_grad(loss_fn, strategy="scan", **settings))
    expected = f(params, batch, state, key)

    def place(tree, *spec):
        return jax.device_put(tree, NamedSharding(mesh(4), PartitionSpec(*spec)))

    split = {
        "first": {"kernel": place(params["first"]["kernel"], None, "mb")},
        "last": place(params["last"], "mb"),
        "count": place(params["count"]),
    }
    split["first"]["bias"] = place(params["first"]["bias"], "mb")
    found = f(split, place(batch, None, "mb"), place(state), place(key))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5),
        found,
        expected,
    )


@pytest.mark.parametrize("strategy", ["scan", "vmap"])
def test_parameters_may_be_sharded_in_their_types(strategy):
    axis = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Explicit,))
    f = bilevel.value_and_grad(
        lambda w, x: jnp.mean((x @ w) ** 2), k=3, strategy=strategy
    )
    with jax.set_mesh(axis):
        w = jax.device_put(jnp.ones((5, 4)), PartitionSpec(None, "x"))
        _, gradient, _ = jax.jit(f)(w, jnp.ones((3, 2, 5)))
        assert jax.typeof(gradient) == jax.typeof(w)


@pytest.mark.parametrize("strategy", ["scan", "vmap"])
def test_parameters_may_differ_between_devices(strategy):
    """As those of an ensemble, or before a sum of gradients that one writes oneself."""
    f = bilevel.value_and_grad(lambda w, x: jnp.vdot(w[0], x), k=3, strategy=strategy)
    mapped = jax.shard_map(
        lambda w, x: f(w, x)[1], mesh=mesh(2), in_specs=(SPLIT, SHARED), out_specs=SPLIT
    )
    batch = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    gradient = jax.jit(mapped)(jnp.ones((2, 4)), batch)
    expected = jax.jit(f)(jnp.ones((1, 4)), batch)[1][0]
    np.testing.assert_allclose(gradient, np.stack([expected] * 2), rtol=1e-5)


def ring_bytes(compiled):
    """Bytes that a device sends, for collectives that run as rings."""
    factors = {
        "all-reduce": 2 * (K - 1) / K,
        "all-to-all": (K - 1) / K,
        "all-gather": (K - 1) / K,
        "reduce-scatter": K - 1,  # Its result is one k-th.
        "collective-permute": 1,
    }
    total, seen = 0.0, set()
    pattern = rf"= (.*?) ({'|'.join(factors)})(?:-start)?\("
    for shapes, name in re.findall(pattern, compiled.as_text()):
        seen.add(name)
        for dtype, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
            sizes = [int(d) for d in dims.split(",") if d]
            total += factors[name] * BYTES[dtype] * math.prod(sizes)
    return total, seen


@pytest.mark.parametrize("solver", ["diagonal", "exact"])
def test_its_traffic_is_that_of_one_all_reduce(solver):
    def loss(params, minibatch):
        hidden = jnp.tanh(minibatch @ params["kernel"] + params["bias"][None])
        return jnp.mean(hidden**2)

    params = {"kernel": jnp.ones((60, 101)), "bias": jnp.ones(101)}
    batch = jnp.ones((K, 4, 60))

    def data_parallel(params, minibatch):
        gradient = jax.grad(lambda p: loss(p, minibatch[0]))(params)
        return jax.lax.pmean(gradient, "mb")

    ours = bilevel.value_and_grad(
        loss, strategy="shard", axis_name="mb", solver=solver, k=K
    )
    specs = {"mesh": mesh(), "in_specs": (SHARED, SPLIT), "out_specs": SHARED}
    plain = jax.shard_map(data_parallel, check_vma=False, **specs)
    found = {
        name: ring_bytes(jax.jit(f).lower(params, batch).compile())
        for name, f in (("plain", plain), ("ours", jax.shard_map(ours, **specs)))
    }
    size = 4 * (60 * 101 + 101)
    assert found["plain"] == (2 * 7 / 8 * size, {"all-reduce"})
    sent, collectives = found["ours"]
    assert collectives == {"all-to-all", "all-reduce", "all-gather"}
    assert 0.9 * found["plain"][0] < sent <= 1.05 * found["plain"][0]


def test_an_axis_of_another_size_is_refused():
    f = bilevel.value_and_grad(
        lambda w, x: (x @ w).mean(), k=4, strategy="shard", axis_name="mb"
    )
    mapped = jax.shard_map(
        f, mesh=mesh(), in_specs=(SHARED, SPLIT), out_specs=(SHARED, SHARED, SHARED)
    )
    with pytest.raises(ValueError, match=r"got k=4 and 8 devices on the axis 'mb'"):
        mapped(jnp.ones(2), jnp.ones((8, 3, 2)))
