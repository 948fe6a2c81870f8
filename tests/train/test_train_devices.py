import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.train import preemption, sharding
from jaxssl.types import UserError


def test_rows_of_a_batch_go_to_the_devices_in_order():
    mesh = sharding.make_mesh(sharding.Config())
    rows = np.arange(16, dtype=np.int32)
    batch = sharding.to_devices({"id": rows}, mesh)["id"]
    np.testing.assert_array_equal(batch, rows)
    starts = [shard.index[0].start for shard in batch.addressable_shards]
    assert sorted(starts) == list(range(0, 16, 2))


@pytest.mark.parametrize(("asked", "size"), [(-1, 8), (1, 1), (3, 3)])
def test_mesh_takes_as_many_devices_as_asked(asked, size):
    mesh = sharding.make_mesh(sharding.Config(data=asked))
    assert dict(mesh.shape) == {"data": size}


@pytest.mark.parametrize("data", [0, -2])
def test_impossible_meshes_are_named(data):
    with pytest.raises(UserError, match=f"^data is {data}"):
        sharding.Config(data=data)


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"mesh.data is 9, but there are 8 cpu devices"):
        sharding.make_mesh(sharding.Config(data=9))


def test_a_batch_must_divide():
    mesh = sharding.make_mesh(sharding.Config(data=4))
    sharding.check_batch(12, mesh)
    with pytest.raises(UserError, match=r"batch_size is 10.* multiple of 4"):
        sharding.check_batch(10, mesh)


def test_local_is_one_device_and_the_same_values():
    mesh = sharding.make_mesh(sharding.Config())
    everywhere = jax.device_put({"a": jnp.arange(3)}, sharding.replicated(mesh))
    here = sharding.local(everywhere)
    assert len(here["a"].devices()) == 1
    np.testing.assert_array_equal(here["a"], np.arange(3))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_ends(number, monkeypatch):
    before, ends = signal.getsignal(number), []
    monkeypatch.setattr(os, "_exit", ends.append)
    with preemption.watch() as received:
        assert received() is None
        os.kill(os.getpid(), number)
        assert received() == number.name
        assert ends == []
        os.kill(os.getpid(), number)
    assert ends == [128 + number]
    assert signal.getsignal(number) is before


def test_other_threads_catch_nothing():
    found = []

    def enter():
        with preemption.watch() as received:
            found.append(received())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [None]
