"""value_and_grad: every strategy against gradients and equations written out."""

import dataclasses
import inspect
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import ops
from jaxssl.optim import bilevel
from tests.optim import literal_bilevel as literal

K, B, D = 4, 6, 5
INF = float("inf")
STRATEGIES = ("scan", "loop", "vmap", "jvp", "auto")


def loss_fn(params, minibatch):
    error = minibatch["x"] @ params["w"] + params["b"] - minibatch["y"]
    return jnp.mean(error**2)


def make_batch(seed=0, k=K):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(k, B, D)) + 0.5
    return {"x": x, "y": x @ np.arange(D) + 2 * rng.normal(size=(k, B))}


def literal_gradients(params, batch):
    """The gradients for w and b, one row a mini-batch, in float64."""
    rows = []
    for x, y in zip(batch["x"], batch["y"], strict=True):
        error = x @ np.asarray(params["w"], np.float64) + float(params["b"]) - y
        rows.append(np.append(2 / B * x.T @ error, 2 / B * error.sum()))
    return np.array(rows)


def literal_losses(params, batch):
    error = batch["x"] @ np.asarray(params["w"], np.float64) + float(params["b"])
    return ((error - batch["y"]) ** 2).mean(axis=1)


def vector(gradient):
    return np.append(gradient["w"], gradient["b"])


PARAMS = {"w": jnp.linspace(-1, 1, D), "b": jnp.array(0.3)}
BATCH = make_batch()
FLOATS = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), BATCH)


COMPILED = {}
"""Tests with the same loss and settings share a program."""


def run(strategy="scan", params=PARAMS, batch=FLOATS, loss=loss_fn, **settings):
    extra = {name: settings.pop(name) for name in ("state", "key") if name in settings}
    lam = settings.pop("lam", INF if strategy == "jvp" else 1.0)
    settings = {"k": len(jax.tree.leaves(batch)[0]), "lam": lam, **settings}
    name = repr((loss, strategy, sorted(settings.items())))
    if name not in COMPILED:
        f = bilevel.value_and_grad(loss, strategy=strategy, **settings)
        COMPILED[name] = jax.jit(f)
    return COMPILED[name](params, batch, **extra)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("k", "normalize"), [(2, "l1"), (K, "l1"), (K, None)])
