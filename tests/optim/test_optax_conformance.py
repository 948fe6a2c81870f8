"""What optax's own common tests ask of a transformation, asked of all of ours.

One list of transformations, bare and in optax's wrappers; each law holds for every one
of them. A new transformation is one line in `TRANSFORMS`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxssl.optim import bilevel
from jaxssl.optim.registry import OPTIMIZERS

K, STEPS = 4, 3
SHAPES = {"dense": {"kernel": (2, 4), "bias": (4,)}, "norm": {"scale": (4,)}}
MASK = {"dense": True, "norm": False}
STATIC = ("k", "val_index", "mask", "per_layer")


def mean():
    return optax.stateless(lambda g, _: jax.tree.map(lambda x: x.mean(0), g))


def divided(labels):
    """Weigh the gradients of one branch, average those of the other."""
    parts = {"weighted": bilevel.scale_by_agreement(K), "averaged": mean()}
    return optax.partition(parts, labels)


STACKED = {
    "agreement": bilevel.scale_by_agreement(K),
    "strong": bilevel.scale_by_agreement(K, lam=np.float64(2), mu=np.float64(0.1)),
    "exact": bilevel.scale_by_agreement(K, solver="exact", normalize=None),
    "per layer": bilevel.scale_by_agreement(K, per_layer=bilevel.by_layer),
    "frozen": bilevel.scale_by_agreement(K, mask=MASK),
    "bilevel_sgd": bilevel.bilevel_sgd(0.1, k=K, weight_decay=1e-3),
    "partition": divided({"dense": "weighted", "norm": "averaged"}),
    "partition, nobody": divided({"dense": "averaged", "norm": "averaged"}),
    "masked": optax.chain(
        optax.masked(bilevel.scale_by_agreement(K), MASK),
        optax.masked(mean(), {"dense": False, "norm": True}),
    ),
    "injected": optax.inject_hyperparams(bilevel.scale_by_agreement, STATIC)(
        K, mu=0.5, per_layer=bilevel.by_layer, mask=lambda _: MASK
    ),
    "finite": optax.chain(
        bilevel.scale_by_agreement(K), optax.apply_if_finite(optax.adam(0.1), 2)
    ),
}
"""Those that take k gradients stacked on a leading axis."""

TRANSFORMS = {
    **STACKED,
    **{kind: one.make(one.settings(), STEPS) for kind, one in OPTIMIZERS.items()},
}
COPIES = {"bilevel_sgd": 1, "finite": 2, "adam": 2, "adamw": 2, "rmsprop": 1, "sgd": 1}
"""How often a state holds something for each parameter; else it does not."""

EACH = pytest.mark.parametrize("name", TRANSFORMS)


def tree(seed, lead=(), dtype=jnp.float32):
    rng = np.random.default_rng(seed)

    def draw(shape):
        return jnp.asarray(1 + rng.normal(size=(*lead, *shape)), dtype)

    return jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def gradients(name, seed, lead=(), dtype=jnp.float32):
    return tree(seed, (*lead, K) if name in STACKED else lead, dtype)


def step(tx, params, state, gradient, here):
    """Take a step or leave it, by `jax.lax.cond` and by `jax.numpy.where`."""
    updates, new = tx.update(gradient, state, params, value=1.0, unknown=2)
    new = jax.lax.cond(here, lambda: new, lambda: state)
    new = jax.tree.map(functools.partial(jnp.where, here), new, state)
    after = optax.apply_updates(params, updates)
    return jax.lax.cond(here, lambda: (after, new), lambda: (params, state))


def types(tree):
    return jax.tree.map(jax.typeof, tree)


def assert_close(found, expected, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol),
        found,
        expected,
    )


@EACH
def test_buffers_are_donated_in_scans_with_conditions(name):
    """Also: no step compiles anew, as the state keeps its types."""
    tx = TRANSFORMS[name]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def run(params, state, stack, flags):
        def body(carry, x):
            return step(tx, *carry, *x), None

        return jax.lax.scan(body, (params, state), (stack, flags))[0]

    stack, params = gradients(name, 1, (STEPS,)), tree(0)
    first, last = jnp.array([True, False, False]), jnp.array([False, False, True])
    halves = run(*run(params, tx.init(params), stack, first), stack, last)
    params = tree(0)
    whole = run(params, tx.init(params), stack, first | last)
    assert_close(halves, whole)
    assert run._cache_size() == 1
    assert not np.allclose(halves[0]["dense"]["kernel"], tree(0)["dense"]["kernel"])


@EACH
def test_map_params_finds_what_belongs_to_parameters(name):
    tx, params = TRANSFORMS[name], tree(0)
    state = tx.init(params)
    same = optax.tree.map_params(tx, lambda x: x, state)
    jax.tree.map(np.testing.assert_array_equal, same, state)
    marked = optax.tree.map_params(
        tx,
        lambda _, param: param.shape,
        state,
        params,
        transform_non_params=lambda _: None,
    )
    expected = jax.tree.leaves(SHAPES) * COPIES.get(name, 0)
    assert sorted(jax.tree.leaves(marked)) == sorted(expected)
    assert len(jax.tree.leaves(state)) >= COPIES.get(name, 0)


@EACH
@pytest.mark.parametrize(
    ("dtype", "x64"),
    [("bfloat16", False), ("float32", True), ("float64", True)],
)
def test_types_are_kept_in_any_precision(name, dtype, x64):
    """Traced only: what scan, cond and donation ask for follows from the types."""
    tx = TRANSFORMS[name]
    with jax.enable_x64(x64):
        params, gradient = tree(0, dtype=dtype), gradients(name, 1, dtype=dtype)
        state = tx.init(params)
        one = functools.partial(step, tx)
        moved, new = jax.eval_shape(one, params, state, gradient, jnp.array(True))
        for before, after in ((params, moved), (state, new)):
            jax.tree.map(
                lambda a, b: np.testing.assert_equal(
                    (a.shape, a.dtype, a.weak_type), (b.shape, b.dtype, b.weak_type)
                ),
                before,
                after,
            )
        updates, _ = jax.eval_shape(tx.update, gradient, state, params)
        assert {x.dtype for x in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "injected"])
def test_the_state_of_shapes_is_a_state(name):
    """Of all but inject_hyperparams, which asks for arrays itself."""
    tx = TRANSFORMS[name]
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree(0))
    abstract, state = tx.init(shapes), tx.init(tree(0))
    assert jax.tree.structure(abstract) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(abstract), jax.tree.leaves(state), strict=True):
        assert (jnp.shape(a), a.dtype) == (b.shape, b.dtype)


# --- Sharding

COLUMNS = PartitionSpec(None, "x")
SPECS = {
    "dense": {"kernel": COLUMNS, "bias": PartitionSpec("x")},
    "norm": {"scale": PartitionSpec("x")},
}


def mesh(kind):
    return jax.make_mesh((2,), ("x",), axis_types=(kind,))


@pytest.mark.parametrize("name", ["bilevel_sgd", "per layer", "exact", "adamw"])
def test_a_state_is_sharded_by_map_params(name):
    tx, params, gradient = TRANSFORMS[name], tree(0), gradients(name, 1)
    state = tx.init(params)
    place = functools.partial(NamedSharding, mesh(AxisType.Auto))
    specs = optax.tree.map_params(
        tx,
        lambda _, spec: place(spec),
        state,
        SPECS,
        transform_non_params=lambda _: place(PartitionSpec()),
    )
    split = jax.tree.map(place, SPECS)
    stack = [None] if name in STACKED else []
    of_gradients = jax.tree.map(lambda spec: place(PartitionSpec(*stack, *spec)), SPECS)
    update = jax.jit(tx.update, out_shardings=(split, specs))
    found = update(
        jax.device_put(gradient, of_gradients),
        jax.device_put(state, specs),
        jax.device_put(params, split),
    )
    assert_close(found, jax.jit(tx.update)(gradient, state, params))
    assert found[0]["dense"]["kernel"].sharding.spec == COLUMNS


@EACH
def test_shardings_in_types_are_kept(name):
    """On an axis of explicit sharding the shardings are part of the types."""
    tx = TRANSFORMS[name]

    def typed(tree, *lead):
        return jax.tree.map(
            lambda x, spec: jax.device_put(x, PartitionSpec(*lead, *spec)), tree, SPECS
        )

    with jax.set_mesh(mesh(AxisType.Explicit)):
        params = typed(tree(0))
        gradient = typed(gradients(name, 1), *([None] if name in STACKED else []))
        state = jax.jit(tx.init)(params)
        traced = jax.jit(tx.update).trace(gradient, state, params)
        updates, new = jax.tree.unflatten(traced.out_tree, traced.jaxpr.out_avals)
        assert new == types(state)
        assert updates == types(params)


# --- Injected settings


@pytest.mark.parametrize(
    ("make", "static", "settings"),
    [
        (
            bilevel.scale_by_agreement,
            STATIC,
            {"lam": 0.5, "per_layer": bilevel.by_layer},
        ),
        (bilevel.bilevel_sgd, "k", {"learning_rate": 0.1, "weight_decay": 0.1}),
    ],
)
def test_injected_settings_are_the_settings(make, static, settings):
    settings = {"k": K, "mu": 0.3, **settings}
    plain, injected = (
        make(**settings),
        optax.inject_hyperparams(make, static)(**settings),
    )
    params, gradient = tree(0), gradients("agreement", 1)
    expected = jax.jit(plain.update)(gradient, plain.init(params), params)
    state = jax.jit(injected.init)(params)
    updates, state = jax.jit(injected.update)(gradient, state, params)
    assert_close((updates, state.inner_state), expected)
