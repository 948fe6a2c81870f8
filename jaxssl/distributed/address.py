"""The address of a process among the processes of a run, checked before jax uses it."""

import os
import socket
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
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator is {address.coordinator!r}; give HOST:PORT of process 0, a "
            "port from 1 to 65535."
        )
    size, index = address.num_processes or 0, address.process_id
    if size < 1:
        raise UserError(f"--num_processes is {size}; it must be above 0.")
    if index is None or not 0 <= index < size:
        raise UserError(f"--process_id is {index}; allowed: 0 to {size - 1}.")


def check_port(address: ProcessAddress) -> None:
    """Raise if another program listens at the port of process 0; jax would crash.

    Raises:
      UserError: names the port.
    """
    if address.process_id != 0 or address.coordinator is None:
        return
    try:
        port = int(address.coordinator.rpartition(":")[2])
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(cannot_listen(address, reason)) from error


def cannot_listen(address: ProcessAddress, reason: str) -> str:
    """Return the error line for a port that process 0 cannot use."""
    return (
        f"--coordinator: process 0 cannot listen at {address.coordinator} ({reason}); "
        "give another port, or another --process_id if this is not process 0."
    )
