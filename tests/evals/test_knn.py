from collections import Counter

import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.evals import knn
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank, Features
from jaxssl.evals.knn import KnnConfig


def literal_neighbors(query, database, k, without=None) -> list[int]:
    """Sort all rows by cosine; equal ones by their index."""
    found = []
    for i, row in enumerate(database):
        if i != without:
            cosine = query @ row / (np.linalg.norm(query) * np.linalg.norm(row))
            found.append((-round(float(cosine), 6), i))
    return [i for _, i in sorted(found)[:k]]


def literal_vote(labels: list[int]) -> int:
    """Most votes; then the class that is met first."""
    votes = Counter(labels)
    most = max(votes.values())
    return next(label for label in labels if votes[label] == most)


def blobs(count: int, *, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count).astype(np.int32)
    centres = np.random.default_rng(5).normal(size=(4, 6))
    x = centres[labels] + 1.2 * rng.normal(size=(count, 6))
    return Features({"conv5": x.astype(np.float32)}, labels, np.arange(count))


@pytest.mark.parametrize("limit", [2**24, 61 * 7])
def test_neighbors_are_those_of_the_loop(limit, monkeypatch):
    monkeypatch.setattr(knn, "_MAX_SIMILARITIES", limit)  # 7 queries a chunk.
    rng = np.random.default_rng(0)
    queries, database = rng.normal(size=(25, 5)), rng.normal(size=(61, 5))
    found = knn.nearest(queries.astype("f4"), database.astype("f4"), k=8)
    want = [literal_neighbors(q, database, 8) for q in queries]
    np.testing.assert_array_equal(found.indices, want)
    unit = database / np.linalg.norm(database, axis=1, keepdims=True)
    cosines = queries / np.linalg.norm(queries, axis=1, keepdims=True) @ unit.T
    want = np.take_along_axis(cosines, found.indices, axis=1)
    np.testing.assert_allclose(found.similarities, want, atol=1e-6)


@pytest.mark.parametrize("limit", [2**24, 40 * 7])
def test_leave_one_out_drops_the_query_and_keeps_its_duplicate(limit, monkeypatch):
    monkeypatch.setattr(knn, "_MAX_SIMILARITIES", limit)
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("f4")
    x[30] = x[3]
    found = knn.nearest(x, x, k=6, leave_one_out=True)
    want = [literal_neighbors(q, x, 6, without=i) for i, q in enumerate(x)]
    np.testing.assert_array_equal(found.indices, want)
    assert found.indices[3, 0] == 30
    assert found.indices[30, 0] == 3


def test_among_equal_rows_the_first_comes_first():
    database = np.array([[0, 1], [1, 0], [2, 0], [1, 0]], np.float32)
    found = knn.nearest(np.array([[3, 0]], np.float32), database, k=4)
    np.testing.assert_array_equal(found.indices, [[1, 2, 3, 0]])


def test_votes_are_those_of_the_loop():
    labels = np.random.default_rng(0).integers(0, 3, (200, 9))
    won = knn.vote(labels, ks=(1, 2, 4, 9), num_classes=3)
    for k, winners in won.items():
        want = [literal_vote(row[:k].tolist()) for row in labels]
        np.testing.assert_array_equal(winners, want)
    assert list(won) == [1, 2, 4, 9]


def test_accuracies_are_those_of_the_loop():
    train, test = blobs(90, seed=0), blobs(40, seed=1)
    config = KnnConfig(ks=(1, 5, 12))
    mean, deviation = train.endpoints["conv5"].mean(0), train.endpoints["conv5"].std(0)
    x, x_test = ((f.endpoints["conv5"] - mean) / deviation for f in (train, test))
    got = knn.knn(train, test, config=config)
    for k in config.ks:
        near = [literal_neighbors(q, x, k) for q in x_test]
        guesses = [literal_vote(train.labels[rows].tolist()) for rows in near]
        want = np.mean(guesses == test.labels)
        assert got[f"k{k}"].value == pytest.approx(want)
    got = knn.knn(train, train, config=config)
    for k in config.ks:
        near = [literal_neighbors(q, x, k, without=i) for i, q in enumerate(x)]
        guesses = [literal_vote(train.labels[rows].tolist()) for rows in near]
        want = np.mean(guesses == train.labels)
        assert got[f"loo_k{k}"].value == pytest.approx(want)


def test_views_are_concatenated():
    data = blobs(30, seed=0)
    x = data.endpoints["conv5"]
    views = data._replace(endpoints={"conv5": x.reshape(30, 3, 2)})
    np.testing.assert_array_equal(knn.concatenated(views, "conv5"), x)
    config = KnnConfig(ks=(3,))
    want = knn.knn(data, data, config=config)
    assert knn.knn(views, views, config=config) == want


def test_bad_requests_say_what_is_allowed():
    data = blobs(10, seed=0)
    with pytest.raises(UserError, match="only 9 records to choose from"):
        knn.knn(data, data, config=KnnConfig(ks=(10,)))
    with pytest.raises(UserError, match="endpoint is 'conv6'"):
        knn.knn(data, data, config=KnnConfig(ks=(1,), endpoint="conv6"))
    with pytest.raises(UserError, match=r"ks\[0\] is 0"):
        KnnConfig(ks=(0, 1))
    with pytest.raises(UserError, match="ks is empty"):
        KnnConfig(ks=())
    with pytest.raises(UserError, match="views is 'ten'; allowed: center, five"):
        KnnConfig(views="ten")
    several = data._replace(labels=np.zeros((10, 2), np.int32))
    with pytest.raises(UserError, match="knn needs one class a record"):
        knn.knn(several, several, config=KnnConfig(ks=(1,)))


def test_five_crops_are_compared_together(tiny, train_set, test_set):
    bank = FeatureBank(tiny.predict_fns["features"], CenterCrops(8), batch_size=10)
    config, five = KnnConfig(ks=(1,), endpoint="conv1"), CenterCrops(8, "five")
    run = knn.knn_eval(bank, train_set, test_set, config, prepare=five)
    found = run(tiny.state)
    rows = bank(tiny.state, test_set, five)
    assert knn.concatenated(rows, "conv1").shape == (23, 5 * 4 * 4 * 5)
    left_out = knn.knn(rows, rows, config=config)["loo_k1"]
    assert found.metrics["loo_k1"].value == left_out.value
