"""Nearest images on a circle, whose order is known."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data.source import ArraySource, image_source
from jaxssl.errors import UserError
from jaxssl.evals.feature_bank import FeatureBank, Features
from jaxssl.evals.retrieval import RetrievalConfig, retrieval_eval, retrieve


@pytest.fixture
def gallery() -> tuple[ArraySource, Features]:
    """Twelve images, each filled with its own index; features on a circle."""
    indices = np.arange(12)
    images = np.broadcast_to(indices[:, None, None, None], (12, 4, 4, 3))
    labels = (indices // 6).astype(np.int32)
    angle = 2 * np.pi * indices / 12
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    features = Features({"conv5": x}, labels, indices.astype(np.int32))
    return image_source(images.astype(np.uint8), labels), features


def test_neighbors_on_a_circle_are_the_next_ones(gallery):
    source, features = gallery
    config = RetrievalConfig(num_queries=12, num_neighbors=2)
    result = retrieve(source, features, source, features, config=config)
    found = result.arrays
    np.testing.assert_array_equal(found["query_images"], source.arrays["image"])
    for i in range(12):
        shown = {int(image[0, 0, 0]) for image in found["neighbor_images"][i]}
        assert shown == {(i - 1) % 12, (i + 1) % 12}
    assert found["neighbor_labels"].shape == found["similarities"].shape == (12, 2)
    np.testing.assert_allclose(found["similarities"], np.cos(np.pi / 6), atol=1e-5)
    # Four of the twelve have one neighbour of the other class.
    assert result.metrics["precision"].value == pytest.approx(20 / 24)


def test_another_source_may_hold_the_query(gallery):
    source, features = gallery
    other = image_source(source.arrays["image"], source.arrays["label"])
    config = RetrievalConfig(num_queries=3, num_neighbors=1)
    found = retrieve(source, features, other, features, config=config).arrays
    np.testing.assert_array_equal(found["neighbor_images"][:, 0], found["query_images"])
    np.testing.assert_array_equal(found["query_labels"], found["neighbor_labels"][:, 0])
    again = retrieve(source, features, other, features, config=config).arrays
    np.testing.assert_array_equal(again["query_images"], found["query_images"])


def test_rows_that_were_left_out_do_not_shift_the_images(gallery):
    source, features = gallery
    keep = np.arange(3, 12)  # As if the first three records could not be read.
    fewer = Features(
        {"conv5": features.endpoints["conv5"][keep]}, features.labels[keep], keep
    )
    config = RetrievalConfig(num_queries=9, num_neighbors=1)
    found = retrieve(
        source,
        fewer,
        image_source(source.arrays["image"], source.arrays["label"]),
        fewer,
        config=config,
    ).arrays
    np.testing.assert_array_equal(found["query_images"][:, 0, 0, 0], keep)
    np.testing.assert_array_equal(found["neighbor_images"][:, 0, 0, 0, 0], keep)


def test_too_many_queries(gallery):
    source, features = gallery
    config = RetrievalConfig(num_queries=13)
    with pytest.raises(UserError, match="it must be at most 12"):
        retrieve(source, features, source, features, config=config)
    with pytest.raises(UserError, match="num_neighbors is 0"):
        RetrievalConfig(num_neighbors=0)


def circle(batch):
    """Return where an image of the gallery lies on the circle."""
    angle = 2 * jnp.pi * batch["image"][:, None, 0, 0, 0] / 12
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


@pytest.mark.parametrize(("database", "own"), [("queries", False), ("train", True)])
def test_the_searched_set_is_a_setting(gallery, tiny, database, own):
    """The thesis searches the queries' own set, each image left out of its results."""
    source, _ = gallery
    test = image_source(source.arrays["image"], source.arrays["label"], name="test")
    train = image_source(
        source.arrays["image"], source.arrays["label"], name="training"
    )
    settings = {"num_queries": 12, "num_neighbors": 2, "database": database}
    bank = FeatureBank(lambda state, rows: {"conv5": rows}, circle, batch_size=6)
    found = retrieval_eval(bank, train, test, RetrievalConfig(**settings))(tiny.state)
    searched = {"queries": "test", "train": "training"}[database]
    assert found.arrays["database"] == np.array(searched)
    shown = found.arrays["neighbor_images"][:, :, 0, 0, 0]
    for i in range(12):
        assert (i in shown[i]) == own
    # Without the query, four of 24 neighbours are of the other class; with it, two.
    want = 22 / 24 if own else 20 / 24
    assert found.metrics["precision"].value == pytest.approx(want, abs=1e-6)


def test_the_thesis_set_is_the_default():
    assert RetrievalConfig().database == "queries"
    with pytest.raises(UserError, match="database is 'test'; allowed: queries, train"):
        RetrievalConfig(database="test")
