"""Many processes, one run: they find each other, agree, and wait no longer than asked.

All that touches jax's coordination service is here. Process 0 decides whatever is
decided on the host, such as which checkpoint to go on from, and the others hear of it.
Where there is one process every function returns at once.
"""

import contextlib
import ctypes
import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax._src import distributed

from jaxssl.distributed import address
from jaxssl.distributed.address import Place
from jaxssl.errors import (
    DriftError,
    ExitCode,
    NoValidCheckpointError,
    PeerLostError,
    UserError,
)
from jaxssl.text import first_line, shorten

AGAIN = "Repeat all commands; a run goes on from its newest checkpoint."
LEAVE_SECONDS = 10
TICK = 1.0
"""Seconds between two notes of a process, and between two looks at those of others."""


TOLD = {kind.__name__: kind for kind in (UserError, DriftError, NoValidCheckpointError)}
"""Errors of process 0 that the others raise as well."""


class Limits(NamedTuple):
    """How long a process waits before it gives up, in seconds.

    Attributes:
      join: for all processes to be there, and for what process 0 decides. Hosts of a
        pod may boot half an hour apart.
      peer: without a sign of life of another process, which then counts as dead. A
        host that swaps is often silent for some seconds.
      hang: without progress in a step; see `jaxssl.distributed.watchdog`.
    """

    join: int = 1800
    peer: int = 60
    hang: int = 60


class _State:
    """What holds for the whole process, as jax's own connection does."""

    join_seconds = Limits().join
    peer_seconds = Limits().peer
    handler: Any = None
    behind = ""
    leaving: int | None = None


_state = _State()
_numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)