def test_every_strategy_is_the_literal_update(strategy, k, normalize):
    batch = make_batch(k=k)
    floats = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)
    loss, gradient, info = run(strategy, batch=floats, mu=0.5, normalize=normalize)
    g = literal_gradients(PARAMS, batch)
    lam = INF if strategy == "jvp" else 1.0
    raw = literal.raw_weights(g[0], g[1:], lam=lam, mu=0.5)
    expected = literal.normalised(raw) if normalize else raw
    np.testing.assert_allclose(info.weights, expected, rtol=1e-5)
    np.testing.assert_allclose(
        vector(gradient), literal.update(expected, g[1:]), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(loss, literal_losses(PARAMS, batch).mean(), rtol=1e-5)
    np.testing.assert_allclose(info.l1, np.abs(raw).sum(), rtol=1e-5)
    np.testing.assert_allclose(info.val_norm, np.linalg.norm(g[0]), rtol=1e-5)
    if strategy == "jvp":
        assert (info.cosine, info.grad_norms) == (None, None)
    else:
        norms = np.linalg.norm(g[1:], axis=1)
        np.testing.assert_allclose(info.grad_norms, norms, rtol=1e-5)
        cosine = g[1:] @ g[0] / norms / np.linalg.norm(g[0])
        np.testing.assert_allclose(info.cosine, cosine, rtol=1e-5)


@pytest.mark.parametrize("strategy", ["scan", "loop", "vmap"])
def test_the_exact_solver_in_every_strategy(strategy):
    _, gradient, info = run(strategy, mu=2.0, solver="exact")
    g = literal_gradients(PARAMS, BATCH)
    weights = literal.normalised(literal.exact_weights(g[0], g[1:], mu=2.0))
    np.testing.assert_allclose(info.weights, weights, rtol=1e-3, atol=1e-5)
    expected = literal.update(weights, g[1:])
    np.testing.assert_allclose(vector(gradient), expected, rtol=1e-3, atol=1e-4)


def test_traced_settings_in_a_training_loop():
    """Mu follows a schedule inside of lax.scan over steps, with momentum after it."""
    tx = optax.sgd(0.05, momentum=0.9)

    def step(carry, batch):
        params, state, count = carry
        f = bilevel.value_and_grad(loss_fn, k=K, mu=0.1 * (count + 1), strategy="scan")
        _, gradient, info = f(params, batch)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, count + 1), info

    batches = [make_batch(seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *x: jnp.asarray(np.stack(x), jnp.float32), *batches)
    start = PARAMS, tx.init(PARAMS), 0.0
    (params, _, _), infos = jax.jit(lambda c, b: jax.lax.scan(step, c, b))(
        start, stacked
    )
    p, trace = vector(PARAMS).astype(np.float64), 0.0
    for i, batch in enumerate(batches):
        g = literal_gradients({"w": p[:-1], "b": p[-1]}, batch)
        raw = literal.raw_weights(g[0], g[1:], mu=0.1 * (i + 1))
        np.testing.assert_allclose(infos.l1[i], np.abs(raw).sum(), rtol=1e-4)
        trace = 0.9 * trace + literal.update(literal.normalised(raw), g[1:])
        p = p - 0.05 * trace
    np.testing.assert_allclose(vector(params), p, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strategy", ["scan", "vmap", "jvp"])
@pytest.mark.parametrize("on_zero", ["skip", "uniform", "validation"])
def test_a_step_without_agreement(strategy, on_zero):
    """Mini-batch 0 sees w[0] alone, the others w[1] alone: orthogonal gradients."""
    batch = jnp.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 3.0]]])
    expected = {"skip": [0, 0], "uniform": [0, 2.0], "validation": [1.0, 0]}[on_zero]
    _, gradient, info = run(
        strategy,
        params=jnp.zeros(2),
        batch=batch,
        loss=lambda w, x: jnp.mean(x @ w),
        on_zero=on_zero,
    )
    np.testing.assert_allclose(gradient, expected)
    assert bool(info.skipped)
    np.testing.assert_allclose(info.weights, 0.5 if on_zero == "uniform" else 0)


@pytest.mark.parametrize("strategy", ["scan", "vmap"])
@pytest.mark.parametrize("on_zero", ["skip", "uniform"])
def test_a_mini_batch_with_nan_can_be_left_out(strategy, on_zero):
    spoiled = {"x": FLOATS["x"], "y": FLOATS["y"].at[2, 3].set(jnp.nan)}
    settings = {"finite_only": True, "on_zero": on_zero}
    _, gradient, info = run(strategy, batch=spoiled, **settings)
    rest = jax.tree.map(lambda x: x[jnp.array([0, 1, 3])], FLOATS)
    _, expected, _ = run(strategy, batch=rest)
    np.testing.assert_allclose(vector(gradient), vector(expected), rtol=1e-5)
    assert float(info.weights[1]) == 0
    _, gradient, info = run(strategy, batch=spoiled)
    assert np.isnan(vector(gradient)).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_parameters_are_weighted_in_single(dtype):
    """|g|^2 is beyond what float16 holds, and sums need more digits than bfloat16's."""
    rng = np.random.default_rng(1)
    batch = jnp.asarray(rng.normal(size=(3, 1, 1 << 17)) + 0.1, dtype)
    params = {"w": jnp.zeros(1 << 17, dtype)}

    def loss(params, x):
        return (x[0] * params["w"]).sum()

    _, gradient, info = run(params=params, batch=batch, loss=loss)
    g = np.asarray(batch[:, 0], np.float64)
    weights = literal.normalised(literal.raw_weights(g[0], g[1:]))
    np.testing.assert_allclose(info.weights, weights, rtol=1e-4)
    assert gradient["w"].dtype == dtype
    np.testing.assert_allclose(
        np.asarray(gradient["w"], np.float64),
        literal.update(weights, g[1:]),
        rtol=1e-2,
        atol=1e-3,
    )


# --- Layers, frozen parameters, containers


