"""The address of a process among the processes of a run, checked before jax uses it."""

import errno
import ipaddress
import os
import socket
import sys
import time
from typing import NamedTuple

from jaxssl.errors import UserError


class ProcessAddress(NamedTuple):
    """Which process this is, and where process 0 listens.

    All three are None where jax finds them out itself.

    Attributes:
      coordinator: ``host:port`` at which process 0 listens.
      num_processes: number of processes of the run.
      process_id: index of this process, from 0 on.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def check(address: ProcessAddress) -> None:
    """Raise if an address that the user gave is impossible.

    Raises:
      UserError: names the flag, its value and the allowed values.
    """
    host, _, port = (address.coordinator or "").rpartition(":")
    number = port.isascii() and port.isdecimal()
    if not host or not number or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator is {address.coordinator!r}; give HOST:PORT of process 0, a "
            "port from 1 to 65535."
        )
    size, index = address.num_processes or 0, address.process_id
    if size < 1:
        raise UserError(f"--num_processes is {size}; it must be above 0.")
    if index is None or not 0 <= index < size:
        raise UserError(f"--process_id is {index}; allowed: 0 to {size - 1}.")


def find_bind_address(address: ProcessAddress) -> str | None:
    """Return at which address process 0 listens: that of the flag alone, if it can.

    Returns:
      ``host:port``; or None if the host is no address of this machine, as behind a
      network that translates addresses, or a name of this machine that leads to its
      loopback in its own list of hosts: then all addresses have to be listened at.
    """
    host, _, port = (address.coordinator or "").rpartition(":")
    host = host.strip("[]")
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None)}
        given = host == "localhost" or host in found
        if not given and any(ipaddress.ip_address(ip).is_loopback for ip in found):
            return None
        for ip in found:
            family = socket.AF_INET6 if ":" in str(ip) else socket.AF_INET
            with socket.socket(family) as probe:
                probe.bind((ip, 0))
    except OSError:
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def choose_bind_address(address: ProcessAddress) -> str | None:
    """Return where process 0 listens; None leaves the choice to jax."""
    if address.coordinator is None or "JAX_COORDINATOR_BIND_ADDRESS" in os.environ:
        return None
    return find_bind_address(address)


def claim(address: ProcessAddress, seconds: int) -> int | None:
    """Raise if another process of this machine has the same number in the same run.

    Args:
      address: of this process.
      seconds: how long to wait for a process that is about to end.

    Returns:
      The descriptor that holds the number as long as this process lives. None where the
      system has no such names (they are those of Linux).

    Raises:
      UserError: names the number.
    """
    if not sys.platform.startswith("linux") or address.coordinator is None:
        return None
    name = f"\0jaxssl/{address.coordinator}/{address.process_id}"
    deadline = time.monotonic() + seconds
    while True:
        with socket.socket(socket.AF_UNIX) as holder:
            try:
                holder.bind(name)
                return holder.detach()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        if time.monotonic() >= deadline:
            raise UserError(
                f"--process_id: another process of this machine is process "
                f"{address.process_id} at {address.coordinator} already; give each "
                "process its own number."
            )
        time.sleep(0.1)


def check_port(address: ProcessAddress) -> None:
    """Raise if another program listens at the port of process 0; jax would crash.

    Raises:
      UserError: names the port.
    """
    if address.process_id != 0 or address.coordinator is None:
        return
    port = address.coordinator.rpartition(":")[2]
    host = (find_bind_address(address) or "").rpartition(":")[0].strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, int(port)), family=family).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise cannot_listen(address, reason) from error


def cannot_listen(address: ProcessAddress, reason: str) -> UserError:
    """Return the error for a port that process 0 cannot use."""
    return UserError(
        f"--coordinator: process 0 cannot listen at {address.coordinator} ({reason}); "
        "give another port, or another --process_id if this is not process 0."
    )
