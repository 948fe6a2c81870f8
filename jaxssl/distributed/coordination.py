"""Several processes, one run: they find each other, agree, and limit every wait.

All calls of jax's coordination service are here. Process 0 makes the decisions of the
host, such as from which checkpoint the run continues, and sends them to the others. If
there is only one process, every function returns at once.
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

from jaxssl import errors
from jaxssl.distributed import address as addresses
from jaxssl.text import first_line, printable, shorten

AGAIN = "Repeat all commands; a run goes on from its newest checkpoint."

# Seconds that a process which ends waits for the others to end.
LEAVE_SECONDS = 10

# Seconds between two notes of a process, and between two looks at the notes of others.
TICK = 1.0

# Errors of process 0 that all others raise as well, by name; a subclass comes first.
SHARED_ERRORS = {
    kind.__name__: kind
    for kind in (errors.DriftError, errors.UserError, errors.NoValidCheckpointError)
}


class Limits(NamedTuple):
    """How long a process waits before it gives up, in seconds.

    Attributes:
      join: until all processes have joined, and for each decision of process 0. The
        hosts of a pod may boot half an hour apart.
      peer: without a sign of life of another process, which then counts as dead. A
        host that swaps is often silent for some seconds.
      hang: without progress in a step; see `jaxssl.distributed.watchdog`.
    """

    join: int = 1800
    peer: int = 60
    hang: int = 60


class _State:
    """The settings of this process's connection, global like jax's own connection.

    Attributes:
      join_seconds, peer_seconds: see `Limits`.
      handler: the handler of SIGABRT; C calls it, so it must not be collected.
      abort_hint: the probable reason if jax aborts now; begins with a semicolon.
      leaving: the exit code, once this process leaves.
    """

    join_seconds = Limits().join
    peer_seconds = Limits().peer
    handler: Any = None
    abort_hint = ""
    leaving: int | None = None


_state = _State()
_numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)


def join(
    address: addresses.ProcessAddress,
    join_seconds: int = Limits().join,
    peer_seconds: int = Limits().peer,
) -> None:
    """Connect to the other processes; must be called before jax looks for devices.

    If the others do not come in time, jax ends the process, with exit code 3.

    Args:
      address: which process this is, and where process 0 listens.
      join_seconds: how long to wait for all processes, and later for process 0.
      peer_seconds: how long another process may be silent.

    Raises:
      UserError: no cluster was found, or the coordinator's port is taken.
    """
    # `jaxssl.distributed.preemption` replaces jax's preemption service. Orbax asks that
    # service, too, from another thread and for an older step. This moves back the
    # counter that the processes compare, and so a notice can get lost.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _end_on_abort()
    _state.join_seconds, _state.peer_seconds = join_seconds, peer_seconds
    _state.abort_hint = (
        f"; not all were there within {join_seconds} s. Start all of them, with the "
        "same --coordinator and --num_processes, and each with its own --process_id."
    )
    addresses.check_port(address)
    addresses.claim(address, LEAVE_SECONDS)
    # jax waits in C++, where Python's handler of Ctrl-C runs only after the wait.
    handler = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            *address,
            cluster_detection_method="deactivate" if address.coordinator else None,
            coordinator_bind_address=addresses.choose_bind_address(address),
            initialization_timeout=join_seconds,
            heartbeat_timeout_seconds=peer_seconds,
            shutdown_timeout_seconds=LEAVE_SECONDS,
        )
    except ValueError as error:
        raise errors.UserError(
            f"--distributed: jax found no cluster here ({error}) Give --coordinator, "
            "--num_processes and --process_id."
        ) from error
    except jax.errors.JaxRuntimeError as error:
        raise addresses.cannot_listen(address, first_line(error)) from error
    finally:
        signal.signal(signal.SIGINT, handler)
    _state.abort_hint = f"; most often another process is lost. {AGAIN}"


def _end_on_abort() -> None:
    """Let an abort by jax's client end this process with one line and exit code 3.

    The client aborts from its own thread when the service or another process is lost.
    Python has no time to handle this, and the callback that the client accepts fails
    on its argument. So a handler of SIGABRT is installed in C.
    """

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def handle(_: int) -> None:
        if _state.leaving is not None:  # The reason was printed before.
            os._exit(_state.leaving)
        end(
            errors.ExitCode.PEER_LOST,
            f"jax gave up, as it says above{_state.abort_hint}",
        )

    _state.handler = handle
    ctypes.CDLL(None).signal(signal.SIGABRT, handle)


def end(code: int, line: str) -> None:
    """End this process at once, without any clean-up, which may wait for the others.

    Another thread may hold the locks of ``sys.stderr``. The processes that read data
    are killed first, because a stopped or stuck one would outlive this process.
    """
    for child in multiprocessing.active_children():
        child.kill()
    with contextlib.suppress(OSError):  # Nobody may read it any more.
        os.write(2, f"jaxssl: {printable(' '.join(line.split()))}\n".encode())
    os._exit(code)


def leave(code: int) -> None:
    """End this process together with the others; return if it has joined none.

    Process 0 runs the service and ends last. None waits longer than `LEAVE_SECONDS`.
    """
    if not is_joined():
        return
    _state.leaving = code
    sys.stdout.flush()
    sys.stderr.flush()
    if code != errors.ExitCode.PEER_LOST:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            _client().wait_at_barrier("jaxssl/leave", LEAVE_SECONDS * 1000)
        if distributed.global_state.process_id == 0:
            time.sleep(TICK)
    os._exit(code)


def is_joined() -> bool:
    """Return whether this process has joined others."""
    return _client() is not None


def count() -> int:
    """Return the number of processes; initialises no device if there is only one."""
    return jax.process_count() if is_joined() else 1


def is_first() -> bool:
    """Return whether this is process 0, which writes the files of a run."""
    return count() == 1 or jax.process_index() == 0


def peer_seconds() -> int:
    """Return how many seconds another process, or the service, may be silent."""
    return _state.peer_seconds


def new_key(what: str) -> str:
    """Return a key that was not used before; all processes count in the same way."""
    return f"jaxssl/{what}/{next(_numbers[what])}"


@contextlib.contextmanager
def _lost(message: str = "") -> Iterator[None]:
    """Turn an error of the coordination service in the block into one line.

    Raises:
      PeerLostError: begins with ``message``; jax's own words follow.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        raise errors.PeerLostError(message + first_line(error)) from error