@pytest.mark.parametrize("strategy", ["scan", "vmap"])
def test_layers_have_weights_of_their_own(strategy):
    labels = {"w": "slope", "b": "offset"}
    _, gradient, info = run(strategy, per_layer=labels)
    g = literal_gradients(PARAMS, BATCH)
    for row, (name, part) in enumerate({"b": g[:, D:], "w": g[:, :D]}.items()):
        weights = literal.normalised(literal.raw_weights(part[0], part[1:]))
        np.testing.assert_allclose(info.weights[row], weights, rtol=1e-4)
        np.testing.assert_allclose(
            np.ravel(gradient[name]), literal.update(weights, part[1:]), rtol=1e-4
        )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_parameters_neither_count_nor_move(strategy):
    _, gradient, info = run(strategy, mask={"w": True, "b": False})
    assert float(gradient["b"]) == 0
    g = literal_gradients(PARAMS, BATCH)[:, :D]
    lam = INF if strategy == "jvp" else 1.0
    weights = literal.normalised(literal.raw_weights(g[0], g[1:], lam=lam))
    np.testing.assert_allclose(info.weights, weights, rtol=1e-4)
    np.testing.assert_allclose(gradient["w"], literal.update(weights, g[1:]), 1e-4)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """A module as equinox writes them: a dataclass of arrays that is called."""

    w: jax.Array
    b: jax.Array
    count: jax.Array

    def __call__(self, x):
        return x @ self.w + self.b


def test_any_pytree_is_a_set_of_parameters():
    module = Module(PARAMS["w"], PARAMS["b"], jnp.array(7))
    _, gradient, info = run(
        params=module, loss=lambda m, z: jnp.mean((m(z["x"]) - z["y"]) ** 2)
    )
    _, expected, same = run()
    assert isinstance(gradient, Module)
    np.testing.assert_array_equal(gradient.w, expected["w"])
    np.testing.assert_array_equal(info.weights, same.weights)
    assert gradient.count.dtype == jnp.int32
    moved = optax.apply_updates(module, gradient)
    assert int(moved.count) == 7


# --- Aux, state, keys


def stateful(params, minibatch, state, key=None):
    """A loss with an average that moves, a counter, and dropout if there is a key."""
    x = minibatch["x"]
    if key is not None:
        x = x * jax.random.bernoulli(key, 0.5, x.shape)
    mean = 0.9 * state["mean"] + 0.1 * x.mean(axis=0)
    error = (x - mean[None]) @ params["w"] + params["b"] - minibatch["y"]
    state = {"mean": mean, "count": state["count"] + 1}
    return jnp.mean(error**2), (state, {"x": x.mean()})


STATE = {"mean": jnp.zeros(D), "count": jnp.array(10)}
KEY = jax.random.key(5)


def drawing(params, minibatch, state, key):
    """The same without dropout, and what the key draws."""
    value, (state, aux) = stateful(params, minibatch, state)
    return value, (state, {**aux, "drawn": jax.random.uniform(key)})


@pytest.mark.parametrize("strategy", ["scan", "loop", "vmap", "jvp"])
@pytest.mark.parametrize("how", ["sequential", "mean", "last"])
def test_what_becomes_of_the_state(strategy, how):
    settings = {"loss": drawing, "has_aux": True, "reduce_state": how, "state": STATE}
    settings |= {"rng_mode": "split" if how == "mean" else "shared", "key": KEY}
    if how == "sequential" and strategy in ("vmap", "jvp"):
        with pytest.raises(ValueError, match="one mini-batch after the other"):
            run(strategy, **settings)
        return
    (loss, (state, aux)), _, info = run(strategy, **settings)
    means = BATCH["x"].mean(axis=1)
    single = 0.1 * means
    running = np.zeros(D)
    for mean in means:
        running = 0.9 * running + 0.1 * mean
    expected = {"sequential": running, "mean": single.mean(0), "last": single[-1]}[how]
    np.testing.assert_allclose(state["mean"], expected, rtol=1e-5, atol=1e-6)
    assert int(state["count"]) == 10 + (K if how == "sequential" else 1)
    np.testing.assert_allclose(aux["x"], BATCH["x"].mean(axis=(1, 2)), rtol=1e-4)
    # The losses saw the states: write the k of them out.
    losses, seen = [], np.zeros(D)
    for x, y, mean in zip(BATCH["x"], BATCH["y"], means, strict=True):
        at = 0.9 * seen + 0.1 * mean
        seen = at if how == "sequential" else seen
        w, b = np.asarray(PARAMS["w"], np.float64), float(PARAMS["b"])
        losses.append((((x - at) @ w + b - y) ** 2).mean())
    np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-5)
    assert info.weights.shape == (K - 1,)


