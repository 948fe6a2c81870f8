"""The log of each of several processes, and that it hides no error."""

import contextlib
import io

import jax
import pytest

from jaxssl.distributed import coordination
from jaxssl.errors import PreemptedError
from jaxssl.run import process_log


@pytest.fixture(autouse=True)
def _two(monkeypatch):
    monkeypatch.setattr(coordination, "count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 0)


def test_lines_have_the_time_and_the_last_one_the_end(tmp_path):
    shown = io.StringIO()
    with (
        contextlib.suppress(PreemptedError),
        process_log.open_log(tmp_path, shown) as log,
    ):
        log.write("compiling\nstarting\n")
        raise PreemptedError(7, "SIGTERM on process 1")
    lines = (tmp_path / "logs" / "process_0.log").read_text().splitlines()
    assert [line[24:] for line in lines] == [
        "compiling",
        "starting",
        "ended by PreemptedError: SIGTERM on process 1 received: saved step 7. "
        "Repeat the same command to go on from there.",
    ]
    assert shown.getvalue() == "compiling\nstarting\n"


def test_a_disk_that_refuses_the_last_line_hides_no_error(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "process_0.log").symlink_to("/dev/full")
    with pytest.raises(PreemptedError), process_log.open_log(tmp_path, io.StringIO()):
        raise PreemptedError(7, "SIGTERM")
