"""Flags, agreement and error messages of several processes, tried in one process."""

import itertools
import os
import signal
import socket
import threading
import time

import jax
import pytest

from jaxssl import cli, errors
from jaxssl.distributed import coordination, peers, preemption
from jaxssl.errors import DriftError, UserError
from jaxssl.run import workdir as workdirs
from tests.train.processes import TINY

THREE = ("--coordinator=localhost:1", "--num_processes=2", "--process_id=0")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (THREE[:1], "--num_processes and --process_id missing"),
        (THREE[1:], "--coordinator missing"),
        ((*THREE[1:], "--coordinator=here"), "--coordinator is 'here'; give HOST:PORT"),
        ((*THREE[1:], "--coordinator=here:70000"), "a port from 1 to 65535"),
        ((*THREE[:2], "--process_id=2"), "--process_id is 2; allowed: 0 to 1"),
        ((*THREE[::2], "--num_processes=0"), "--num_processes=0: 0 is not an integer"),
        ((*THREE, "--distributed"), "--distributed finds the other processes by"),
        (("--hang_seconds=0",), "hang_seconds"),
        (("--distributed",), "jax found no cluster here"),
        (THREE, "process 0 cannot listen at localhost:1 (UNKNOWN: Failed to start"),
    ],
)
def test_flags_that_make_no_sense(flags, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(coordination, "_end_on_abort", lambda: None)

    def initialize(coordinator, *rest, **settings):
        if coordinator:
            raise jax.errors.JaxRuntimeError("UNKNOWN: Failed to start RPC server")
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    arguments = ["train", f"--config={TINY}", f"--workdir={tmp_path / 'run'}", *flags]
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_port_of_another_program_is_named(tmp_path, capsys):
    """With a port that is taken, jax 0.10 ends with a segmentation fault."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"127.0.0.1:{server.getsockname()[1]}"
        flags = ["--num_processes=2", "--process_id=0", f"--coordinator={coordinator}"]
        run = ["train", f"--config={TINY}", f"--workdir={tmp_path / 'run'}"]
        assert cli.main([*run, *flags]) == 2
    out, err = capsys.readouterr()
    assert (
        f"cannot listen at {coordinator} (Address already in use); give another" in err
    )
    assert f"process 0 of 2: waiting for the others at {coordinator}, 1800 s at" in out


class Board:
    """A dict instead of jax's service, for processes that take turns."""

    def __init__(self, monkeypatch, size):
        self.values, self.index, self.size = {}, 0, size
        monkeypatch.setattr(coordination, "count", lambda: size)
        monkeypatch.setattr(coordination, "is_first", lambda: self.index == 0)
        monkeypatch.setattr(jax, "process_index", lambda: self.index)
        monkeypatch.setattr(coordination, "put", self.values.__setitem__)
        monkeypatch.setattr(coordination, "get", lambda key, *_, **__: self.values[key])
        self.numbers = [{} for _ in range(size)]
        monkeypatch.setattr(coordination, "new_key", self.new_key)

    def new_key(self, what):
        number = self.numbers[self.index].setdefault(what, itertools.count())
        return f"{what}/{next(number)}"

    def each(self, do):
        """Call ``do`` for each process; process 0 comes last and hears all others."""
        results = {}
        for index in [*range(1, self.size), 0]:
            self.index = index
            try:
                results[index] = do(index)
            except KeyError:  # What process 0 has yet to say.
                self.numbers[index] = {}
        for index in range(1, self.size):
            self.index = index
            results[index] = do(index)
        return [results[index] for index in range(self.size)]


def test_all_hear_what_process_0_decides(monkeypatch):
    board, calls = Board(monkeypatch, 3), []

    def choose():
        calls.append(board.index)
        return [4, ["a"]]

    assert board.each(lambda _: coordination.decide("x", choose)) == [[4, ["a"]]] * 3
    assert calls == [0]


@pytest.mark.parametrize("kind", coordination.SHARED_ERRORS.values())
def test_all_raise_what_process_0_raises(monkeypatch, kind):
    board = Board(monkeypatch, 2)

    def choose():
        raise kind("the folder is taken")

    def ask(_):
        with pytest.raises(kind, match=r"^the folder is taken$") as caught:
            coordination.decide("x", choose)
        return type(caught.value)

    assert board.each(ask) == [kind, kind]


def test_all_hear_the_choice_from_what_each_says(monkeypatch):
    board = Board(monkeypatch, 4)
    results = board.each(
        lambda i: coordination.gather("x", 10 * i, lambda values: [max(values), values])
    )
    assert results == [[30, [0, 10, 20, 30]]] * 4


def test_none_goes_on_where_one_cannot(monkeypatch):
    board = Board(monkeypatch, 3)

    def ask(index):
        def do():
            if index == 1:
                raise DriftError("there is no data here")
            return index

        with pytest.raises(UserError) as caught:
            coordination.each("x", do)
        return type(caught.value), str(caught.value)

    expected = (UserError, "process 1: there is no data here")
    assert board.each(ask) == [
        expected,
        (DriftError, "there is no data here"),
        expected,
    ]
    results = Board(monkeypatch, 3).each(lambda i: coordination.each("x", lambda: [i]))
    assert results == [[0], [1], [2]]


def test_settings_that_differ_are_named_with_the_process(monkeypatch):
    board = Board(monkeypatch, 3)

    def ask(index):
        settings = {"seed": 1, "data": "abc" if index < 2 else "abd", "jax": "0.10.2"}
        if index == 2:
            settings["more"] = 5
        with pytest.raises(DriftError) as caught:
            coordination.compare(settings)
        return str(caught.value)

    for message in board.each(ask):
        assert "data is 'abc' on process 0 and 'abd' on process 2" in message
        assert "more is 'absent' on process 0 and 5 on process 2" in message
        assert "seed" not in message


def test_one_process_asks_nobody(tmp_path):
    assert coordination.decide("x", lambda: 3) == 3
    assert coordination.is_first()
    coordination.leave(3)
    workdirs.check_all(tmp_path, None, workdirs.Known(False, "abc"))
    with pytest.raises(UserError, match=r"^no$"), peers.guard():
        raise UserError("no")
    with pytest.raises(ValueError, match="Gloo"), peers.guard():
        raise ValueError("UNKNOWN: Gloo all-reduce failed")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (ValueError, "UNKNOWN: Gloo all-reduce failed: pair.cc:547 Connection closed"),
        (ValueError, "UNAVAILABLE: tasks are unhealthy (stopped sending heartbeats)"),
        (jax.errors.JaxRuntimeError, "DEADLINE_EXCEEDED: Barrier timed out"),
        (ValueError, "INTERNAL: NCCL operation ncclGroupEnd() failed: system error"),
        (ValueError, "ABORTED: connection reset"),
        # From the thread of Orbax that ends a save.
        (TimeoutError, "Timed out while waiting for async_write_complete barrier."),
        (TimeoutError, "Timed out while waiting for async_commit_complete barrier."),
    ],
)
def test_words_of_jax_that_mean_a_lost_process(monkeypatch, kind, message):
    notes = {
        "jaxssl/note/0": {"step": 12, "doing": "waiting for the devices", "tick": 3},
        "jaxssl/note/1": {"step": 11, "doing": "reading", "tick": 5},
        "jaxssl/note/2": {"step": 9, "doing": "reading", "tick": 5},
    }
    later = {**notes, "jaxssl/note/0": {**notes["jaxssl/note/0"], "tick": 5}}
    answers = iter([notes, later, {"jaxssl/left/2": "UserError: too many bad records"}])
    monkeypatch.setattr(coordination, "count", lambda: 3)
    monkeypatch.setattr(coordination, "TICK", 0.01)
    monkeypatch.setattr(coordination, "read_all", lambda prefix: next(answers))
    with pytest.raises(errors.PeerLostError) as caught, peers.guard():
        raise kind(f"{message}\nmore of it")
    text = str(caught.value)
    assert message in text
    assert "process 0" not in text
    assert "process 1 fell silent at step 11, reading" in text
    assert text.count("process 2") == 1
    assert "process 2 left: UserError: too many bad records" in text
    assert "more of it" not in text