@pytest.mark.parametrize("strategy", ["scan", "loop", "vmap", "jvp"])
@pytest.mark.parametrize("mode", ["shared", "split"])
def test_who_gets_which_key(strategy, mode):
    how = "mean" if mode == "split" else "last"  # As above: the same program.
    settings = {"loss": drawing, "has_aux": True, "reduce_state": how, "state": STATE}
    (_, (_, aux)), _, _ = run(strategy, rng_mode=mode, key=KEY, **settings)
    keys = [KEY if mode == "shared" else jax.random.fold_in(KEY, i) for i in range(K)]
    np.testing.assert_allclose(aux["drawn"], [jax.random.uniform(key) for key in keys])
    assert len(np.unique(aux["drawn"])) == (1 if mode == "shared" else K)


def test_strategies_agree_with_state_dropout_and_aux():
    settings = {"has_aux": True, "rng_mode": "split", "key": jax.random.key(1)}
    settings |= {"loss": stateful, "state": STATE}
    found = {
        strategy: run(strategy, reduce_state="mean", lam=INF, **settings)
        for strategy in ("scan", "loop", "vmap", "jvp")
    }
    reference = found.pop("scan")
    for strategy, (value, gradient, info) in found.items():
        np.testing.assert_allclose(
            info.weights, reference[2].weights, 1e-4, err_msg=strategy
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            (value, gradient),
            reference[:2],
        )


def test_a_loss_with_state_alone_returns_it():
    def loss(params, minibatch, state):
        value, (state, _) = stateful(params, minibatch, state)
        return value, state

    (loss_value, state), _, _ = run(loss=loss, reduce_state="last", state=STATE)
    assert jnp.shape(loss_value) == ()
    assert set(state) == {"mean", "count"}


def test_weight_decay_in_the_loss_enters_the_weights_and_outside_does_not():
    """The pitfall, shown: noise gradients agree on nothing but the decay."""
    rng = np.random.default_rng(2)
    batch = jnp.asarray(rng.normal(size=(8, 1, 200)), jnp.float32)
    params = jnp.asarray(rng.normal(size=200), jnp.float32)

    def cosine(decay):
        def loss(w, x):
            return (x @ w).mean() + 0.5 * decay * (w**2).sum()

        return float(run(params=params, batch=batch, loss=loss)[2].cosine.mean())

    assert abs(cosine(0.0)) < 0.1
    assert cosine(3.0) > 0.7


# --- auto


def conv_loss(convolve):
    def loss(kernel, x):
        return (convolve(x, kernel) ** 2).mean()

    return loss


def stock_conv(x, kernel):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers
    )


def while_loops(loss, strategy):
    kernel = jnp.ones((3, 3, 2, 4))
    batch = jnp.ones((4, 2, 5, 5, 2))
    f = bilevel.value_and_grad(loss, k=4, strategy=strategy)
    return jax.jit(f).lower(kernel, batch).as_text().count("stablehlo.while")


def test_auto_scans_unless_the_gradients_have_stock_convolutions():
    dense = conv_loss(lambda x, kernel: x.sum() * kernel)
    assert while_loops(dense, "auto") == while_loops(dense, "scan") == 1
    stock = conv_loss(stock_conv)
    assert while_loops(stock, "scan") == 1
    with pytest.warns(UserWarning, match=r"jaxssl\.ops\.conv_general_dilated"):
        assert while_loops(stock, "auto") == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert while_loops(stock, "loop") == 0


