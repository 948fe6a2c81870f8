"""The ridge classifier from few labels against least squares."""

import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.evals import few_shot
from jaxssl.evals.few_shot import FewShotConfig
from tests.evals.clusters import clusters


def test_ridge_solves_the_normal_equations():
    rng = np.random.default_rng(0)
    x, targets = rng.normal(2, 1, (9, 5)), rng.normal(size=(9, 3))
    weights, bias = few_shot.ridge_classifier(x, targets, ridge=0.3)
    lam = 0.3 * np.square(x - x.mean(axis=0)).sum() / 9
    # Least squares with the penalty as extra rows; the column of ones is free.
    rows = np.vstack([np.hstack([x, np.ones((9, 1))]), np.zeros((5, 6))])
    rows[9:, :5] = np.sqrt(lam) * np.eye(5)
    want = np.linalg.lstsq(rows, np.vstack([targets, np.zeros((5, 3))]), rcond=None)[0]
    np.testing.assert_allclose(weights, want[:5], atol=1e-10)
    np.testing.assert_allclose(bias, want[5], atol=1e-10)


def test_few_labels_go_a_long_way_on_good_features():
    train, test = clusters(150, seed=0), clusters(200, seed=1)
    got = few_shot.few_shot(train, test, config=FewShotConfig(shots=10))
    assert got["conv5"].value > 0.7 > 0.5 > got["noise"].value
    assert got["conv5"].spread > 0  # The draws differ.
    again = few_shot.few_shot(train, test, config=FewShotConfig(shots=10))
    assert again == got


def test_few_shot_sees_exactly_the_shots():
    train = clusters(150, seed=0)
    every = int(np.bincount(train.labels).min())
    draws = list(few_shot._draws(train.labels, FewShotConfig(shots=7)))
    assert len(draws) == 5
    for draw in draws:
        assert len(set(draw.tolist())) == 21
        np.testing.assert_array_equal(np.bincount(train.labels[draw]), [7, 7, 7])
    with pytest.raises(UserError, match=f"it must be at most {every}"):
        few_shot.few_shot(train, train, config=FewShotConfig(shots=every + 1))


def test_labels_need_not_be_contiguous():
    train, test = clusters(150, seed=0), clusters(200, seed=1)
    config = FewShotConfig(shots=10)
    want = few_shot.few_shot(train, test, config=config)
    spread = [f._replace(labels=f.labels * 10) for f in (train, test)]
    assert few_shot.few_shot(*spread, config=config) == want
