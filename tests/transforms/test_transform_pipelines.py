"""Where transforms run: jit, vmap, shard_map over eight devices, Grain."""

import functools

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import transforms as T  # noqa: N812

KEY = jax.random.key(0)
NUM = 16


def _images() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (NUM, 10, 10, 3), np.uint8)


def _view(key, image):
    """A pretext view: warp, crop and flip sampled once, then tiles in random order."""
    keys = jax.random.split(key, 4)
    warp = T.warp_params(keys[0], grid=(2, 3))
    corner = T.crop_params(keys[1], image_size=10, size=8).top_left
    flip = T.hflip_params(keys[2]).flip
    maps = [T.warp_coords(warp), T.crop_coords(corner, 8), T.hflip_coords(flip)]
    image, order = T.random_jigsaw(keys[3], T.geometric_chain(image, maps), grid=2)
    return image, (warp, corner, flip, order)


batch_views = T.batched(_view)


def _equal(got, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, expected)


@functools.cache
def _expected():
    return jax.jit(batch_views)(KEY, jnp.array(_images()), jnp.arange(NUM))


def _mesh(num: int) -> Mesh:
    return Mesh(np.array(jax.devices()[:num]), ("data",))


@pytest.mark.parametrize("num_devices", [1, 2, 8])
def test_shard_map_gives_each_sample_its_view(num_devices) -> None:
    """No device knows which rows of the batch it has; ids tell it what to draw."""
    spread = jax.shard_map(
        batch_views,
        mesh=_mesh(num_devices),
        in_specs=(P(), P("data"), P("data")),
        out_specs=P("data"),
    )
    got = jax.jit(spread)(KEY, jnp.array(_images()), jnp.arange(NUM))
    assert len(got[0].sharding.device_set) == num_devices
    _equal(got, _expected())


def test_jit_over_a_sharded_batch_gives_each_sample_its_view() -> None:
    rows = NamedSharding(_mesh(8), P("data"))
    images, ids = (
        jax.device_put(x, rows) for x in (jnp.array(_images()), jnp.arange(NUM))
    )
    got = jax.jit(batch_views)(KEY, images, ids)
    assert len(got[0].sharding.device_set) == 8
    _equal(got, _expected())


def test_neither_order_nor_batch_nor_host_changes_a_view() -> None:
    """Two hosts read every other sample, shuffled, in batches of three and one."""
    images, want = _images(), _expected()
    view = jax.jit(batch_views)
    for host in range(2):
        mine = np.random.default_rng(host).permutation(np.arange(host, NUM, 2))
        for rows in (mine[:3], mine[3:6], mine[6:7], mine[7:]):
            got = view(KEY, jnp.array(images[rows]), jnp.array(rows))
            _equal(got, jax.tree.map(lambda leaf, rows=rows: leaf[rows], want))


def test_an_image_alone_is_one_of_the_batch() -> None:
    one = jax.jit(_view)(jax.random.fold_in(KEY, 5), jnp.array(_images()[5]))
    _equal(one[1], jax.tree.map(lambda leaf: leaf[5], _expected()[1]))
    # Compiled apart, the sampling may round one step differently.
    assert np.abs(np.int32(one[0]) - np.int32(_expected()[0][5])).max() <= 1


# --- Grain


class Records(grain.sources.RandomAccessDataSource):
    """Images with their ids."""

    def __len__(self):
        return NUM

    def __getitem__(self, index):
        return {"image": _images()[index], "id": np.int32(index)}


def _augment(key, element):
    image, params = T.random_crop(key, element["image"], size=6)
    return {**element, "image": image, "corner": params.top_left}


def test_grain_map_is_the_function_with_a_key_of_the_generator() -> None:
    apply = T.grain_map(jax.jit(_augment))
    element = Records()[3]
    first, again = (apply(element, np.random.default_rng(7)) for _ in range(2))
    _equal(first, again)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(first))
    y, x = first["corner"]
    expected = element["image"][y : y + 6, x : x + 6]
    np.testing.assert_array_equal(first["image"], expected)
    corners = {
        tuple(apply(element, np.random.default_rng(seed))["corner"].tolist())
        for seed in range(20)
    }
    assert len(corners) > 5


def _epoch(batch_size: int, seed: int, threads: int):
    data = grain.MapDataset.source(Records()).seed(seed).shuffle()
    data = data.random_map(T.grain_map(jax.jit(_augment))).batch(batch_size)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
    rows = {}
    for batch in data.to_iter_dataset(options):
        assert batch["image"].shape[1:] == (6, 6, 3)
        for name, corner in zip(batch["id"], batch["corner"], strict=True):
            rows[int(name)] = tuple(corner.tolist())
    return rows


def test_a_grain_pipeline_is_repeatable_whatever_its_batches_and_threads() -> None:
    first = _epoch(4, 1, 1)
    assert sorted(first) == list(range(NUM))
    assert len(set(first.values())) > 5
    assert _epoch(8, 1, 4) == first
    assert _epoch(4, 2, 1) != first
