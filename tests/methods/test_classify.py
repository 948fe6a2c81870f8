import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.methods import classify
from jaxssl.models.network import from_pixels

random_views = jax.jit(classify.random_views, static_argnames=("size", "flip"))


@pytest.fixture
def task(network):
    nets = classify.Networks(network(3), network(None))
    return classify.make_task(
        classify.Config(crop_size=16), nets, {"classifier": optax.adam(1e-2)}
    )


def is_window(view: np.ndarray, image: np.ndarray) -> set[bool]:
    """Return how ``view`` lies in ``image``: mirrored (True), as it is (False)."""
    size, found = len(view), set()
    for y in range(image.shape[0] - size + 1):
        for x in range(image.shape[1] - size + 1):
            window = image[y : y + size, x : x + size]
            found |= {False} if np.array_equal(view, window) else set()
            found |= {True} if np.array_equal(view, window[:, ::-1]) else set()
    return found


def test_views_are_exact_windows_and_half_are_mirrored(batch):
    images = np.concatenate([batch["image"]] * 4)  # Each four times, by four ids.
    ids = jnp.arange(48)
    views = random_views(
        jax.random.key(0), jnp.asarray(images), ids, size=16, flip=True
    )
    assert views.shape == (48, 16, 16, 3)
    assert views.dtype == jnp.uint8
    ways = [is_window(np.asarray(v), x) for v, x in zip(views, images, strict=True)]
    assert all(len(way) == 1 for way in ways)
    assert 10 < sum(way == {True} for way in ways) < 38
    plain = random_views(
        jax.random.key(0), jnp.asarray(images), ids, size=16, flip=False
    )
    ways = [is_window(np.asarray(v), x) for v, x in zip(plain, images, strict=True)]
    assert all(way == {False} for way in ways)


def test_every_place_is_drawn():
    image = jnp.arange(12, dtype=jnp.uint8).reshape(1, 4, 3, 1)
    views = random_views(
        jax.random.key(0),
        jnp.broadcast_to(image, (400, 4, 3, 1)),
        jnp.arange(400),
        size=2,
        flip=False,
    )
    corners, counts = np.unique(np.asarray(views)[:, 0, 0, 0], return_counts=True)
    np.testing.assert_array_equal(corners, [0, 1, 3, 4, 6, 7])
    assert counts.min() > 35  # 400 / 6 = 67, s.d. 7.5.


def test_a_sample_keeps_its_view_wherever_it_stands(batch):
    image, ids = batch["image"], batch["id"]
    key = jax.random.key(1)
    views = random_views(key, image, ids, size=16, flip=True)
    back = random_views(key, image[::-1], ids[::-1], size=16, flip=True)
    np.testing.assert_array_equal(views, back[::-1])


def test_training_learns_the_labels(task, coloured):
    state = task.init(jax.random.key(0), coloured)
    step = jax.jit(task.step)
    losses = []
    for i in range(40):
        state, metrics = step(state, coloured, jax.random.key(i))
        losses.append(float(metrics["loss/classifier"]))
    assert int(state.step) == 40
    assert set(metrics) == {"loss/classifier", "acc/classifier"}
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert step._cache_size() == 1


def test_one_step_is_gradient_descent_on_the_cross_entropy(network, batch):
    config = classify.Config(crop_size=16)
    nets = classify.Networks(network(3), network(None))
    task = classify.make_task(config, nets, {"classifier": optax.sgd(0.1)})
    state = task.init(jax.random.key(0), batch)
    key = jax.random.key(7)
    after, metrics = jax.jit(task.step)(state, batch, key)
    views = random_views(
        jax.random.split(jax.random.split(key, 3)[0])[0],
        batch["image"],
        batch["id"],
        size=16,
        flip=True,
    )

    def loss(params):
        outputs, stats = nets.classifier.apply(
            params, state.stats["classifier"], from_pixels(views), train=True
        )
        log_probs = jax.nn.log_softmax(outputs["logits"])
        return -log_probs[np.arange(12), batch["label"]].mean(), stats

    params = state.params["classifier"]
    (value, stats), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    want = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    assert float(metrics["loss/classifier"]) == pytest.approx(float(value), rel=1e-5)
    for got, wanted in (
        (after.params["classifier"], want),
        (after.stats["classifier"], stats),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            got,
            wanted,
        )


def test_predict_fns_are_in_inference_mode_at_any_size(task, batch):
    state = task.init(jax.random.key(0), batch)
    logits = task.predict_fns["logits"](state, batch["image"][:, :16, :16])
    one = task.predict_fns["logits"](state, batch["image"][:1, :16, :16])
    np.testing.assert_allclose(one, logits[:1], rtol=1e-5, atol=1e-6)
    endpoints = task.predict_fns["features"](state, batch["image"])
    assert endpoints["conv1"].shape == (12, 19, 20, 4)
    assert "logits" not in endpoints


def test_bad_input_is_told_in_one_line(task, batch):
    state = task.init(jax.random.key(0), batch)
    small = batch | {"image": batch["image"][:, :15]}
    with pytest.raises(UserError, match="crop_size is 16 but the images are 15x20"):
        task.step(state, small, jax.random.key(0))
    several = batch | {"label": jnp.zeros((12, 4), jnp.int32)}
    with pytest.raises(UserError, match="labels of shape"):
        task.step(state, several, jax.random.key(0))
    depths = batch | {"label": jnp.zeros(12)}
    with pytest.raises(UserError, match="the labels are float32; classes are exp"):
        task.step(state, depths, jax.random.key(0))
    with pytest.raises(UserError, match="crop_size is 0"):
        classify.Config(crop_size=0)
