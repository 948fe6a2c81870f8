import dataclasses
import os
import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.distributed import mesh as meshes
from jaxssl.distributed import preemption
from jaxssl.errors import UserError


def test_rows_of_a_batch_go_to_the_devices_in_order():
    mesh = meshes.make_mesh(meshes.MeshConfig())
    rows = np.arange(16, dtype=np.int32)
    batch = meshes.to_devices({"id": rows}, mesh)["id"]
    np.testing.assert_array_equal(batch, rows)
    starts = [shard.index[0].start for shard in batch.addressable_shards]
    assert sorted(starts) == list(range(0, 16, 2))


@pytest.mark.parametrize(("asked", "size"), [(-1, 8), (1, 1), (3, 3)])
def test_mesh_takes_as_many_devices_as_asked(asked, size):
    mesh = meshes.make_mesh(meshes.MeshConfig(data=asked))
    assert dict(mesh.shape) == {"data": size, "model": 1}


def test_the_axis_model_divides_what_there_is():
    mesh = meshes.make_mesh(meshes.MeshConfig(model=2))
    assert dict(mesh.shape) == {"data": 4, "model": 2}
    assert set(mesh.axis_types) == {jax.sharding.AxisType.Auto}
    with pytest.raises(UserError, match=r"mesh.model is 3, but there are 8 cpu dev"):
        meshes.make_mesh(meshes.MeshConfig(model=3))
    message = r"mesh.data x mesh.model is 4 x 4, but there are 8 cpu devices"
    with pytest.raises(UserError, match=message):
        meshes.make_mesh(meshes.MeshConfig(data=4, model=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": 0}, "^model is 0"),
        ({"params": "zero"}, "^params is 'zero'; allowed: replicated, fsdp"),
        ({"rules": (("(", ("data",)),)}, r"^rules has '\(', which is no regular"),
        ({"rules": (("fc1", ("rows",)),)}, "^rules: an axis of 'fc1' is 'rows'"),
        ({"rules": (("fc1", ("data", "data")),)}, "^rules gives 'fc1' the axes"),
    ],
)
def test_impossible_sections_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        meshes.MeshConfig(**settings)


@dataclasses.dataclass(frozen=True)
class Device:
    """What `make_mesh` asks of a device where there are several processes."""

    id: int
    process_index: int
    slice_index: int = 0
    platform: str = "cpu"


def lay_out(owners, **settings):
    devices = [Device(i, owner) for i, owner in enumerate(owners)]
    return meshes.make_mesh(meshes.MeshConfig(**settings), devices)


def parts(mesh, monkeypatch, processes):
    shares = []
    for index in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda i=index: i)
        shares.append(meshes.share(mesh))
    return shares


def test_rows_of_a_process_lie_together(monkeypatch):
    mesh = lay_out([0, 1, 0, 1, 2, 3, 2, 3])
    owners = [d.process_index for d in mesh.devices[:, 0]]
    assert owners == [0, 0, 1, 1, 2, 2, 3, 3]
    assert parts(mesh, monkeypatch, 4) == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_processes_along_model_read_the_same_rows(monkeypatch):
    mesh = lay_out([0, 0, 1, 1, 2, 2, 3, 3], model=4)
    assert parts(mesh, monkeypatch, 4) == [(0, 2), (0, 2), (1, 2), (1, 2)]
    mesh = lay_out([0, 0, 1, 1], model=4)
    assert parts(mesh, monkeypatch, 2) == [(0, 1), (0, 1)]


@pytest.mark.parametrize(
    ("owners", "settings", "message"),
    [
        ([0, 0, 1, 1], {"data": 2}, "leaves nothing to do for 1 of the processes"),
        ([0, 0, 0, 1, 1, 1], {"model": 2}, "the processes cannot share evenly"),
        ([0, 0, 0, 1], {}, "the processes cannot share evenly"),
    ],
)
def test_processes_without_an_equal_part_are_refused(owners, settings, message):
    with pytest.raises(UserError, match=message):
        lay_out(owners, **settings)


def test_mini_batches_that_devices_cannot_share_are_told():
    mesh = meshes.make_mesh(meshes.MeshConfig())
    assert meshes.describe_uneven_minibatches(64, 8, mesh) is None
    assert meshes.describe_uneven_minibatches(30, 1, mesh) is None
    message = meshes.describe_uneven_minibatches(32, 8, mesh)
    assert "8 mini-batches has 4 rows, which the 8 devices" in message
    assert "multiple of 64" in message


@pytest.mark.parametrize("data", [0, -2])
def test_impossible_meshes_are_named(data):
    with pytest.raises(UserError, match=f"^data is {data}"):
        meshes.MeshConfig(data=data)


def test_more_devices_than_there_are():
    with pytest.raises(UserError, match=r"mesh.data is 9, but there are 8 cpu devices"):
        meshes.make_mesh(meshes.MeshConfig(data=9))
    with pytest.raises(UserError, match=r"data is 2, but there is 1 cpu device"):
        meshes.make_mesh(meshes.MeshConfig(data=2), jax.devices()[:1])


def test_a_batch_must_divide():
    mesh = meshes.make_mesh(meshes.MeshConfig(data=4))
    meshes.check_batch(12, mesh)
    with pytest.raises(UserError, match=r"batch_size is 10.* multiple of 4"):
        meshes.check_batch(10, mesh)


def test_local_is_one_device_and_the_same_values():
    mesh = meshes.make_mesh(meshes.MeshConfig())
    everywhere = jax.device_put({"a": jnp.arange(3)}, meshes.replicated(mesh))
    here = meshes.local(everywhere)
    assert len(here["a"].devices()) == 1
    np.testing.assert_array_equal(here["a"], np.arange(3))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted_and_the_second_ends(number, monkeypatch):
    before, ends = signal.getsignal(number), []
    monkeypatch.setattr(os, "_exit", ends.append)
    monkeypatch.setitem(preemption.SAME_SECONDS, number, 0.0)
    with preemption.watch() as received:
        assert received() is None
        os.kill(os.getpid(), number)
        assert received() == number.name
        assert ends == []
        os.kill(os.getpid(), number)
    assert ends == [128 + number]
    assert signal.getsignal(number) is before


def test_other_threads_catch_nothing():
    signals = []

    def enter():
        with preemption.watch() as received:
            signals.append(received())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert signals == [None]
