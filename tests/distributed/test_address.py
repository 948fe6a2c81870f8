"""Where process 0 listens, and that each process has a number of its own."""

import contextlib
import os
import socket

import pytest
from jax._src.lib import _jax

from jaxssl.distributed import address
from jaxssl.distributed.address import ProcessAddress
from jaxssl.errors import UserError
from tests.train import processes


def _can_connect(host, port):
    with contextlib.suppress(OSError):
        socket.create_connection((host, port), timeout=5).close()
        return True
    return False


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_nobody_reaches_the_port_at_another_address(host):
    """All of 127.0.0.0/8 is this machine; jax alone would listen at the whole of it."""
    port = processes.free_port()
    bind = address.find_bind_address(ProcessAddress(f"{host}:{port}", 2, 0))
    assert bind == f"{host}:{port}"
    options = {"heartbeat_timeout": 10, "shutdown_timeout": 1, "recoverable": False}
    service = _jax.get_distributed_runtime_service(bind, 2, **options)
    try:
        assert _can_connect("127.0.0.1", port)
        assert not _can_connect("127.0.0.2", port)
    finally:
        service.shutdown()


@pytest.mark.parametrize(
    ("host", "ips", "bind"),
    [
        ("198.51.100.7", ["198.51.100.7"], None),  # Of another machine.
        ("trainer", ["127.0.1.1"], None),  # As Debian calls its own machine.
        ("trainer", ["127.0.0.1"], None),
        ("127.0.0.3", ["127.0.0.3"], "127.0.0.3:1234"),
        ("[::1]", ["::1"], "[::1]:1234"),
    ],
)
def test_an_address_that_others_could_not_reach_is_not_chosen(
    monkeypatch, host, ips, bind
):
    entries = [(0, 0, 0, "", (ip, 0)) for ip in ips]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: entries)
    assert address.find_bind_address(ProcessAddress(f"{host}:1234", 2, 0)) == bind


def test_a_name_without_an_address_leaves_the_choice_to_jax(monkeypatch):
    def fail(*_):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert address.find_bind_address(ProcessAddress("nowhere:1234", 2, 0)) is None


def test_two_processes_with_one_number_are_told_apart():
    member = ProcessAddress(f"127.0.0.1:{processes.free_port()}", 3, 1)
    first = address.claim(member, 0)
    with pytest.raises(UserError, match=r"is process 1 .* its own"):
        address.claim(member, 0)
    other = address.claim(member._replace(process_id=2), 0)
    os.close(first)
    for descriptor in (address.claim(member, 0), other):
        os.close(descriptor)