@pytest.mark.parametrize(
    "error",
    [
        UserError("the folder gloo is not empty"),
        ValueError("RESOURCE_EXHAUSTED: Out of memory"),
        RuntimeError("barrier"),
        OSError(28, "No space left on device"),
        TimeoutError(110, "Connection reset"),
        TimeoutError("Timed out after 7201 seconds."),
        # What TensorStore says if a network disk is gone or a disk is full.
        ValueError("ABORTED: Stale file handle [os_error_code='116']"),
        ValueError("RESOURCE_EXHAUSTED: writing /gloo/1 [os_error_code='28']"),
    ],
)
def test_other_errors_stay_and_are_told_to_the_others(monkeypatch, error):
    published = {}
    monkeypatch.setattr(coordination, "count", lambda: 2)
    monkeypatch.setattr(coordination, "put", published.__setitem__)
    with pytest.raises(type(error)) as caught, peers.guard():
        raise error
    assert caught.value is error
    assert published["jaxssl/left/0"] == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    ("later", "seconds", "code"),
    [
        (signal.SIGTERM, 0.01, None),
        (signal.SIGTERM, 4.9, None),
        (signal.SIGTERM, 5.1, 128 + 15),
        (signal.SIGINT, 0.01, None),
        (signal.SIGINT, 0.6, 128 + 2),
    ],
)
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_notice_may_come_twice(monkeypatch, first, later, seconds, code):
    codes, now = [], [7.0]
    monkeypatch.setattr(os, "_exit", codes.append)
    with preemption.watch() as received:
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        assert received() is None
        signal.raise_signal(first)
        now[0] += seconds
        signal.raise_signal(later)
        assert received() == first.name
    assert codes == ([] if code is None else [code])


