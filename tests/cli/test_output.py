"""Commands outlive whoever reads their output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli import main, output

TINY = Path(__file__).parent.parent / "train" / "tiny.py"


def test_lines_that_nobody_reads_are_dropped_with_one_word(monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    stream = output.make_stream(writer, "utf-8")
    monkeypatch.setattr(output, "STDOUT", writer)
    for number in range(3):
        print("x" * 10_000, number, file=stream, flush=True)
    stream.close()
    os.close(writer)
    assert capsys.readouterr().err == (
        "jaxssl: nobody reads standard output; the command goes on\n"
    )


def test_what_the_encoding_lacks_is_escaped():
    reader, writer = os.pipe()
    with output.make_stream(writer, "ascii") as stream:
        print("ä", os.fsdecode(b"\xff"), file=stream)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"\\xe4 \\udcff\n"


def test_streams_of_a_test_or_notebook_stay(capsys):
    before = sys.stdout, sys.stderr
    output.keep_open()
    assert (sys.stdout, sys.stderr) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["| head -1", ">&-", "2>&1 | head -1", ">&- 2>&-"])
def test_training_without_a_reader_ends_as_with_one(tmp_path, how):
    words = [sys.executable, "-m", "jaxssl.cli", "train", f"--config={TINY}"]
    words += [f"--workdir={tmp_path / 'run'}", "--config.train.num_steps=8"]
    line = f"{' '.join(words)} {how}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert checkpoints.steps(tmp_path / "run") == [4, 8]


@pytest.mark.parametrize("verb", ["report", "checkpoint list", "checkpoint verify"])
def test_a_name_cannot_make_a_line_of_its_own(tmp_path, capsys, verb):
    name = "run\n\x1b[2Jjaxssl: all is well \udcff"
    (tmp_path / name).mkdir()
    code = main([*verb.split(), f"--workdir={tmp_path / name}"])
    out, err = capsys.readouterr()
    assert code == (2 if verb == "report" else 0)
    assert (out + err).count("\n") == 1
    assert "\x1b" not in out + err
    assert "\udcff" not in out + err
