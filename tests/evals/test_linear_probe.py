"""The cached linear probe against a solver of the convex problem."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp, softmax

from jaxssl.errors import UserError
from jaxssl.evals import linear_probe
from jaxssl.evals.accuracy import accuracy
from jaxssl.evals.linear_probe import LinearProbeConfig
from jaxssl.evals.logits import mean_softmax
from tests.evals.clusters import clusters

LONG = LinearProbeConfig(learning_rate=0.05, num_epochs=2000, batch_size=120)


def softmax_objective(flat, x, labels, l2):
    weights, bias = flat[:-3].reshape(x.shape[1], 3), flat[-3:]
    logits = x @ weights + bias
    losses = logsumexp(logits, axis=1) - logits[np.arange(len(x)), labels]
    return losses.mean() + 0.5 * l2 * np.square(weights).sum()


def test_it_finds_the_minimum_of_the_convex_problem():
    data = clusters(120, seed=0)
    x = data.endpoints["conv5"]
    probe = linear_probe.fit_probe(x, data.labels, num_outputs=3, config=LONG)
    args = (x.astype(np.float64), data.labels, LONG.l2)
    best = minimize(softmax_objective, np.zeros(6 * 3 + 3), args, method="L-BFGS-B")
    flat = np.concatenate([np.ravel(probe.weights), probe.bias])
    assert softmax_objective(flat, *args) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(probe.weights, best.x[:-3].reshape(6, 3), atol=2e-3)


def test_attributes_minimise_their_own_logistic_problems():
    data = clusters(120, seed=0)
    x = data.endpoints["conv5"]
    labels = np.stack([data.labels == 0, data.labels == 2], axis=1).astype(np.int32)
    probe = linear_probe.fit_probe(
        x,
        labels,
        num_outputs=2,
        config=LONG,
        loss_fn=linear_probe.sigmoid_loss,
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
    got = linear_probe.linear_probes(train, test, config=LONG)
    mean, deviation = train.endpoints["conv5"].mean(0), train.endpoints["conv5"].std(0)
    x, x_test = (
        ((f.endpoints["conv5"] - mean) / deviation).astype(np.float64)
        for f in (train, test)
    )
    args = (x, train.labels, LONG.l2)
    best = minimize(softmax_objective, np.zeros(21), args, method="L-BFGS-B").x
    guesses = (x_test @ best[:-3].reshape(6, 3) + best[-3:]).argmax(axis=1)
    assert got["conv5"].value == pytest.approx(
        (guesses == test.labels).mean(), abs=0.011
    )
    assert got["conv5"].value > 0.75 > 0.5 > got["noise"].value


def test_the_seed_decides():
    train, test = clusters(100, seed=0), clusters(300, seed=1)
    config = LinearProbeConfig(num_epochs=2, batch_size=16, learning_rate=0.5)

    def probe(seed):
        chosen = dataclasses.replace(config, seed=seed)
        x = train.endpoints["conv5"]
        return linear_probe.fit_probe(x, train.labels, num_outputs=3, config=chosen)

    np.testing.assert_array_equal(probe(0).weights, probe(0).weights)
    assert not np.array_equal(probe(0).weights, probe(1).weights)
    first = linear_probe.linear_probes(train, test, config=config)
    assert first == linear_probe.linear_probes(train, test, config=config)


def test_views_are_averaged_after_the_softmax():
    # The mean of the logits says class 2, the mean of the probabilities class 1.
    views = np.array([[[20, 0, 19], [0, 6, 0], [0, 6, 5.9]]], np.float32)
    assert views.mean(axis=1).argmax() == 2
    want = softmax(views, axis=-1).mean(axis=1)
    np.testing.assert_allclose(mean_softmax(views), want, rtol=1e-6)
    assert want.argmax() == 1
    assert accuracy(views, np.array([1])) == 1.0


def test_several_views_of_the_test_set():
    train, test = clusters(120, seed=0), clusters(200, seed=1)
    config = LinearProbeConfig(num_epochs=5)
    twice = test._replace(
        endpoints={
            endpoint: np.stack([x, x], axis=1) for endpoint, x in test.endpoints.items()
        }
    )
    want = linear_probe.linear_probes(train, test, config=config)
    assert linear_probe.linear_probes(train, twice, config=config) == want


def test_it_asks_for_the_right_labels():
    one = clusters(20, seed=0)
    several = one._replace(labels=np.zeros((20, 4), np.int32))
    config = LinearProbeConfig()
    with pytest.raises(UserError, match=r"linear_probe needs one class.*\(20, 4\)"):
        linear_probe.linear_probes(several, several, config=config)
    unlabelled = one._replace(labels=None)
    with pytest.raises(UserError, match="this data set has no labels"):
        linear_probe.linear_probes(unlabelled, one, config=config)
    with pytest.raises(UserError, match="l2 is -1"):
        LinearProbeConfig(l2=-1.0)
    with pytest.raises(UserError, match="num_epochs is 0"):
        LinearProbeConfig(num_epochs=0)
