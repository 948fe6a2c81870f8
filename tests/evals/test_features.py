import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.data import pipeline
from jaxssl.errors import UserError
from jaxssl.evals import features
from jaxssl.evals.features import FeatureBank, FeatureConfig
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
    got = features.extract(
        tiny.predict_fns["features"],
        tiny.state,
        test_set,
        crop_size=8,
        batch_size=batch_size,
        pools=halves,
    )
    want = expected(tiny, test_set.arrays["image"][:, :8, :8])
    assert got.endpoints.keys() == want.keys()
    for endpoint, x in want.items():
        assert got.endpoints[endpoint].dtype == np.float32
        np.testing.assert_allclose(got.endpoints[endpoint], x, atol=1e-6)
    np.testing.assert_array_equal(got.labels, test_set.arrays["label"])
    np.testing.assert_array_equal(got.ids, np.arange(23))


def test_views_are_rows_of_their_own(tiny, test_set):
    got = features.extract(
        tiny.predict_fns["features"],
        tiny.state,
        test_set,
        crop_size=8,
        batch_size=10,
        pools=halves,
        views="ten",
    )
    images = test_set.arrays["image"]
    corners = [images[:, y : y + 8, x : x + 8] for y in (0, 1) for x in (0, 1)]
    views = [images[:, :8, :8], *corners]
    views += [view[:, :, ::-1] for view in views]
    for v, view in enumerate(views):
        want = expected(tiny, view)["conv1"]
        np.testing.assert_allclose(got.endpoints["conv1"][:, v], want, atol=1e-6)


def test_views_keep_type_and_centre():
    images = jnp.arange(2 * 6 * 7 * 1, dtype=jnp.uint8).reshape(2, 6, 7, 1)
    crops = features.crop_views(images, size=3, views="five")
    assert crops.shape == (2, 5, 3, 3, 1)
    assert crops.dtype == jnp.uint8
    np.testing.assert_array_equal(crops[:, 0], images[:, 1:4, 2:5])
    np.testing.assert_array_equal(crops[:, 4], images[:, 3:, 4:])


def test_views_refuse_what_cannot_be_cut():
    images = jnp.zeros((1, 6, 7, 3), jnp.uint8)
    with pytest.raises(UserError, match="crop_size is 7 but the images are 6x7"):
        features.crop_views(images, size=7)
    with pytest.raises(UserError, match="allowed: center, five, ten"):
        features.crop_views(images, size=3, views="tenn")


def test_demo_maps_are_pooled_to_the_measured_sizes():
    rule = features.bounded_pools()
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
    x, x_test = features.standardized(train, test)
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
    bank = FeatureBank(tiny.predict_fns["features"], FeatureConfig(crop_size=8))
    first = bank(tiny.state, train_set)
    bank(tiny.state, test_set)
    assert bank(tiny.state, train_set) is first
    assert bank(tiny.state._replace(step=jnp.ones((), jnp.int32)), train_set) is first
    assert passes == [train_set, test_set]
    bank(tiny.state, test_set, views="five")
    assert len(passes) == 3
    params = jax.tree.map(lambda x: 2 * x, tiny.state.params)
    later = bank(tiny.state._replace(params=params), train_set)
    assert len(passes) == 4
    assert not np.array_equal(later.endpoints["conv1"], first.endpoints["conv1"])
    assert bank(tiny.state, train_set) is not first  # It holds one state only.


def test_one_compilation_for_all_states_and_sources(tiny, train_set, test_set):
    traces = []

    def counted(state, images):
        traces.append(images.shape)
        return tiny.predict_fns["features"](state, images)

    bank = FeatureBank(counted, FeatureConfig(crop_size=8, batch_size=10))
    for scale in (1.0, 2.0):
        params = jax.tree.map(lambda x, s=scale: s * x, tiny.state.params)
        for source in (train_set, test_set):
            bank(tiny.state._replace(params=params), source)
    assert traces == [(10, 8, 8, 3)]


def test_no_transfer_is_implicit_and_no_leaf_moves(tiny, test_set):
    before = jax.tree.map(np.array, tiny.state)
    bank = FeatureBank(tiny.predict_fns["features"], FeatureConfig(crop_size=8))
    with jax.transfer_guard("disallow"):
        bank(tiny.state, test_set)
    jax.tree.map(np.testing.assert_array_equal, before, tiny.state)


def test_a_replicated_state_gives_the_same_features(tiny, test_set):
    config = FeatureConfig(crop_size=8, batch_size=10)
    one = FeatureBank(tiny.predict_fns["features"], config)(tiny.state, test_set)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    state = jax.device_put(tiny.state, everywhere)
    many = FeatureBank(tiny.predict_fns["features"], config)(state, test_set)
    jax.tree.map(np.testing.assert_array_equal, one, many)


def test_bad_settings_name_the_field():
    with pytest.raises(UserError, match="crop_size is 0"):
        FeatureConfig(crop_size=0)
    with pytest.raises(UserError, match="max_cells is -1"):
        FeatureConfig(crop_size=8, max_cells=-1)
