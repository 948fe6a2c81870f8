"""Where the processes of a run meet, checked before jax goes there."""

import os
import socket
from typing import NamedTuple

from jaxssl.errors import UserError


class Place(NamedTuple):
    """Where a process stands among the others; all None where jax finds out itself.

    Attributes:
      coordinator: ``host:port`` of process 0.
      num_processes: how many there are.
      process_id: which one this is.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


def check(place: Place) -> None:
    """Raise if a place that was given cannot be one.

    Raises:
      UserError: names what is wrong.
    """
    host, _, port = (place.coordinator or "").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator is {place.coordinator!r}; give HOST:PORT of process 0, a "
            "port from 1 to 65535."
        )
    size, index = place.num_processes or 0, place.process_id
    if size < 1:
        raise UserError(f"--num_processes is {size}; it must be above 0.")
    if index is None or not 0 <= index < size:
        raise UserError(f"--process_id is {index}; allowed: 0 to {size - 1}.")


def check_port(place: Place) -> None:
    """Raise if another program has process 0's port; jax itself would crash.

    Raises:
      UserError: names the port.
    """
    if place.process_id != 0 or place.coordinator is None:
        return
    try:
        socket.create_server(("", int(place.coordinator.rpartition(":")[2]))).close()
    except OSError as error:
        raise UserError(cannot_listen(place, os.strerror(error.errno or 0))) from error


def cannot_listen(place: Place, why: str) -> str:
    """Return the line about a port that cannot be had."""
    return (
        f"--coordinator: process 0 cannot listen at {place.coordinator} ({why}); give "
        "another port, or another --process_id if this is not process 0."
    )
