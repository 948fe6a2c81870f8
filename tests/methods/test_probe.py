import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.methods import classify, probe
from jaxssl.models.network import from_pixels
from jaxssl.ops.average import average_pool

CONFIG = probe.Config(num_classes=3, crop_size=16)


@pytest.fixture
def backbone(network):
    return network(None)


def make_task(backbone, config=CONFIG, num_steps=40):
    tx = probe.make_tx(config, num_steps=num_steps)
    return probe.make_task(config, backbone, {"probe": tx})


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_backbone_never_moves(backbone, batch):
    task = make_task(backbone)
    first = task.init(jax.random.key(0), batch)
    state, step = first, jax.jit(task.step)
    for i in range(3):
        state, metrics = step(state, batch, jax.random.key(i))
    equal(first.params["classifier"], state.params["classifier"])
    equal(first.stats["classifier"], state.stats["classifier"])
    assert set(state.opt_state) == {"probe"}
    assert set(metrics) == {"loss/probe", *(f"acc/conv{i}" for i in range(1, 6))}
    for endpoint in CONFIG.endpoints:
        old, new = first.params["probe"][endpoint], state.params["probe"][endpoint]
        assert not np.array_equal(old["kernel"], new["kernel"])
        assert not np.array_equal(old["bias"], new["bias"])
    assert step._cache_size() == 1


def test_an_untrained_backbone_gets_its_statistics_in_the_first_steps(backbone, batch):
    tx = probe.make_tx(CONFIG, num_steps=40)
    task = probe.make_task(CONFIG, backbone, {"probe": tx}, fill_steps=2)
    first = task.init(jax.random.key(0), batch)
    states, step = [first], jax.jit(task.step)
    for i in range(3):
        states.append(step(states[-1], batch, jax.random.key(i))[0])
    means = [jax.tree.leaves(s.stats["classifier"])[0] for s in states]
    assert not np.array_equal(means[0], means[1])
    assert not np.array_equal(means[1], means[2])
    equal(states[2].stats["classifier"], states[3].stats["classifier"])
    equal(first.params["classifier"], states[3].params["classifier"])
    # The first step is what one forward pass in training mode does.
    key = jax.random.key(0)
    look = functools.partial(classify.random_views, size=16, flip=True)
    views = jax.jit(look)(key, batch["image"], batch["id"])
    _, expected = jax.jit(functools.partial(backbone.apply, train=True))(
        first.params["classifier"], first.stats["classifier"], from_pixels(views)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        states[1].stats["classifier"],
        expected,
    )


def test_pooled_sizes_follow_the_table(backbone, batch):
    state = jax.eval_shape(make_task(backbone).init, jax.random.key(0), batch)
    rows = {t: p["kernel"].shape[0] for t, p in state.params["probe"].items()}
    # 16 px maps: 16 -> 3, 8 -> 2, 4 -> 2, 4 -> 2, 4 -> 2 cells a side, 4 channels.
    assert rows == {"conv1": 36, "conv2": 16, "conv3": 16, "conv4": 16, "conv5": 16}
    bare = dataclasses.replace(CONFIG, pooling="none", endpoints=("conv2", "conv5"))
    state = jax.eval_shape(make_task(backbone, bare).init, jax.random.key(0), batch)
    rows = {t: p["kernel"].shape[0] for t, p in state.params["probe"].items()}
    assert rows == {"conv2": 8 * 8 * 4, "conv5": 4 * 4 * 4}


def test_dimensions_of_the_thesis_at_227_pixels():
    shapes = {"conv1": (55, 96), "conv2": (27, 256), "conv3": (13, 384)}
    shapes |= {"conv4": (13, 384), "conv5": (13, 256)}
    dims = {
        endpoint: jax.eval_shape(
            lambda x, endpoint=endpoint: average_pool(x, probe.POOLS[endpoint]),
            jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32),
        ).size
        for endpoint, (side, channels) in shapes.items()
    }
    want = {"conv1": 9600, "conv2": 9216, "conv3": 9600, "conv4": 9600, "conv5": 9216}
    assert dims == want