def put(key: str, value: Any) -> None:
    """Publish a JSON value for all processes; a later value replaces it."""
    with _lost():
        _client().key_value_set(key, json.dumps(value), allow_overwrite=True)


def peek(key: str) -> Any:
    """Return the value that was published under a key, or None."""
    with _lost():
        try:
            return json.loads(_client().key_value_try_get(key))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
    return None


def get(key: str, seconds: float, whose: int = 0) -> Any:
    """Wait for the value that a process publishes, and return it.

    Args:
      key: where the value is published.
      seconds: how long to wait.
      whose: index of the process, for the message.

    Raises:
      PeerLostError: the value did not come in time.
    """
    with _lost(f"process {whose} has said nothing for {seconds:g} s ({key}): "):
        return json.loads(_client().blocking_key_value_get(key, int(seconds * 1000)))


def read_all(prefix: str) -> dict[str, Any]:
    """Return the values of all keys with this prefix; empty if the service is gone."""
    try:
        pairs = _client().key_value_dir_get(prefix)
    except jax.errors.JaxRuntimeError:
        return {}
    return {key: json.loads(value) for key, value in pairs}


def decide(what: str, choose: Callable[[], Any]) -> Any:
    """Call a function on process 0, and send its result or its error to all others.

    Args:
      what: name of the decision, for messages.
      choose: is called on process 0 alone; returns a JSON value.

    Returns:
      The result of ``choose``, on every process.

    Raises:
      UserError: ``choose`` raised it, or another one of `SHARED_ERRORS`.
      PeerLostError: process 0 published nothing within ``join_seconds``.
    """
    if count() == 1:
        return choose()
    key = new_key(what)
    if not is_first():
        answer = get(key, _state.join_seconds)
        if "error" in answer:
            raise SHARED_ERRORS[answer["error"]](answer["message"])
        return answer["value"]
    try:
        value = choose()
    except tuple(SHARED_ERRORS.values()) as error:
        kind = next(k for k, cls in SHARED_ERRORS.items() if isinstance(error, cls))
        put(key, {"error": kind, "message": str(error)})
        raise
    put(key, {"value": value})
    return value


