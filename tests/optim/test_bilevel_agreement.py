"""scale_by_agreement in chains, wrappers and loops, against the literal equations."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.optim import bilevel
from tests.optim import literal_bilevel as literal

K = 5
SHAPES = {"conv": {"kernel": (3, 4), "bias": (4,)}, "scale": ()}


def tree(seed, lead=(), dtype=jnp.float32):
    rng = np.random.default_rng(seed)

    def draw(shape):
        return jnp.asarray(1 + rng.normal(size=(*lead, *shape)), dtype)

    return jax.tree.map(draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple))


def flat(gradients):
    leaves = [np.asarray(x, np.float64) for x in jax.tree.leaves(gradients)]
    return np.concatenate([x.reshape(len(x), -1) for x in leaves], axis=1)


def vector(update):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(update)])


PARAMS = tree(0)
STACK = tree(1, (K,))


def apply(tx, stack=STACK, params=PARAMS):
    return jax.jit(tx.update)(stack, tx.init(params), params)


@pytest.mark.parametrize("val_index", [0, 3])
@pytest.mark.parametrize("solver", ["diagonal", "exact"])
@pytest.mark.parametrize("normalize", ["l1", None])
def test_the_update_is_the_literal_sum(val_index, solver, normalize):
    tx = bilevel.scale_by_agreement(
        K, mu=0.5, val_index=val_index, solver=solver, normalize=normalize
    )
    update, state = jax.jit(tx.update)(STACK, tx.init(PARAMS), PARAMS)
    g = flat(STACK)
    val, train = g[val_index], np.delete(g, val_index, axis=0)
    solve = literal.exact_weights if solver == "exact" else literal.raw_weights
    raw = solve(val, train, mu=0.5)
    expected = literal.normalised(raw) if normalize else raw
    np.testing.assert_allclose(state.info.weights, expected, rtol=2e-4)
    np.testing.assert_allclose(
        vector(update), literal.update(expected, train), rtol=2e-4, atol=1e-5
    )
    cosine = train @ val / np.linalg.norm(train, axis=1) / np.linalg.norm(val)
    np.testing.assert_allclose(state.info.cosine, cosine, rtol=1e-5)
    np.testing.assert_allclose(state.info.val_norm, np.linalg.norm(val), rtol=1e-5)


@pytest.mark.parametrize(
    ("on_zero", "expected"),
    [("skip", 0.0), ("uniform", (2 + 6) / 2), ("validation", 0.0)],
)
def test_a_validation_gradient_of_zero(on_zero, expected):
    stack = {"w": jnp.array([[0.0], [2.0], [6.0]])}
    tx = bilevel.scale_by_agreement(3, on_zero=on_zero)
    update, state = apply(tx, stack, {"w": jnp.zeros(1)})
    assert update["w"].tolist() == [expected]
    assert bool(state.info.skipped)


def test_the_validation_gradient_stands_in_for_orthogonal_ones():
    stack = {"w": jnp.array([[3.0, 0.0], [0.0, 1.0], [0.0, -2.0]])}
    tx = bilevel.scale_by_agreement(3, on_zero="validation")
    update, state = apply(tx, stack, {"w": jnp.zeros(2)})
    assert update["w"].tolist() == [3, 0]
    assert state.info.weights.tolist() == [0, 0]


@pytest.mark.parametrize("on_zero", ["skip", "uniform", "validation"])
def test_a_mini_batch_with_nan_is_left_out_where_asked(on_zero):
    tx = bilevel.scale_by_agreement(K - 1, on_zero=on_zero)
    expected, _ = apply(tx, jax.tree.map(lambda g: g[jnp.array([0, 1, 3, 4])], STACK))
    spoiled = jax.tree.map(lambda g: g.at[2].set(jnp.nan), STACK)
    tx = bilevel.scale_by_agreement(K, on_zero=on_zero, finite_only=True)
    np.testing.assert_allclose(
        vector(apply(tx, spoiled)[0]), vector(expected), rtol=1e-5
    )
    plain, state = apply(bilevel.scale_by_agreement(K), spoiled)
    assert np.isnan(vector(plain)).all()
    assert np.isnan(state.info.weights).all()
    # Without a validation gradient nothing is left to step along.
    spoiled = jax.tree.map(lambda g: g.at[0].set(jnp.inf), STACK)
    np.testing.assert_array_equal(vector(apply(tx, spoiled)[0]), 0)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_added_up_in_single(dtype):
    size = 1 << 17  # |g|^2 is beyond float16's 65504.
    rng = np.random.default_rng(2)
    stack = jnp.asarray(rng.normal(size=(4, size)) + 0.1, dtype)
    tx = bilevel.scale_by_agreement(4)
    update, state = apply(tx, {"w": stack}, {"w": jnp.zeros(size, dtype)})
    g = np.asarray(stack, np.float64)
    weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
    np.testing.assert_allclose(state.info.weights, weights, rtol=1e-4)
    assert update["w"].dtype == dtype
    expected = literal.update(weights, g[1:])
    np.testing.assert_allclose(
        np.asarray(update["w"], np.float64), expected, rtol=1e-2, atol=1e-3
    )


def test_complex_gradients_have_the_inner_product_of_their_real_parts():
    rng = np.random.default_rng(3)
    g = rng.normal(size=(4, 6)) + 1j * rng.normal(size=(4, 6)) + 0.5
    tx = bilevel.scale_by_agreement(4)
    params = {"w": jnp.zeros(6, jnp.complex64)}
    update, state = apply(tx, {"w": jnp.asarray(g, jnp.complex64)}, params)
    real = np.concatenate([g.real, g.imag], axis=1)
    weights = literal.normalised(literal.raw_weights(real[0], real[1:]))
    np.testing.assert_allclose(state.info.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(update["w"], weights @ g[1:], rtol=1e-5, atol=1e-6)


# --- Layers and frozen parameters


def test_each_layer_has_weights_of_its_own():
    tx = bilevel.scale_by_agreement(K, per_layer=bilevel.by_layer)
    update, state = apply(tx)
    assert state.info.weights.shape == (2, K - 1)
    assert state.info.val_norm.shape == (2,)
    for row, (name, layer) in enumerate(
        {"": STACK["scale"], "conv": STACK["conv"]}.items()
    ):
        g = flat(layer)
        weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
        np.testing.assert_allclose(state.info.weights[row], weights, rtol=1e-5)
        part = update[name] if name else update["scale"]
        np.testing.assert_allclose(
            vector(part), literal.update(weights, g[1:]), rtol=1e-5, atol=1e-6
        )


def test_labels_may_be_a_tree_of_branches():
    by_function, _ = apply(bilevel.scale_by_agreement(K, per_layer=bilevel.by_layer))
    labels = {"conv": "first", "scale": "second"}
    by_tree, state = apply(bilevel.scale_by_agreement(K, per_layer=labels))
    np.testing.assert_array_equal(vector(by_tree), vector(by_function))
    # Rows are in the order of the labels.
    norm = np.linalg.norm(flat(STACK["conv"])[0])
    np.testing.assert_allclose(state.info.val_norm[0], norm, rtol=1e-5)


@pytest.mark.parametrize(
    "mask",
    [
        {"conv": {"kernel": True, "bias": False}, "scale": True},
        lambda params: jax.tree.map(lambda x: x.shape != (4,), params),
    ],
)
def test_frozen_parameters_neither_count_nor_move(mask):
    tx = bilevel.scale_by_agreement(K, mask=mask)
    update, state = apply(tx)
    rest = {"kernel": STACK["conv"]["kernel"], "scale": STACK["scale"]}
    g = flat(rest)
    weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
    np.testing.assert_allclose(state.info.weights, weights, rtol=1e-5)
    np.testing.assert_array_equal(update["conv"]["bias"], np.zeros(4))
    np.testing.assert_allclose(
        vector({"k": update["conv"]["kernel"], "s": update["scale"]}),
        literal.update(weights, g[1:]),
        rtol=1e-5,
        atol=1e-6,
    )


def test_whole_numbers_among_the_parameters_stay():
    params = {"w": jnp.zeros(2), "count": jnp.array(3)}
    stack = {"w": jnp.ones((3, 2)), "count": jnp.zeros(3, jnp.int32)}
    tx = optax.chain(bilevel.scale_by_agreement(3), optax.sgd(1.0))
    update, _ = apply(tx, stack, params)
    after = optax.apply_updates(params, update)
    assert after["count"] == 3
    np.testing.assert_allclose(after["w"], -1)


# --- optax


@pytest.mark.parametrize(
    "after",
    [
        optax.sgd(0.1, momentum=0.9),
        optax.adam(1e-3),
        optax.contrib.muon(1e-3),
        optax.masked(optax.add_decayed_weights(0.1), {"conv": True, "scale": False}),
        optax.multi_transform(
            {"fast": optax.sgd(1.0), "slow": optax.sgd(0.1)},
            {"conv": "fast", "scale": "slow"},
        ),
        optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        optax.clip_by_global_norm(0.1),
    ],
    ids=[
        "momentum",
        "adam",
        "muon",
        "masked",
        "multi_transform",
        "multi_steps",
        "clip",
    ],
)
def test_what_comes_after_sees_one_gradient(after):
    tx = optax.chain(bilevel.scale_by_agreement(K), after)
    state, params = tx.init(PARAMS), PARAMS
    alone = after.init(PARAMS)
    both, single = jax.jit(tx.update), jax.jit(after.update)
    for seed in range(3):
        stack = tree(seed, (K,))
        g = flat(stack)
        weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
        one = jax.tree.map(
            lambda x, w=weights: jnp.tensordot(jnp.float32(w), x[1:], 1), stack
        )
        expected, alone = single(one, alone, params)
        update, state = both(stack, state, params)
        np.testing.assert_allclose(
            vector(update), vector(expected), rtol=2e-4, atol=1e-5
        )
        params = optax.apply_updates(params, update)


def test_steps_in_a_scan_are_the_steps_of_a_loop():
    tx = bilevel.bilevel_sgd(0.1, k=K, weight_decay=1e-3)
    stacks = tree(4, (3, K))

    @jax.jit
    def step(carry, stack):
        params, state = carry
        update, state = tx.update(stack, state, params)
        return (optax.apply_updates(params, update), state), state[0].info

    carry = PARAMS, tx.init(PARAMS)
    (params, state), infos = jax.lax.scan(step, carry, stacks)
    for i in range(3):
        carry, info = step(carry, jax.tree.map(lambda x, i=i: x[i], stacks))
        np.testing.assert_allclose(infos.weights[i], info.weights, rtol=1e-5)
    np.testing.assert_allclose(vector(params), vector(carry[0]), rtol=1e-5)
    assert jax.tree.structure(state) == jax.tree.structure(carry[1])


def test_bilevel_sgd_is_weighting_then_decay_then_momentum():
    tx = bilevel.bilevel_sgd(0.5, k=K, momentum=0.8, weight_decay=0.1)
    step, state = jax.jit(tx.update), tx.init(PARAMS)
    p = vector(PARAMS).astype(np.float64)
    params, trace = PARAMS, 0.0
    for seed in (5, 6):
        stack = tree(seed, (K,))
        g = flat(stack)
        weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
        trace = 0.8 * trace + literal.update(weights, g[1:]) + 0.1 * p
        p = p - 0.5 * trace
        update, state = step(stack, state, params)
        params = optax.apply_updates(params, update)
        np.testing.assert_allclose(state[0].info.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(vector(params), p, rtol=1e-5, atol=1e-6)


def test_hyperparameters_can_be_injected():
    make = optax.inject_hyperparams(
        bilevel.scale_by_agreement, static_args=("k", "val_index")
    )
    tx = make(k=K, mu=optax.linear_schedule(0.01, 5.0, 1), lam=0.5)
    step, state = jax.jit(tx.update), tx.init(PARAMS)
    for mu in (0.01, 5.0):
        _, state = step(STACK, state, PARAMS)
        g = flat(STACK)
        raw = literal.raw_weights(g[0], g[1:], lam=0.5, mu=mu)
        np.testing.assert_allclose(optax.tree.get(state, "l1"), np.abs(raw).sum(), 1e-4)


@pytest.mark.parametrize("wrapper", ["multi_transform", "masked"])
def test_branches_can_have_transformations_of_their_own(wrapper):
    conv, rest = {"conv": True, "scale": False}, {"conv": False, "scale": True}
    mean = optax.stateless(lambda g, _: jax.tree.map(lambda x: x.mean(0), g))
    weigh = bilevel.scale_by_agreement(K)
    if wrapper == "masked":
        tx = optax.chain(optax.masked(weigh, conv), optax.masked(mean, rest))
    else:
        labels = {"conv": "weighted", "scale": "averaged"}
        tx = optax.multi_transform({"weighted": weigh, "averaged": mean}, labels)
    update, _ = apply(tx)
    g = flat(STACK["conv"])
    weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
    np.testing.assert_allclose(
        vector(update["conv"]), literal.update(weights, g[1:]), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(update["scale"], STACK["scale"].mean(), rtol=1e-6)


def test_it_is_an_aggregator_of_optax():
    aggregating = pytest.importorskip("optax.experimental").aggregating
    tx = bilevel.scale_by_agreement(K)
    assert isinstance(tx, aggregating.Aggregator)
    whole = aggregating.process(optax.identity(), tx, optax.sgd(0.1))
    update, _ = apply(whole)
    expected, _ = apply(optax.chain(tx, optax.sgd(0.1)))
    np.testing.assert_allclose(vector(update), vector(expected), rtol=1e-6)


# --- Mistakes


def test_gradients_that_are_not_stacked_are_refused():
    tx = bilevel.scale_by_agreement(K)
    one = jax.tree.map(lambda g: g[0], STACK)
    words = r"expects k=5 stacked gradients, of shape \(5, 4\) .*\['bias'\].*\(4,\)"
    with pytest.raises(ValueError, match=words):
        apply(tx, one)
    with pytest.raises(ValueError, match="stacked gradients"):
        tx.update(one, tx.init(PARAMS))
    with pytest.raises(ValueError, match=r"first in the chain"):
        apply(optax.chain(optax.sgd(0.1), bilevel.scale_by_agreement(K - 1)))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            {"scale": 1.0},
            r"got \['conv'\]\['bias'\] in the gradients where .* \['scale'\]",
        ),
        (
            {**PARAMS, "t": 1.0},
            r"got nothing in the gradients where params have \['t'\]",
        ),
        (jnp.ones(2), r"got \['conv'\]\['bias'\] .* params have one array"),
    ],
)
def test_trees_that_differ_are_refused(params, words):
    tx = bilevel.scale_by_agreement(K)
    with pytest.raises(ValueError, match=rf"same structure; {words}.*mask="):
        tx.update(STACK, tx.init(PARAMS), params)


def test_a_transformation_without_parameters_does_nothing():
    tx = bilevel.scale_by_agreement(K, mask=PARAMS, per_layer=PARAMS)
    state = tx.init({})
    assert tx.update({}, state, {}) == ({}, state)


@pytest.mark.parametrize(
    "leaf", [jax.nn.relu, "relu", "float32"], ids=["function", "word", "dtype"]
)
def test_modules_with_leaves_that_are_no_arrays_are_refused(leaf):
    module = {"kernel": jnp.ones(2), "activation": leaf}
    words = r"arrays alone; got a \w+ at \['activation'\].*eqx\.partition.*nnx\.split"
    with pytest.raises(TypeError, match=words):
        bilevel.scale_by_agreement(K).init(module)
    f = bilevel.value_and_grad(lambda p, x: (x * p["kernel"]).sum(), k=3)
    with pytest.raises(TypeError, match=words):
        f(module, jnp.ones((3, 2)))


def test_params_are_not_needed():
    tx = bilevel.scale_by_agreement(K)
    update, _ = jax.jit(tx.update)(STACK, tx.init(PARAMS))
    np.testing.assert_array_equal(vector(update), vector(apply(tx)[0]))


@pytest.mark.parametrize("stack", [STACK, jax.tree.map(lambda g: g[0], STACK)])
def test_multi_steps_around_it_is_refused(stack):
    tx = optax.MultiSteps(
        optax.chain(bilevel.scale_by_agreement(K), optax.sgd(0.1)), every_k_schedule=2
    )
    with pytest.raises(ValueError, match=r"never inside of optax\.MultiSteps"):
        tx.update(stack, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"k": 1}, ValueError, "k must be at least 2, .*; got 1"),
        ({"k": jnp.array(3)}, TypeError, "k must be a Python int, .*static_args"),
        ({"k": 3, "val_index": 3}, ValueError, "between 0 and 2, .*; got 3"),
        ({"k": 3, "val_index": 0.5}, TypeError, "val_index must be .*static_args"),
        ({"k": 3, "mu": -1}, ValueError, "mu must be in"),
    ],
)
def test_impossible_settings_are_refused(settings, error, words):
    unchecked = inspect.unwrap(bilevel.scale_by_agreement)  # As users call it.
    with pytest.raises(error, match=words):
        unchecked(**settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"mask": {"conv": True}}, "mask must have the parameters' structure"),
        ({"per_layer": {"x": "a"}}, "per_layer must have the parameters' structure"),
        (
            {"mask": {"conv": 1, "scale": True}},
            "must hold Python booleans.*static_args",
        ),
        ({"mask": False}, "Of 3 parameters none is trained"),
    ],
)
def test_masks_and_labels_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        bilevel.scale_by_agreement(3, **settings).init(PARAMS)