def test_he_initialisation():
    maps = {"conv5": jnp.zeros((2, 6, 6, 64))}
    params, stats = probe.init_probe(jax.random.key(0), maps, num_classes=50)
    deviation = float(params["conv5"]["kernel"].std())
    assert deviation == pytest.approx(np.sqrt(2 / (36 * 64)), rel=0.02)
    equal(params["conv5"]["bias"], np.zeros(50))
    equal(stats["conv5"], {"mean": np.zeros(64), "var": np.ones(64)})


def test_batch_norm_by_hand():
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (6, 2, 2, 4)).astype(np.float32)
    maps = {"conv5": jnp.asarray(x)}
    params, stats = probe.init_probe(jax.random.key(0), maps, num_classes=3)
    kernel = np.asarray(params["conv5"]["kernel"])
    mean, var = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))

    def by_hand(mean, var):
        return ((x - mean) / np.sqrt(var + 1e-3)).reshape(6, -1) @ kernel

    logits, moved = probe.apply_probe(params, stats, maps, train=True, config=CONFIG)
    np.testing.assert_allclose(logits["conv5"], by_hand(mean, var), atol=1e-5)
    np.testing.assert_allclose(moved["conv5"]["mean"], 0.025 * mean, rtol=1e-5)
    np.testing.assert_allclose(moved["conv5"]["var"], 0.975 + 0.025 * var, rtol=1e-5)
    logits, kept = probe.apply_probe(params, moved, maps, train=False, config=CONFIG)
    equal(kept, moved)
    want = by_hand(0.025 * mean, 0.975 + 0.025 * var)
    np.testing.assert_allclose(logits["conv5"], want, atol=1e-5)


def test_the_loss_is_the_sum_over_endpoints_with_l2_on_kernels(backbone, batch):
    endpoints = ("conv1", "conv4")
    heavy = dataclasses.replace(CONFIG, l2=2.0, endpoints=endpoints)
    light = dataclasses.replace(CONFIG, l2=0.0, endpoints=endpoints)
    state = make_task(backbone, light).init(jax.random.key(0), batch)
    key = jax.random.key(5)
    _, with_l2 = jax.jit(make_task(backbone, heavy).step)(state, batch, key)
    _, without = jax.jit(make_task(backbone, light).step)(state, batch, key)
    params = state.params["probe"]
    squares = sum(float((params[t]["kernel"] ** 2).sum()) for t in params)
    gap = float(with_l2["loss/probe"] - without["loss/probe"])
    assert gap == pytest.approx(squares, rel=1e-4)
    alone = 0.0
    for endpoint in endpoints:
        config = dataclasses.replace(light, endpoints=(endpoint,))
        single = state._replace(
            params=state.params | {"probe": {endpoint: params[endpoint]}},
            stats=state.stats | {"probe": {endpoint: state.stats["probe"][endpoint]}},
            opt_state={"probe": optax.sgd(0.0).init({endpoint: params[endpoint]})},
        )
        task = probe.make_task(config, backbone, {"probe": optax.sgd(0.0)})
        _, metrics = jax.jit(task.step)(single, batch, key)
        alone += float(metrics["loss/probe"])
    assert float(without["loss/probe"]) == pytest.approx(alone, rel=1e-5)


def test_the_rate_has_five_steps():
    """A constant gradient without momentum shows the rate of every step."""
    config = dataclasses.replace(CONFIG, momentum=0.0)
    tx = probe.make_tx(config, num_steps=100)
    params = jnp.zeros(())
    opt_state, rates = tx.init(params), []
    for _ in range(100):
        update, opt_state = tx.update(jnp.ones(()), opt_state, params)
        rates.append(-float(update))
    want = [0.1] * 8 + [0.01] * 32 + [2e-3] * 30 + [4e-4] * 20 + [8e-5] * 10
    np.testing.assert_allclose(rates, want, rtol=1e-6)


