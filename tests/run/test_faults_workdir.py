"""Every file of a finished run is damaged, and every command that reads it is tried."""

import contextlib
import io
import os
import random
import re
import shutil
import signal
from pathlib import Path

import pytest

from jaxssl.checkpoint import listing
from jaxssl.cli import main
from tests.runs import TINY

TRAIN = ("train", f"--config={TINY}", "--config.train.num_steps=4")
TRAIN += ("--config.train.save_every=2", "--config.train.eval_every=4")

# The order in which a user looks: only the last two commands write.
VERBS = (
    ("checkpoint", "list"),
    ("checkpoint", "verify"),
    ("report",),
    ("evaluate", "--norandom_init"),
    TRAIN,
)

# Seconds after which a command counts as hung, by a signal that ends the test.
HUNG = 120


@pytest.fixture(autouse=True)
def _nobody_removes_checkpoints(monkeypatch):
    """Else `checkpoint verify` would wait whether a run removes what is damaged."""
    monkeypatch.setattr(listing, "REMOVAL_SECONDS", 0.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps with its evaluations and its report."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    for verb in (TRAIN, ("evaluate",), ("report",)):
        assert call(*verb, workdir)[0] == 0
    return workdir


def call(*words):
    """Run a command on a folder; return its exit code, its lines and its errors."""
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(HUNG)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*words[:-1], f"--workdir={words[-1]}"])
    signal.alarm(0)
    return code, out.getvalue(), err.getvalue()


def _flip(path, rng):
    data = bytearray(path.read_bytes() or b"\0")
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _cut(path, rng):
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(max(len(data), 1))])


def _put(content):
    def put(path, rng):
        del rng
        path.write_bytes(content)

    return put


def _number(text):
    """Replace one number or word of a JSON text.

    Of the config only the seed and the section ``train`` are replaced: the tiny config
    checks no setting of its own.
    """

    def replace(path, rng):
        data = path.read_bytes()
        begin = max(data.find(b'"seed"'), 0) if path.name == "config.json" else 0
        word = re.compile(rb"(?<=[\s:\[,])(-?\d[\d.e-]*|true|false|null)")
        values = [*word.finditer(data, begin)]
        if not values:
            return path.write_bytes(text)
        start, end = rng.choice(values).span()
        return path.write_bytes(data[:start] + text + data[end:])

    return replace


def _fifo(path, rng):
    del rng
    path.unlink()
    os.mkfifo(path)


def _folder(path, rng):
    del rng
    path.unlink()
    path.mkdir()
    (path / "within").write_text("x")


def _loop(path, rng):
    del rng
    path.unlink()
    path.symlink_to(path.name)


def _endless(path, rng):
    del rng
    path.unlink()
    path.symlink_to("/dev/zero")


# By name: the harm, and whether it can be seen without a checksum.
HARMS = {
    "flip": (_flip, False),
    "cut": (_cut, False),
    "empty": (_put(b""), True),
    "null": (_put(b"null"), True),
    "list": (_put(b"[]\n"), True),
    "nested": (_put(b"[" * 200_000), True),
    "object nested": (_put(b'{"config":' * 200_000), True),
    "infinity": (_number(b"Infinity"), False),
    "nan": (_number(b"NaN"), False),
    "digits": (_number(b"9" * 400), False),
    "more digits": (_number(b"-" + b"9" * 5000), False),
    "null within": (_number(b"null"), False),
    "list within": (_number(b"[[], {}]"), False),
    "text within": (_number(rb'"\u0000\ud800\n\u001b[2J"'), False),
    "zeros": (_put(bytes(3000)), True),
    "fifo": (_fifo, True),
    "folder": (_folder, True),
    "loop": (_loop, True),
    "endless": (_endless, True),
}

# Files whose content nothing reads.
UNREAD = (".lock", "report.html", "tb/")


def _files(workdir):
    paths = sorted(p for p in workdir.rglob("*") if p.is_file())
    return [str(path.relative_to(workdir)) for path in paths]


def _cases(workdir):
    """Return each harm of each file; of a checkpoint one file a kind is enough."""
    kinds = {}
    for name in _files(workdir):
        if not name.startswith("checkpoints/2/"):
            kinds.setdefault(re.sub(r"[0-9a-f]{32}|\d+", "*", name), name)
    names = [*kinds.values(), "checkpoints/saving"]
    return [(name, harm) for name in names for harm in HARMS]


def _bytes_of_checkpoints(workdir, but=""):
    """Return the content of the checkpoints, whatever their folders are called now."""
    return sorted(
        path.read_bytes()
        for path in (workdir / "checkpoints").rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and str(path.relative_to(workdir)) != but
        and path.name != "saving"
    )


def _try(workdir, name, harm, rng):
    """Damage a file, and call all commands; return whether a line named the file."""
    path = workdir / name
    if name == "checkpoints/saving":
        path.write_text("4")
    apply, seen = HARMS[harm]
    kept = _bytes_of_checkpoints(workdir, but=name)
    apply(path, rng)
    texts = []
    for verb in VERBS:
        code, out, err = call(*verb, workdir)
        assert code in (0, 2, 4, 7), (name, harm, verb, err)
        assert err.count("\n") == (code != 0), (name, harm, verb, err)
        assert "\x1b" not in out + err
        texts += [out, err]
    # Steps that were good are there, and a damaged one is only set aside.
    left = _bytes_of_checkpoints(workdir)
    assert all(left.count(data) >= kept.count(data) for data in set(kept)), (name, harm)
    texts.append((workdir / "report.html").read_text())
    if not seen or name.startswith(UNREAD) or name == "checkpoints/saving":
        return True
    return Path(name).name in "".join(texts)


def _try_all(finished, tmp_path, cases, faults):
    rng, silent = random.Random(4), []
    for number, (name, harm) in enumerate(cases):
        workdir = shutil.copytree(finished, tmp_path / str(number))
        if not _try(workdir, name, harm, rng):
            silent.append((name, harm))
        shutil.rmtree(workdir)
    assert not silent
    faults.record("F24", injected=len(cases), survived=len(cases))


def test_damaged_files_are_one_line_each(finished, tmp_path, faults):
    cases = _cases(finished)
    _try_all(finished, tmp_path, random.Random(8).sample(cases, 14), faults)


@pytest.mark.slow
def test_every_damage_of_every_file(finished, tmp_path, faults):
    flips = [case for case in _cases(finished) if case[1] in ("flip", "cut")]
    _try_all(finished, tmp_path, _cases(finished) + 10 * flips, faults)
