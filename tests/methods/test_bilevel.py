"""Chapter 8's step against the equations in NumPy, and the mini-batches it needs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl.errors import UserError
from jaxssl.methods import bilevel, classify
from jaxssl.models.mlp import mlp
from jaxssl.types import Network

K, B, SIDE, CLASSES = 4, 3, 4, 3


def linear_network(moves: bool = False) -> Network:
    """A linear classifier; with ``moves`` it subtracts a running mean of its logits."""

    def init(key, x):
        kernel = 0.1 * jax.random.normal(key, (x[0].size, CLASSES))
        return {"kernel": kernel}, {"mean": jnp.zeros(CLASSES)}

    def apply(params, stats, x, *, train, key=None):
        logits = x.reshape(len(x), -1) @ params["kernel"]
        if moves and train:
            logits = logits - stats["mean"][None]
            stats = {"mean": 0.5 * stats["mean"] + 0.5 * logits.mean(axis=0)}
        return {"logits": logits}, stats

    return Network(init, apply)


def make_batch():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (B * K, SIDE, SIDE, 3)).astype(np.uint8)
    labels = np.repeat([0, 1, 2], K).astype(np.int32)  # The place decides.
    true = labels.copy()
    true[[1, 6, 11]] = [2, 0, 0]
    ids = np.arange(B * K, dtype=np.int32)
    return {"image": images, "label": labels, "true_label": true, "id": ids}


def one_step(learner, network=None, **changes):
    config = classify.Config(crop_size=SIDE, flip=False, **changes)
    network = network or linear_network()
    networks = classify.Networks(network, network)
    txs = {"classifier": optax.sgd(0.5)}
    task = classify.make_task(config, networks, txs, learner)
    batch = make_batch()
    state = task.init(jax.random.key(1), batch)
    after, metrics = jax.jit(task.step)(state, batch, jax.random.key(2))
    kernel = np.float64(state.params["classifier"]["kernel"])
    update = (kernel - np.float64(after.params["classifier"]["kernel"])) / 0.5
    return kernel, update, metrics, after


def literal_gradients(kernel, batch, smoothing=0.0):
    """Softmax regression, mini-batch i holds the rows i, i + K, i + 2 K."""
    x = batch["image"].astype(np.float64).reshape(B * K, -1) / 127.5 - 1
    gradients = []
    for i in range(K):
        rows = np.arange(B) * K + i
        scores = np.exp(x[rows] @ kernel)
        wanted = np.eye(CLASSES)[batch["label"][rows]] * (1 - smoothing)
        wanted += smoothing / CLASSES
        error = scores / scores.sum(axis=1, keepdims=True) - wanted
        gradients.append(x[rows].T @ error / B)
    return np.array(gradients)


def literal_weights(gradients, normalize=True):
    dots = [(gradients[0] * g).sum() for g in gradients[1:]]
    raw = np.array(dots) / (np.array([(g * g).sum() for g in gradients[1:]]) + 0.01)
    return raw / np.abs(raw).sum() if normalize else raw


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_bilevel_is_equations_8_10_and_8_11(smoothing):
    learner = classify.Learner(name="bilevel", k=K)
    kernel, update, metrics, _ = one_step(learner, smoothing=smoothing)
    gradients = literal_gradients(kernel, make_batch(), smoothing)
    weights = literal_weights(gradients)
    wanted = np.tensordot(weights, gradients[1:], axes=1)
    np.testing.assert_allclose(update, wanted, rtol=1e-4, atol=1e-6)
    cosines = [
        (gradients[0] * g).sum() / np.linalg.norm(gradients[0]) / np.linalg.norm(g)
        for g in gradients[1:]
    ]
    assert float(metrics["bilevel/cosine"]) == pytest.approx(np.mean(cosines), abs=1e-5)
    assert float(metrics["bilevel/negative"]) == np.float32((weights < 0).mean())
    assert float(metrics["bilevel/skipped"]) == 0


def test_ablation_a_leaves_the_norm_out():
    learner = classify.Learner(name="bilevel", k=K, normalize="none")
    kernel, update, _, _ = one_step(learner)
    gradients = literal_gradients(kernel, make_batch())
    weights = literal_weights(gradients, normalize=False)
    wanted = np.tensordot(weights, gradients[1:], axes=1)
    np.testing.assert_allclose(update, wanted, rtol=1e-4, atol=1e-6)


def test_ablation_b_weighs_each_layer_alone():
    network = mlp(CLASSES, features=(5,), norm=False)
    learner = classify.Learner(name="bilevel", k=K, weights="layer")
    config = classify.Config(crop_size=SIDE, flip=False)
    loss_fn = classify.make_loss(config, network, jax.random.key(0))
    rows = jax.tree.map(jnp.asarray, make_batch())
    batch = bilevel.split_places(rows, K)
    params, stats = network.init(jax.random.key(1), jnp.zeros((1, SIDE, SIDE, 3)))
    found = jax.jit(functools.partial(bilevel.learner_gradient, loss_fn, learner))(
        params, stats, batch, jax.random.key(2)
    )
    assert found[-1].weights.shape == (2, K - 1)
    take = jax.jit(
        jax.grad(lambda p, b: loss_fn(p, b, state=stats, key=jax.random.key(2))[0])
    )
    each = [take(params, jax.tree.map(lambda x, i=i: x[i], batch)) for i in range(K)]
    for row, layer in enumerate(("fc1", "logits")):
        gradients = np.array(
            [np.append(np.ravel(g[layer]["kernel"]), g[layer]["bias"]) for g in each]
        )
        weights = literal_weights(np.float64(gradients))
        np.testing.assert_allclose(found[-1].weights[row], weights, rtol=1e-4)
        wanted = weights @ gradients[1:]
        got = np.append(np.ravel(found[3][layer]["kernel"]), found[3][layer]["bias"])
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-6)


def test_ghost_is_the_mean_over_the_same_mini_batches():
    learner = classify.Learner(name="ghost", k=K)
    network = linear_network(moves=True)
    _, plain, _, after = one_step(learner, network)
    _, whole, metrics, _ = one_step(classify.Learner(name="sgd"), network)
    assert np.abs(plain - whole).max() > 1e-4  # Each mini-batch has its own mean.
    assert set(metrics) == {"loss/classifier", "acc/classifier"}
    kernel, update, _, _ = one_step(learner)
    wanted = literal_gradients(kernel, make_batch()).mean(axis=0)
    np.testing.assert_allclose(update, wanted, rtol=1e-4, atol=1e-6)
    # The running mean moves once a mini-batch, in their order.
    x = make_batch()["image"].astype(np.float64).reshape(B * K, -1) / 127.5 - 1
    mean = np.zeros(CLASSES)
    for i in range(K):
        logits = x[np.arange(B) * K + i] @ kernel - mean
        mean = 0.5 * mean + 0.5 * logits.mean(axis=0)
    np.testing.assert_allclose(after.stats["classifier"]["mean"], mean, rtol=1e-3)


def test_weights_are_counted_for_right_and_wrong_labels():
    learner = classify.Learner(name="bilevel", k=K)
    kernel, _, metrics, _ = one_step(learner)
    batch = make_batch()
    weights = literal_weights(literal_gradients(kernel, batch))
    sums = {True: [], False: []}
    for row, right in enumerate(batch["label"] == batch["true_label"]):
        if row % K:  # Mini-batch 0 has no weight.
            sums[bool(right)].append(weights[row % K - 1])
    clean, corrupted = metrics["bilevel/clean"], metrics["bilevel/corrupted"]
    np.testing.assert_allclose(clean, np.mean(sums[True]), rtol=1e-4)
    np.testing.assert_allclose(corrupted, np.mean(sums[False]), rtol=1e-4)
    assert float(metrics["weights/has_clean"]) == 1
    assert float(metrics["weights/has_corrupted"]) == 1
    edges = np.linspace(-1, 1, bilevel.WEIGHT_BINS + 1)
    shares = np.histogram(weights, edges)[0] / (K - 1)
    bins = [metrics[f"weights/bin{i:02d}"] for i in range(bilevel.WEIGHT_BINS)]
    np.testing.assert_allclose(bins, shares, atol=1e-6)


def test_without_true_labels_nothing_is_said_of_them():
    config = classify.Config(crop_size=SIDE, flip=False)
    networks = classify.Networks(linear_network(), linear_network())
    learner = classify.Learner(name="bilevel", k=K)
    task = classify.make_task(config, networks, {"classifier": optax.sgd(0.1)}, learner)
    batch = {k: v for k, v in make_batch().items() if k != "true_label"}
    state = task.init(jax.random.key(0), batch)
    _, metrics = jax.eval_shape(task.step, state, batch, jax.random.key(1))
    assert "bilevel/clean" not in metrics
    assert "bilevel/cosine" in metrics


def test_mixup_mixes_the_mini_batches_alike():
    key = jax.random.key(5)
    rows = jnp.arange(12.0).reshape(K, B)
    mixed = jax.vmap(lambda x: classify.mix(key, x, 1.0))(rows)
    np.testing.assert_allclose(mixed - mixed[:1], rows - rows[:1], atol=1e-5)
    order_key, weight_key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, B))
    weight = float(jax.random.beta(weight_key, 1.0, 1.0))
    wanted = weight * rows[0] + (1 - weight) * rows[0][order]
    np.testing.assert_allclose(mixed[0], wanted, rtol=1e-5)
    assert classify.mix(key, rows, 0.0) is rows


def test_mixup_trains_on_mixed_images_and_labels():
    kernel, update, _, _ = one_step(classify.Learner(name="sgd"), mixup=1.0)
    batch, key = make_batch(), jax.random.split(jax.random.key(2), 3)[2]
    x = batch["image"].astype(np.float64).reshape(B * K, -1) / 127.5 - 1
    y = np.eye(CLASSES)[batch["label"]]
    x, y = (np.asarray(classify.mix(key, jnp.asarray(v), 1.0)) for v in (x, y))
    scores = np.exp(x @ kernel)
    error = scores / scores.sum(axis=1, keepdims=True) - y
    np.testing.assert_allclose(update, x.T @ error / (B * K), rtol=1e-3, atol=1e-5)


# --- Mini-batches with the same labels

LABELS = np.random.default_rng(3).integers(0, 5, 400)


def test_rows_of_a_step_have_the_same_labels_place_by_place():
    order = classify.MatchedOrder(
        LABELS, classify.Learner(name="bilevel", k=4), batch_size=32, seed=7
    )
    for step in (0, 3, 50):
        rows = order(step)
        labels = bilevel.split_places({"label": LABELS[rows]}, 4)["label"]
        assert labels.shape == (4, 8)
        assert (labels == labels[:1]).all()
    assert not np.array_equal(order(0), order(1))
    again = classify.MatchedOrder(
        LABELS, classify.Learner(name="bilevel", k=4), batch_size=32, seed=7
    )
    np.testing.assert_array_equal(order(9), again(9))


@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_the_validation_part_is_never_trained_on(ratio):
    learner = classify.Learner(name="bilevel", k=4, val_ratio=ratio)
    order = classify.MatchedOrder(LABELS, learner, batch_size=16, seed=7)
    rows = np.concatenate([order(step).reshape(-1, 4) for step in range(300)])
    validation, training = set(rows[:, 0].tolist()), set(rows[:, 1:].ravel().tolist())
    assert not validation & training
    assert validation | training == set(range(400))
    for label, count in zip(*np.unique(LABELS, return_counts=True), strict=True):
        held_out = (LABELS[list(validation)] == label).sum()
        assert held_out == max(1, round(ratio * count))


@pytest.mark.parametrize("ratio", [0.0, 0.3])
def test_images_without_a_label_are_never_drawn(ratio):
    known = np.arange(400) % 3 > 0
    labels = np.where(known, LABELS, -1)
    learner = classify.Learner(name="bilevel", k=4, val_ratio=ratio)
    order = classify.MatchedOrder(labels, learner, batch_size=16, seed=7)
    drawn = {int(row) for step in range(300) for row in order(step)}
    assert drawn == set(np.flatnonzero(known).tolist())
    with pytest.raises(UserError, match="5 labels a mini-batch, more than the 4 of"):
        classify.MatchedOrder(
            np.array([0, 0, 0, 0, -1, -1]), learner, batch_size=20, seed=0
        )


def test_labels_that_cannot_be_matched_are_told():
    learner = classify.Learner(name="bilevel", k=4)
    with pytest.raises(UserError, match="class 0 has 2 images for 4 mini-batches"):
        classify.MatchedOrder(np.array([0, 0, 1, 1]), learner, batch_size=8, seed=0)


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (classify.Learner, {"name": "adam"}, "name is 'adam'; allowed: sgd, ghost"),
        (classify.Learner, {"name": "bilevel", "k": 1}, "k is 1; it must be at least"),
        (classify.Learner, {"mu": 0.0}, "mu is 0.0; it must be above 0"),
        (classify.Learner, {"k": 4}, "k is 4, but name is 'sgd', which does not read"),
        (classify.Learner, {"name": "ghost", "mu": 1.0}, "mu is 1.0, but name is 'gho"),
        (
            classify.Learner,
            {"name": "bilevel", "val_ratio": 0.2, "sampling": "random"},
            "val_ratio is 0.2; it needs sampling='matched'",
        ),
        (classify.Config, {"area": (0.9, 0.3)}, "area is"),
        (classify.Config, {"area": (0.3, 1.0), "padding": 4}, "padding is 4, but"),
        (classify.Config, {"smoothing": 1.0}, "smoothing is 1.0"),
        (classify.Config, {"mixup": -1.0}, "mixup is -1.0"),
        (classify.Config, {"pixels": "raw"}, "pixels is 'raw'"),
        (
            classify.Config,
            {"labels": "attributes", "smoothing": 0.1},
            "smoothing is 0.1; it is for labels=classes",
        ),
    ],
)
def test_impossible_settings_are_refused(make, changes, words):
    with pytest.raises(UserError, match=words):
        make(**changes)
