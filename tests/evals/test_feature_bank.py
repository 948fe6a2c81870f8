"""Features of a data set against a network that is computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data import pipeline
from jaxssl.data.source import ArraySource
from jaxssl.errors import UserError
from jaxssl.evals import feature_bank
from jaxssl.evals.crops import CenterCrops
from jaxssl.evals.feature_bank import FeatureBank, FeatureConfig, class_labels
from jaxssl.ops.average import Pool


def mean_pooled(maps: np.ndarray, size: int) -> np.ndarray:
    """Average by windows that divide the map."""
    b, h, w, c = maps.shape
    return maps.reshape(b, h // size, size, w // size, size, c).mean(axis=(2, 4))


def expected(tiny, images: np.ndarray) -> dict[str, np.ndarray]:
    kernel = np.asarray(tiny.state.params["classifier"]["kernel"])
    maps = np.maximum(images.astype(np.float32) / 255 @ kernel, 0)
    endpoints = {
        "conv1": mean_pooled(maps, 4),
        "conv2": mean_pooled(maps[:, ::2, ::2], 2),
    }
    return {endpoint: x.reshape(len(x), -1) for endpoint, x in endpoints.items()}


def halves(endpoint: str, shape: tuple[int, int, int]) -> Pool:
    return Pool(shape[0] // 2)


@pytest.mark.parametrize("batch_size", [5, 23, 64])
def test_features_of_centre_crops_do_not_depend_on_the_batches(
    tiny, test_set, batch_size
):
    bank = FeatureBank(
        tiny.predict_fns["features"],
        CenterCrops(8),
        batch_size=batch_size,
        pools=halves,
    )
    got = bank(tiny.state, test_set)
    want = expected(tiny, test_set.arrays["image"][:, :8, :8])
    assert got.endpoints.keys() == want.keys()
    for endpoint, x in want.items():
        assert got.endpoints[endpoint].dtype == np.float32
        np.testing.assert_allclose(got.endpoints[endpoint], x, atol=1e-6)
    np.testing.assert_array_equal(got.labels, test_set.arrays["label"])
    np.testing.assert_array_equal(got.ids, np.arange(23))


def test_views_are_rows_of_their_own(tiny, test_set):
    bank = FeatureBank(
        tiny.predict_fns["features"], CenterCrops(8), batch_size=10, pools=halves
    )
    got = bank(tiny.state, test_set, CenterCrops(8, "ten"))
    images = test_set.arrays["image"]
    corners = [images[:, y : y + 8, x : x + 8] for y in (0, 1) for x in (0, 1)]
    views = [images[:, :8, :8], *corners]
    views += [view[:, :, ::-1] for view in views]
    for v, view in enumerate(views):
        want = expected(tiny, view)["conv1"]
        np.testing.assert_allclose(got.endpoints["conv1"][:, v], want, atol=1e-6)


def test_a_clip_is_not_cropped_as_an_image(tiny):
    """A clip as ``image`` was cut along time and height, and nobody heard of it."""
    source = ArraySource({"image": np.zeros((2, 16, 24, 24, 3), np.uint8)})
    bank = FeatureBank(lambda state, x: {"conv1": x[:, 0]}, CenterCrops(16))
    message = r"'image' has records of shape \(16, 24, 24, 3\).*\(height, width, chan"
    with pytest.raises(UserError, match=message):
        bank(tiny.state, source)


def test_clips_have_features_by_a_prepare_of_their_own(tiny):
    """Two windows of four frames a clip, and no label anywhere."""
    clips = np.random.default_rng(0).integers(0, 255, (5, 6, 4, 4, 3), np.uint8)

    def windows(batch):
        return jnp.stack([batch["clip"][:, t : t + 4] for t in (0, 2)], axis=1)

    def features(state, clips):
        assert clips.shape == (6, 4, 4, 4, 3)  # (b v) t h w c
        return {"pool5": clips.astype(jnp.float32).mean(axis=(1, 2, 3))}

    bank = FeatureBank(features, windows, batch_size=3)
    got = bank(tiny.state, ArraySource({"clip": clips}))
    want = [clips[:, t : t + 4].mean(axis=(1, 2, 3)) for t in (0, 2)]
    np.testing.assert_allclose(
        got.endpoints["pool5"], np.stack(want, axis=1), rtol=1e-5
    )
    assert got.labels is None
    with pytest.raises(UserError, match=r"needs one class a record.*no labels"):
        class_labels(got, "knn")


def test_features_are_maps_or_vectors(tiny):
    source = ArraySource({"image": np.zeros((2, 8, 8, 3), np.uint8)})
    bank = FeatureBank(lambda state, x: {"conv1": x[:, None]}, CenterCrops(8))
    with pytest.raises(ValueError, match=r"'conv1' has the shape \(256, 1, 8, 8, 3\)"):
        bank(tiny.state, source)


def test_demo_maps_are_pooled_to_the_measured_sizes():
    rule = feature_bank.bounded_pools()
    shapes = {(16, 16, 24): 384, (8, 8, 64): 1024, (4, 4, 96): 1536, (4, 4, 64): 1024}
    for shape, dims in shapes.items():
        size = rule("conv", shape).size
        assert (shape[0] // size) * (shape[1] // size) * shape[2] == dims
    assert rule("conv", (4, 4, 384)) == Pool(2)  # 2x2x384 = 1536
    assert rule("stage4", (2, 2, 2048)) == Pool(2)  # One cell is the least.


def test_standardised_by_the_training_statistics():
    rng = np.random.default_rng(0)
    train = rng.normal(3, 2, (50, 4)).astype(np.float32)
    train[:, 2] = 7  # Constant: says nothing, whatever the test set has there.
    test = rng.normal(size=(5, 3, 4)).astype(np.float32)
    x, x_test = feature_bank.standardized(train, test)
    assert x.dtype == x_test.dtype == np.float32
    mean, deviation = train.mean(0), train.std(0)
    keep = [0, 1, 3]
    want = (test - mean)[..., keep] / deviation[keep]
    np.testing.assert_allclose(x_test[..., keep], want, rtol=1e-5)
    np.testing.assert_array_equal(x_test[..., 2], 0)
    np.testing.assert_allclose(x.std(0)[keep], 1, rtol=1e-5)


@pytest.fixture
def passes(monkeypatch):
    """Count how often a data set is read."""
    seen = []

    def epoch(source, **options):
        seen.append(source)
        return original(source, **options)

    original = pipeline.epoch
    monkeypatch.setattr(pipeline, "epoch", epoch)
    return seen


def test_the_bank_computes_once_a_state_and_source(tiny, train_set, test_set, passes):
    bank = FeatureBank(tiny.predict_fns["features"], CenterCrops(8))
    first = bank(tiny.state, train_set)
    bank(tiny.state, test_set)
    assert bank(tiny.state, train_set) is first
    assert bank(tiny.state._replace(step=jnp.ones((), jnp.int32)), train_set) is first
    assert passes == [train_set, test_set]
    bank(tiny.state, test_set, CenterCrops(8, "five"))
    assert len(passes) == 3
    params = jax.tree.map(lambda x: 2 * x, tiny.state.params)
    later = bank(tiny.state._replace(params=params), train_set)
    assert len(passes) == 4
    assert not np.array_equal(later.endpoints["conv1"], first.endpoints["conv1"])
    assert bank(tiny.state, train_set) is not first  # It holds one state only.


def test_other_averaged_weights_are_other_features(tiny, test_set):
    def features(state, images):
        state = state._replace(params=state.extra["average"])
        return tiny.predict_fns["features"](state, images)

    bank = FeatureBank(features, CenterCrops(8))
    zeros = jax.tree.map(jnp.zeros_like, tiny.state.params)
    for params in (tiny.state.params, zeros):
        state = tiny.state._replace(extra={"average": params})
        x = bank(state, test_set).endpoints["conv1"]
        assert x.any() == (params is not zeros)


def test_one_compilation_for_all_states_and_sources(tiny, train_set, test_set):
    traces = []

    def counted(state, images):
        traces.append(images.shape)
        return tiny.predict_fns["features"](state, images)

    bank = FeatureBank(counted, CenterCrops(8), batch_size=10)
    for scale in (1.0, 2.0):
        params = jax.tree.map(lambda x, s=scale: s * x, tiny.state.params)
        for source in (train_set, test_set):
            bank(tiny.state._replace(params=params), source)
    assert traces == [(10, 8, 8, 3)]


def test_no_transfer_is_implicit_and_no_leaf_moves(tiny, test_set):
    before = jax.tree.map(np.array, tiny.state)
    bank = FeatureBank(tiny.predict_fns["features"], CenterCrops(8))
    with jax.transfer_guard("disallow"):
        bank(tiny.state, test_set)
    jax.tree.map(np.testing.assert_array_equal, before, tiny.state)


def test_a_replicated_state_gives_the_same_features(tiny, test_set):
    def bank():
        return FeatureBank(tiny.predict_fns["features"], CenterCrops(8), batch_size=10)

    one = bank()(tiny.state, test_set)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(tiny.state, everywhere)
    many = bank()(state, test_set)
    jax.tree.map(np.testing.assert_array_equal, one, many)


def test_bad_settings_name_the_field():
    with pytest.raises(UserError, match="crop_size is 0"):
        FeatureConfig(crop_size=0)
    with pytest.raises(UserError, match="max_cells is -1"):
        FeatureConfig(crop_size=8, max_cells=-1)
