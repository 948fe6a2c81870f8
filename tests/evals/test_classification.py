import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp, softmax

from jaxssl.errors import UserError
from jaxssl.evals import classification
from jaxssl.evals.classification import FewShotConfig, LinearProbeConfig
from jaxssl.evals.features import Features

LONG = LinearProbeConfig(learning_rate=0.05, num_epochs=2000, batch_size=120)


def clusters(count: int, *, seed: int, width: int = 6) -> Features:
    """Three overlapping classes; the endpoint "noise" says nothing about them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    centres = np.random.default_rng(99).normal(size=(3, width))
    x = (centres[labels] + rng.normal(size=(count, width))).astype(np.float32)
    noise = rng.normal(size=(count, 4)).astype(np.float32)
    return Features({"conv5": x, "noise": noise}, labels, np.arange(count))


# --- Linear probe


def softmax_objective(flat, x, labels, l2):
    weights, bias = flat[:-3].reshape(x.shape[1], 3), flat[-3:]
    logits = x @ weights + bias
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(x)), labels]
    return losses.mean() + 0.5 * l2 * np.square(weights).sum()


def test_it_finds_the_minimum_of_the_convex_problem():
    data = clusters(120, seed=0)
    x = data.endpoints["conv5"]
    probe = classification.fit_probe(x, data.labels, num_outputs=3, config=LONG)
    args = (x.astype(np.float64), data.labels, LONG.l2)
    best = minimize(softmax_objective, np.zeros(6 * 3 + 3), args, method="L-BFGS-B")
    flat = np.concatenate([np.ravel(probe.weights), probe.bias])
    assert softmax_objective(flat, *args) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(probe.weights, best.x[:-3].reshape(6, 3), atol=2e-3)


def test_attributes_minimise_their_own_logistic_problems():
    data = clusters(120, seed=0)
    x = data.endpoints["conv5"]
    labels = np.stack([data.labels == 0, data.labels == 2], axis=1).astype(np.int32)
    probe = classification.fit_probe(
        x,
        labels,
        num_outputs=2,
        config=LONG,
        loss_fn=classification.sigmoid_loss,
    )

    def objective(flat, target):
        logits = x @ flat[:-1] + flat[-1]
        loss = -np.where(target, log_expit(logits), log_expit(-logits)).mean()
        return loss + 0.5 * LONG.l2 * np.square(flat[:-1]).sum()

    for k in range(2):
        best = minimize(objective, np.zeros(7), labels[:, k], method="L-BFGS-B")
        np.testing.assert_allclose(probe.weights[:, k], best.x[:-1], atol=2e-3)


def test_accuracy_agrees_with_the_minimum():
    train, test = clusters(120, seed=0), clusters(200, seed=1)
    got = classification.linear_probes(train, test, config=LONG)
    mean, deviation = train.endpoints["conv5"].mean(0), train.endpoints["conv5"].std(0)
    x, x_test = (
        ((f.endpoints["conv5"] - mean) / deviation).astype(np.float64)
        for f in (train, test)
    )
    args = (x, train.labels, LONG.l2)
    best = minimize(softmax_objective, np.zeros(21), args, method="L-BFGS-B").x
    guesses = (x_test @ best[:-3].reshape(6, 3) + best[-3:]).argmax(axis=1)
    assert got["conv5"] == pytest.approx((guesses == test.labels).mean(), abs=0.011)
    assert got["conv5"] > 0.75 > 0.5 > got["noise"]


def test_the_seed_decides():
    train, test = clusters(100, seed=0), clusters(300, seed=1)
    config = LinearProbeConfig(num_epochs=2, batch_size=16, learning_rate=0.5)

    def probe(seed):
        chosen = dataclasses.replace(config, seed=seed)
        x = train.endpoints["conv5"]
        return classification.fit_probe(x, train.labels, num_outputs=3, config=chosen)

    np.testing.assert_array_equal(probe(0).weights, probe(0).weights)
    assert not np.array_equal(probe(0).weights, probe(1).weights)
    first = classification.linear_probes(train, test, config=config)
    assert first == classification.linear_probes(train, test, config=config)


def test_views_are_averaged_after_the_softmax():
    probe = classification.LinearProbe(np.eye(3, dtype=np.float32), np.zeros(3))
    # The mean of the logits says class 2, the mean of the probabilities class 1.
    views = np.array([[[20, 0, 19], [0, 6, 0], [0, 6, 5.9]]], np.float32)
    assert views.mean(axis=1).argmax() == 2
    want = softmax(views, axis=-1).mean(axis=1)
    np.testing.assert_allclose(classification.mean_softmax(views), want, rtol=1e-6)
    assert want.argmax() == 1
    np.testing.assert_array_equal(classification.predict(probe, views), [1])


def test_several_views_of_the_test_set():
    train, test = clusters(120, seed=0), clusters(200, seed=1)
    config = LinearProbeConfig(num_epochs=5)
    twice = test._replace(
        endpoints={
            endpoint: np.stack([x, x], axis=1) for endpoint, x in test.endpoints.items()
        }
    )
    want = classification.linear_probes(train, test, config=config)
    assert classification.linear_probes(train, twice, config=config) == want


def test_it_asks_for_the_right_labels():
    one = clusters(20, seed=0)
    several = one._replace(labels=np.zeros((20, 4), np.int32))
    with pytest.raises(UserError, match=r"linear_probe needs one class.*\(20, 4\)"):
        classification.linear_probes(several, several, config=LinearProbeConfig())
    with pytest.raises(UserError, match="attributes needs several"):
        classification.attribute_probes(one, one, config=LinearProbeConfig())
    with pytest.raises(UserError, match="l2 is -1"):
        LinearProbeConfig(l2=-1.0)
    with pytest.raises(UserError, match="num_epochs is 0"):
        LinearProbeConfig(num_epochs=0)


# --- Average precision


def literal_average_precision(scores, labels) -> float:
    """Walk down the distinct thresholds: sum of (recall gained) * precision."""
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        chosen = [
            label for s, label in zip(scores, labels, strict=True) if s >= threshold
        ]
        new_recall = sum(chosen) / sum(labels)
        total += (new_recall - recall) * (sum(chosen) / len(chosen))
        recall = new_recall
    return total


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30
    ).filter(lambda rows: any(label for _, label in rows))
)
def test_average_precision_is_the_sum_over_thresholds(rows):
    scores = np.array([float(score) for score, _ in rows])  # Many of them tie.
    labels = np.array([int(label) for _, label in rows])
    got = classification.average_precision(scores, labels)
    want = literal_average_precision(scores.tolist(), labels.tolist())
    assert got == pytest.approx(want, abs=1e-12)


def test_average_precision_of_a_known_ranking():
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 0, 1, 0])
    got = classification.average_precision(scores, labels)
    assert got == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert classification.average_precision(np.zeros(4), labels) == pytest.approx(0.5)
    assert np.isnan(classification.average_precision(scores, np.zeros(4)))


def test_attribute_probes_measure_each_attribute():
    train, test = clusters(120, seed=0), clusters(200, seed=1)

    def attributes(features):
        columns = [features.labels == k for k in range(3)]
        return features._replace(labels=np.stack(columns, axis=1).astype(np.int32))

    got = classification.attribute_probes(
        attributes(train), attributes(test), config=LONG
    )
    assert got["conv5"].shape == got["noise"].shape == (3,)
    assert got["conv5"].min() > 0.7 > 0.55 > got["noise"].max()


# --- Few labels


def test_ridge_solves_the_normal_equations():
    rng = np.random.default_rng(0)
    x, targets = rng.normal(2, 1, (9, 5)), rng.normal(size=(9, 3))
    weights, bias = classification.ridge_classifier(x, targets, ridge=0.3)
    lam = 0.3 * np.square(x - x.mean(axis=0)).sum() / 9
    # Least squares with the penalty as extra rows; the column of ones is free.
    rows = np.vstack([np.hstack([x, np.ones((9, 1))]), np.zeros((5, 6))])
    rows[9:, :5] = np.sqrt(lam) * np.eye(5)
    want = np.linalg.lstsq(rows, np.vstack([targets, np.zeros((5, 3))]), rcond=None)[0]
    np.testing.assert_allclose(weights, want[:5], atol=1e-10)
    np.testing.assert_allclose(bias, want[5], atol=1e-10)


def test_few_labels_go_a_long_way_on_good_features():
    train, test = clusters(150, seed=0), clusters(200, seed=1)
    got = classification.few_shot(train, test, config=FewShotConfig(shots=10))
    assert got["conv5"].mean > 0.7 > 0.5 > got["noise"].mean
    assert got["conv5"].deviation > 0  # The draws differ.
    again = classification.few_shot(train, test, config=FewShotConfig(shots=10))
    assert again == got


def test_few_shot_sees_exactly_the_shots():
    train = clusters(150, seed=0)
    every = int(np.bincount(train.labels).min())
    draws = list(classification._draws(train.labels, FewShotConfig(shots=7)))
    assert len(draws) == 5
    for draw in draws:
        assert len(set(draw.tolist())) == 21
        np.testing.assert_array_equal(np.bincount(train.labels[draw]), [7, 7, 7])
    with pytest.raises(UserError, match=f"it must be at most {every}"):
        classification.few_shot(train, train, config=FewShotConfig(shots=every + 1))


def test_labels_need_not_be_contiguous():
    train, test = clusters(150, seed=0), clusters(200, seed=1)
    config = FewShotConfig(shots=10)
    want = classification.few_shot(train, test, config=config)
    spread = [f._replace(labels=f.labels * 10) for f in (train, test)]
    assert classification.few_shot(*spread, config=config) == want