@pytest.fixture
def stumbling(monkeypatch):
    """A service that fails until the event is cleared."""
    silent = threading.Event()
    silent.set()

    def peek(key):
        if silent.is_set():
            raise errors.PeerLostError("UNAVAILABLE: connection reset")
        return "SIGTERM on process 1"

    monkeypatch.setattr(coordination, "count", lambda: 2)
    monkeypatch.setattr(coordination, "peek", peek)
    monkeypatch.setattr(coordination, "gather", lambda what, value, choose: value)
    monkeypatch.setattr(preemption, "POLL_SECONDS", 0.01)
    return silent


def test_a_question_that_fails_is_asked_again(monkeypatch, stumbling):
    monkeypatch.setattr(coordination, "peer_seconds", lambda: 60)
    with preemption.watch() as received:
        for _ in range(20):
            time.sleep(0.01)
            assert received() is None
        stumbling.clear()
        deadline = time.monotonic() + 30
        while not (reason := received()) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert reason == "SIGTERM on process 1"


def test_a_service_that_stays_silent_is_lost(monkeypatch, stumbling):
    monkeypatch.setattr(coordination, "peer_seconds", lambda: 0.2)
    began = time.monotonic()

    def ask():
        while time.monotonic() < began + 30:
            received()
            time.sleep(0.01)

    with preemption.watch() as received:
        with pytest.raises(errors.PeerLostError, match="UNAVAILABLE"):
            ask()
    assert time.monotonic() - began > 0.2


def test_all_stop_at_the_question_after_the_furthest(monkeypatch):
    vote = preemption._Vote()
    monkeypatch.setattr(
        coordination, "gather", lambda what, value, choose: choose([value, 5, 4])
    )
    assert [vote.ask() for _ in range(3)] == [None, None, None]
    vote.settle("SIGTERM on process 1")
    assert [vote.ask() for _ in range(4)] == [
        *(None, None, "SIGTERM on process 1", None)
    ]