def join(
    place: Place,
    join_seconds: int = Limits().join,
    peer_seconds: int = Limits().peer,
) -> None:
    """Connect to the other processes; has to come before jax looks for devices.

    If they do not come in time, jax ends the process, which then has code 3.

    Args:
      place: where this process stands.
      join_seconds: how long to wait for all, and later for what process 0 decides.
      peer_seconds: how long another process may be silent.

    Raises:
      UserError: no cluster was found, or the coordinator's port is taken.
    """
    # `jaxssl.distributed.preemption` does its work. Orbax asks the service too, from
    # another thread and for an older step, which moves the counter back that the
    # processes compare, and so a notice can get lost.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _end_on_abort()
    _state.join_seconds, _state.peer_seconds = join_seconds, peer_seconds
    _state.behind = (
        f"; not all were there within {join_seconds} s. Start all of them, with the "
        "same --coordinator and --num_processes."
    )
    address.check_port(place)
    # jax waits below Python, where Ctrl-C would be heard only once all are there.
    heard = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            *place,
            cluster_detection_method="deactivate" if place.coordinator else None,
            initialization_timeout=join_seconds,
            heartbeat_timeout_seconds=peer_seconds,
            shutdown_timeout_seconds=LEAVE_SECONDS,
        )
    except ValueError as error:
        raise UserError(
            f"--distributed: jax found no cluster here ({error}) Give --coordinator, "
            "--num_processes and --process_id."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise UserError(address.cannot_listen(place, first_line(error))) from error
    finally:
        signal.signal(signal.SIGINT, heard)
    _state.behind = f"; most often another process is lost. {AGAIN}"


def _end_on_abort() -> None:
    """Let the abort by jax's client end this process with one line and code 3.

    Its thread aborts the process when the service, or a peer, is gone. Neither an
    exception nor a handler of Python's can come in between, and the callback that the
    client takes fails on its argument. So the handler is set below Python.
    """

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def tell(_: int) -> None:
        if _state.leaving is not None:  # It has told what went wrong.
            os._exit(_state.leaving)
        end(ExitCode.PEER_LOST, f"jax gave up, as it says above{_state.behind}")

    _state.handler = tell  # What C may call must stay.
    ctypes.CDLL(None).signal(signal.SIGABRT, tell)


def end(code: int, line: str) -> None:
    """End this process at once: whatever would be cleaned up may wait for the others.

    Threads may call it while another one holds the locks of ``sys.stderr``. Processes
    that read are killed first: one that is stopped or stuck would outlive this one.
    """
    for child in multiprocessing.active_children():
        child.kill()
    os.write(2, f"jaxssl: {' '.join(line.split())}\n".encode())
    os._exit(code)


def leave(code: int) -> None:
    """End this process together with the others; return if it has none.

    Process 0 takes the service with it, so it is the last one; but nobody waits long
    for one that does not come.
    """
    if not is_joined():
        return
    _state.leaving = code
    sys.stdout.flush()
    sys.stderr.flush()
    if code != ExitCode.PEER_LOST:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _client().wait_at_barrier("jaxssl/leave", LEAVE_SECONDS * 1000)
        if distributed.global_state.process_id == 0:
            time.sleep(TICK)
    os._exit(code)


def is_joined() -> bool:
    """Say whether this process has joined others."""
    return _client() is not None


def count() -> int:
    """Return the number of processes; does not wake up the devices if it is one."""
    return jax.process_count() if is_joined() else 1


def is_first() -> bool:
    """Say whether this is process 0, which writes what a run writes once."""
    return count() == 1 or jax.process_index() == 0


def patience() -> int:
    """Return how many seconds others may be silent, as the service itself may."""
    return _state.peer_seconds


def new_key(what: str) -> str:
    """Return a name that was not used before; all processes count in the same way."""
    return f"jaxssl/{what}/{next(_numbers[what])}"


def put(key: str, value: Any) -> None:
    """Tell all processes something that JSON can hold; a later value replaces it."""
    try:
        _client().key_value_set(key, json.dumps(value), allow_overwrite=True)
    except jax.errors.JaxRuntimeError as error:
        raise PeerLostError(first_line(error)) from error


def peek(key: str) -> Any:
    """Return what was told under a key, or None."""
    try:
        return json.loads(_client().key_value_try_get(key))
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" in str(error):
            return None
        raise PeerLostError(first_line(error)) from error


def get(key: str, seconds: float, whose: int = 0) -> Any:
    """Wait for what a process tells.

    Args:
      key: where it is told.
      seconds: how long to wait.
      whose: the process, for the message.

    Returns:
      The value.

    Raises:
      PeerLostError: it did not come in time.
    """
    try:
        return json.loads(_client().blocking_key_value_get(key, int(seconds * 1000)))
    except jax.errors.JaxRuntimeError as error:
        raise PeerLostError(
            f"process {whose} has said nothing for {seconds:g} s ({key}): "
            f"{first_line(error)}"
        ) from error


def read_all(prefix: str) -> dict[str, Any]:
    """Return what was told under keys that begin so; nothing if the service is gone."""
    try:
        told = _client().key_value_dir_get(prefix)
    except jax.errors.JaxRuntimeError:
        return {}
    return {key: json.loads(text) for key, text in told}


def decide(what: str, choose: Callable[[], Any]) -> Any:
    """Let process 0 do something once, and all know what came of it.

    Args:
      what: names it, in messages.
      choose: is called on process 0 alone; returns what JSON can hold.

    Returns:
      What ``choose`` returned, on every process.

    Raises:
      UserError: ``choose`` raised it, or another of the errors in ``TOLD``.
      PeerLostError: process 0 told nothing within ``join_seconds``.
    """
    if count() == 1:
        return choose()
    key = new_key(what)
    if not is_first():
        told = get(key, _state.join_seconds)
        if "error" in told:
            raise TOLD[told["error"]](told["words"])
        return told["value"]
    try:
        value = choose()
    except tuple(TOLD.values()) as error:
        name = type(error).__name__
        put(key, {"error": name if name in TOLD else "UserError", "words": str(error)})
        raise
    put(key, {"value": value})
    return value


def gather(what: str, mine: Any, choose: Callable[[list[Any]], Any]) -> Any:
    """Let process 0 choose from what every process says, and all know the choice.

    Args:
      what: names it, in messages.
      mine: what this process says; anything that JSON can hold.
      choose: takes what all said, in their order; is called on process 0 alone.

    Returns:
      What ``choose`` returned, on every process.

    Raises:
      UserError: as in `decide`.
      PeerLostError: one said nothing within ``join_seconds``; names it.
    """
    key = new_key(f"{what}-of")

    def collect() -> Any:
        others = range(1, count())
        said = [get(f"{key}/{i}", _state.join_seconds, whose=i) for i in others]
        return choose([mine, *said])

    if not is_first():
        put(f"{key}/{jax.process_index()}", mine)
    return decide(what, collect)


def each(what: str, do: Callable[[], Any]) -> Any:
    """Let every process do something, and none go on if one of them cannot.

    Args:
      what: names it, in messages.
      do: is called on every process.

    Returns:
      What ``do`` returned here.

    Raises:
      UserError: ``do`` raised it here; or on another process, which is named.
      PeerLostError: one said nothing within ``join_seconds``.
    """
    if count() == 1:
        return do()
    try:
        value, failed = do(), None
    except UserError as error:
        value, failed = None, error
    mine = None if failed is None else f"process {jax.process_index()}: {failed}"
    told = gather(what, mine, lambda said: next(filter(None, said), None))
    if failed is not None:
        raise failed
    if told is not None:
        raise UserError(told)
    return value


def meet(what: str, seconds: int) -> None:
    """Wait until all processes are here.

    Args:
      what: names the place, in messages.
      seconds: how long to wait.

    Raises:
      PeerLostError: one did not come in time, or is gone.
    """
    if count() == 1:
        return
    try:
        _client().wait_at_barrier(new_key(what), int(seconds * 1000))
    except jax.errors.JaxRuntimeError as error:
        raise PeerLostError(
            f"not all processes came to the {what} within {seconds} s: "
            f"{first_line(error)}"
        ) from error


def compare(mine: Mapping[str, Any]) -> None:
    """Raise on every process unless all of them said the same.

    Args:
      mine: settings, fingerprint of the data, version of the code, by name. How many
        processes this one was told that there are is compared as well.

    Raises:
      DriftError: names the first process that differs from process 0, and in what.
    """

    def check(said: list[Mapping[str, Any]]) -> None:
        for i, theirs in enumerate(said):
            names = [
                n for n in {**said[0], **theirs} if said[0].get(n) != theirs.get(n)
            ]
            if names:
                words = [
                    f"{n} is {said[0].get(n, 'absent')!r} on process 0 and "
                    f"{theirs.get(n, 'absent')!r} on process {i}"
                    for n in names
                ]
                raise DriftError(
                    f"the processes are about to train different runs: "
                    f"{shorten(words)}. Start all with the same command, data and "
                    "version of jaxssl."
                )

    # jax itself believes process 0.
    asked = {"--num_processes": distributed.global_state.num_processes}
    gather("compare", asked | dict(mine), check)


def _client() -> Any:
    return distributed.global_state.client