def test_auto_scans_over_our_convolutions():
    """Their gradients are as fast inside of a loop, pools and strides included."""

    def convolve(x, kernel):
        y = ops.conv_general_dilated(x, kernel, (2, 1), "SAME")
        return ops.max_pool(y, (2, 2), (1, 1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert while_loops(conv_loss(convolve), "auto") == 1
        assert while_loops(conv_loss(convolve), "loop") == 0


def test_auto_gives_the_numbers_of_loop_with_stock_convolutions():
    rng = np.random.default_rng(3)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32)
    batch = jnp.asarray(rng.normal(size=(3, 2, 5, 5, 2)), jnp.float32)
    loss = conv_loss(stock_conv)
    with pytest.warns(UserWarning, match="Python loop"):
        _, auto, _ = run("auto", params=kernel, batch=batch, loss=loss)
    _, loop, info = run("loop", params=kernel, batch=batch, loss=loss)
    np.testing.assert_allclose(auto, loop, rtol=1e-5, atol=1e-6)
    _, expected, same = run("vmap", params=kernel, batch=batch, loss=loss)
    np.testing.assert_allclose(auto, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(info.weights, same.weights, rtol=1e-4)


def test_only_the_branch_for_cpu_decides():
    """A product on CPU with a stock convolution for other platforms is no reason."""

    def product(x, kernel):
        return jnp.tensordot(x, kernel[1, 1], 1)

    def convolve(x, kernel):
        return jax.lax.platform_dependent(x, kernel, cpu=product, default=stock_conv)

    assert while_loops(conv_loss(convolve), "auto") == 1

    def reversed_roles(x, kernel):
        return jax.lax.platform_dependent(x, kernel, cuda=product, default=stock_conv)

    with pytest.warns(UserWarning, match="Python loop"):
        assert while_loops(conv_loss(reversed_roles), "auto") == 0


# --- Mistakes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "pmap"}, "strategy must be one of 'auto', .*; got 'pmap'"),
        ({"rng_mode": "same"}, "rng_mode must be one of None, .*; got 'same'"),
        ({"reduce_state": "sum"}, "reduce_state must be one of None, .*; got 'sum'"),
        ({"strategy": "jvp"}, r"needs lam=float\('inf'\); got lam=1.0"),
        ({"strategy": "jvp", "lam": INF, "per_layer": bilevel.by_layer}, "cannot do"),
        ({"strategy": "jvp", "lam": INF, "finite_only": True}, "cannot do"),
        ({"strategy": "jvp", "lam": INF, "solver": "exact"}, "cannot do"),
        ({"strategy": "shard"}, "axis_name and strategy='shard' belong together"),
        ({"axis_name": "mb"}, "axis_name and strategy='shard' belong together"),
        ({"k": 1}, "k must be at least 2"),
        ({"lam": 0.0}, "lam must be above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        bilevel.value_and_grad(loss_fn, **settings)


def test_k_has_to_be_static():
    with pytest.raises(TypeError, match="k must be a Python int"):
        inspect.unwrap(bilevel.value_and_grad)(loss_fn, k=jnp.array(3))


def test_a_batch_that_is_no_stack_of_k_is_refused():
    f = bilevel.value_and_grad(loss_fn, k=3)
    with pytest.raises(ValueError, match=r"k=3; got shape \(4, 6, 5\) at \['x'\]"):
        f(PARAMS, FLOATS)
    with pytest.raises(ValueError, match="at least one array"):
        f(PARAMS, {})


def test_states_and_keys_are_passed_exactly_where_asked_for():
    with pytest.raises(ValueError, match="key must be passed if and only if rng_mode"):
        run(rng_mode="split")
    with pytest.raises(ValueError, match=r"state must be .* reduce_state=None and a"):
        run(state=STATE)


def test_a_loss_that_is_no_scalar_is_refused():
    with pytest.raises(ValueError, match=r"must return a scalar .*got shape \(6,\)"):
        run(loss=lambda p, m: m["x"] @ p["w"])


@pytest.mark.parametrize(
    ("value", "settings", "words"),
    [
        (lambda loss: (loss, 1), {}, "the loss alone; got a tuple of 2. Set has_aux"),
        (lambda loss: loss, {"has_aux": True}, r"return \(loss, aux\) .*got one value"),
        (
            lambda loss: (loss, {}, 1),
            {"has_aux": True, "reduce_state": "last", "state": {}},
            r"return \(loss, \(state, aux\)\) as has_aux .* are set; got 3 parts",
        ),
    ],
)
def test_a_loss_with_other_parts_than_announced_is_refused(value, settings, words):
    with pytest.raises(ValueError, match=words):
        run(loss=lambda p, m, **_: value(loss_fn(p, m)), **settings)


def test_split_batch_keeps_the_order():
    flat = {"x": jnp.arange(12).reshape(6, 2), "y": jnp.arange(6)}
    found = bilevel.split_batch(flat, k=3)
    assert found["y"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert found["x"].shape == (3, 2, 2)
    with pytest.raises(ValueError, match=r"k=4 divides; got shape \(6, 2\)"):
        bilevel.split_batch(flat, k=4)