def test_the_momentum_is_nesterovs():
    tx = probe.make_tx(CONFIG, num_steps=1000)
    params = jnp.zeros(())
    opt_state, velocity = tx.init(params), 0.0
    for gradient in (1.0, -2.0, 0.5):
        update, opt_state = tx.update(jnp.asarray(gradient), opt_state, params)
        velocity = 0.9 * velocity + gradient
        assert float(update) == pytest.approx(-0.1 * (gradient + 0.9 * velocity))


def test_it_learns_and_reads_out_by_endpoint(backbone, coloured):
    batch = coloured
    images = batch["image"]
    task = make_task(backbone, num_steps=200)
    state, step = task.init(jax.random.key(0), batch), jax.jit(task.step)
    for i in range(200):
        state, _ = step(state, batch, jax.random.key(i))
    logits = task.predict_fns["logits"](state, images[:, :16, :16])
    assert set(logits) == set(CONFIG.endpoints)
    for endpoint in ("conv1", "conv2"):
        guesses = np.asarray(logits[endpoint]).argmax(axis=1)
        np.testing.assert_array_equal(guesses, batch["label"])
    endpoints = task.predict_fns["features"](state, images)
    assert endpoints["conv5"].shape == (12, 5, 5, 4)


def test_attributes_use_the_sigmoid():
    config = dataclasses.replace(CONFIG, labels="attributes")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 3)), rng.integers(0, 2, (6, 3))
    loss, right = probe.label_loss(
        jnp.asarray(logits, jnp.float32), jnp.asarray(labels), config
    )
    odds = 1 / (1 + np.exp(-logits))
    want = -np.where(labels, np.log(odds), np.log(1 - odds)).mean()
    assert float(loss) == pytest.approx(want, rel=1e-5)
    assert float(right) == pytest.approx(((odds > 0.5) == labels).mean())


def test_labels_must_fit_the_setting(backbone, batch):
    several = batch | {"label": jnp.zeros((12, 3), jnp.int32)}
    task = make_task(backbone)
    state = jax.eval_shape(task.init, jax.random.key(0), batch)
    with pytest.raises(UserError, match=r"labels is 'classes'.*attributes for several"):
        jax.eval_shape(task.step, state, several, jax.random.key(0))
    config = dataclasses.replace(CONFIG, labels="attributes")
    with pytest.raises(UserError, match="labels is 'attributes'"):
        jax.eval_shape(
            make_task(backbone, config).step, state, batch, jax.random.key(0)
        )


def test_a_network_without_the_endpoint(backbone, batch):
    config = dataclasses.replace(CONFIG, pooling="none", endpoints=("stage4",))
    with pytest.raises(UserError, match="endpoints is 'stage4'; allowed: conv1"):
        make_task(backbone, config).init(jax.random.key(0), batch)


def test_maps_smaller_than_their_pool(backbone, batch):
    config = dataclasses.replace(CONFIG, crop_size=6)
    with pytest.raises(UserError, match="the map of conv2 is 3x3, smaller than its"):
        make_task(backbone, config).init(jax.random.key(0), batch)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"labels": "class"}, "labels is 'class'; allowed: classes, attributes"),
        ({"endpoints": ()}, "endpoints is empty"),
        ({"endpoints": ("conv6",)}, "endpoints is 'conv6'"),
        ({"pooling": "max"}, "pooling is 'max'; allowed: table, none"),
        ({"l2": -1.0}, "l2 is -1.0"),
        ({"bn_momentum": 1.0}, "bn_momentum is 1.0"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"learning_rates": (0.1,)}, "boundaries has 4 values"),
        ({"boundaries": (0.4, 0.2, 0.7, 0.9)}, "it must rise strictly"),
        ({"boundaries": (0.0, 0.2, 0.7, 0.9)}, "is 0.0; it must be above 0"),
    ],
)
def test_bad_settings_name_the_field(fields, message):
    with pytest.raises(UserError, match=message):
        probe.Config(**({"num_classes": 3} | fields))