def gather(what: str, value: Any, choose: Callable[[list[Any]], Any]) -> Any:
    """Send a value of each process to process 0, which chooses for all of them.

    Args:
      what: name of the decision, for messages.
      value: the JSON value of this process.
      choose: takes the values of all processes in order; called on process 0 alone.

    Returns:
      The result of ``choose``, on every process.

    Raises:
      UserError: as in `decide`.
      PeerLostError: a process published nothing within ``join_seconds``; names it.
    """
    key = new_key(f"{what}-of")

    def collect() -> Any:
        others = range(1, count())
        values = [get(f"{key}/{i}", _state.join_seconds, whose=i) for i in others]
        return choose([value, *values])

    if not is_first():
        put(f"{key}/{jax.process_index()}", value)
    return decide(what, collect)


def each(what: str, do: Callable[[], Any]) -> Any:
    """Call a function on every process; if it fails on one of them, all raise.

    Args:
      what: name of the action, for messages.
      do: is called on every process.

    Returns:
      The result of ``do`` on this process.

    Raises:
      UserError: ``do`` raised it here; or on another process, which is named.
      PeerLostError: a process published nothing within ``join_seconds``.
    """
    if count() == 1:
        return do()
    result = error = message = None
    try:
        result = do()
    except errors.UserError as own:
        error, message = own, f"process {jax.process_index()}: {own}"
    failed = gather(what, message, lambda messages: next(filter(None, messages), None))
    if error is not None:
        raise error
    if failed is not None:
        raise errors.UserError(failed)
    return result


def meet(what: str, seconds: int) -> None:
    """Wait until all processes have come to this call.

    Args:
      what: name of the call, for messages.
      seconds: how long to wait.

    Raises:
      PeerLostError: a process did not come in time, or is gone.
    """
    if count() == 1:
        return
    with _lost(f"not all processes came to the {what} within {seconds} s: "):
        _client().wait_at_barrier(new_key(what), int(seconds * 1000))


def compare(settings: Mapping[str, Any]) -> None:
    """Raise on every process unless all processes have the same settings.

    Args:
      settings: config, fingerprint of the data and version of the code, by name. What
        each process was told of the number of processes is compared, too.

    Raises:
      DriftError: names the first process that differs from process 0, and in what.
    """

    def check(all_settings: list[Mapping[str, Any]]) -> None:
        first, *others = all_settings
        for i, other in enumerate(others, start=1):
            if differences := [
                f"{name} is {first.get(name, 'absent')!r} on process 0 and "
                f"{other.get(name, 'absent')!r} on process {i}"
                for name in {**first, **other}
                if first.get(name) != other.get(name)
            ]:
                raise errors.DriftError(
                    "the processes are about to train different runs: "
                    f"{shorten(differences)}. Start all with the same command, data "
                    "and version of jaxssl."
                )

    # jax does not compare this number; it uses the one of process 0.
    given = {"--num_processes": distributed.global_state.num_processes}
    gather("compare", given | dict(settings), check)


def _client() -> Any:
    return distributed.global_state.client
