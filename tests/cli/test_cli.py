"""The command line: what it does, and what it says to a mistake."""

import errno
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxssl.checkpoint import store as checkpoints
from jaxssl.cli import VERBS, evaluate, main
from jaxssl.errors import ExitCode, UserError
from jaxssl.evals.checked import CheckedEval
from jaxssl.run import config_file
from jaxssl.train import process_settings

TINY = Path(__file__).parent.parent / "train" / "tiny.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of four steps, with checkpoints of steps 2 and 4."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    words = ["--config.train.num_steps=4", "--config.train.save_every=2"]
    assert main(["train", f"--config={TINY}", f"--workdir={workdir}", *words]) == 0
    return workdir


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, with some files that are no configs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(TINY, "tiny.py")
    source = TINY.read_text()
    files = {
        "notes.txt": "",
        "syntax.py": "def get_config(:\n",
        "imports.py": "import no_such_module\n",
        "no_config.py": "def build(config): pass\n",
        "no_build.py": "def get_config(): pass\n",
        "dict.py": "def get_config(): return {}\ndef build(config): pass\n",
        "no_variant.py": "def get_config(): pass\ndef build(config): pass\n",
        "no_train.py": source.replace("config.train =", "train ="),
        "dead_key.py": source.replace('"save_every"', '"safe_every"'),
        "no_steps.py": source.replace('"num_steps": 20,', ""),
        "bucket.py": source.replace(
            "config.eval =",
            'config.init_from = ConfigDict({"net": "gs://b/run"})\n    config.eval =',
        ),
        "wrong_build.py": source.replace("return Experiment(", "return dict("),
        "exit.py": f"{source}\nimport sys\nsys.exit(7)\n",
        "exit_later.py": source.replace(
            "    kind = Stalling", "    raise SystemExit(7)\n    kind = Stalling"
        ),
        "name_error.py": f"{source}\nlearning_rate\n",
        "no_key.py": source.replace("config.data.count", "config.data.counts"),
        "slip.py": source.replace(
            "return config.lock()",
            "config.evall = {'first': 1}\n    return config.lock()",
        ),
        "huge.py": source.replace("(0, 1, 2)", "(0, 1, 10**4000)"),
    }
    for name, text in files.items():
        Path(name).write_text(text)
    Path("full").mkdir()
    Path("full/thesis.tex").write_text("do not overwrite")
    return tmp_path


def _tree(root):
    return {
        path.relative_to(root): path.read_bytes() if path.is_file() else None
        for path in root.rglob("*")
        if "__pycache__" not in path.parts and path.name != ".lock"
    }


TRAIN = "train --config=tiny.py --workdir=run"

MISTAKES = {
    "trian": ["'trian'", "Did you mean 'train'?"],
    "train --workdir=run": ["--config is missing", "--config=configs/NAME.py"],
    "train --config=tiny.py": ["--workdir is missing"],
    "train --config": ["Missing value", "config"],
    "train --config=tiny.py --wokdir=run": ["--wokdir is not a flag", "'workdir'"],
    "train --config=tiny.py --workdir=run more": ["'more' is not a flag"],
    "train --config=tiny2.py --workdir=run": ["no file tiny2.py", "'tiny.py'"],
    "train --config=notes.txt --workdir=run": ["notes.txt is not a Python file"],
    "train --config=syntax.py --workdir=run": ["syntax.py cannot be loaded"],
    "train --config=imports.py --workdir=run": ["No module named 'no_such_module'"],
    "train --config=no_config.py --workdir=run": ["has no get_config()"],
    "train --config=no_build.py --workdir=run": ["has no build()"],
    "train --config=dict.py --workdir=run": ["returned dict", "ConfigDict"],
    "train --config=no_variant.py:wide --workdir=run": ["no variants", "'wide'"],
    "train --config=no_train.py --workdir=run": ["train.num_steps is missing"],
    "train --config=dead_key.py --workdir=run": ["train.safe_every", "'save_every'"],
    "train --config=no_steps.py --workdir=run": ["train.num_steps is missing"],
    "train --config=wrong_build.py --workdir=run": ["returned dict", "Experiment"],
    f"{TRAIN} --config.trian.num_steps=3": ["config.trian.num_steps", "'train'"],
    f"{TRAIN} --config.train.num_step=3": ["has: batch_size", "'num_steps'"],
    f"{TRAIN} --config.train.num_steps=abc": ["num_steps is 'abc'; it must be int"],
    f"{TRAIN} --config.train.num_steps abc": ["num_steps is 'abc'; it must be int"],
    f"{TRAIN} --config.train.num_steps=4.5": ["num_steps is '4.5'; it must be int"],
    f"{TRAIN} --config.train.num_steps": ["config.train.num_steps has no value"],
    f"{TRAIN} --config.optim.learning_rate=fast": ["'fast'; it must be float"],
    f"{TRAIN} --config.train=3": [
        "config.train is a section",
        "config.train.num_steps",
    ],
    f"{TRAIN} --config.seed.low=3": ["config.seed is a value"],
    f"{TRAIN} --config.seed=-1": ["config.seed is -1"],
    f"{TRAIN} --config.train.num_steps=0": ["train.num_steps is 0"],
    f"{TRAIN} --config.train.keep_checkpoints=1": ["train.keep_checkpoints is 1"],
    f"{TRAIN} --config.train.batch_size=100": ["100", "24"],
    f"{TRAIN} --config.mesh.data=3": ["train.batch_size is 8", "multiple of 3"],
    f"{TRAIN} --config.mesh.data=99": ["mesh.data is 99", "devices"],
    f"{TRAIN} --config.mesh.model=0": ["mesh.model is 0"],
    f"{TRAIN} --config.mesh.model=99": ["99", "8 cpu devices"],
    f"{TRAIN} --config.mesh.params=zero": ["params is 'zero'", "replicated, fsdp"],
    f"{TRAIN} --config.train.log_every=0": ["train.log_every is 0"],
    f"{TRAIN} --config.train.eval_every=0": ["train.eval_every is 0"],
    f"{TRAIN} --config.train.save_every=-5": ["train.save_every is -5"],
    f"{TRAIN} --config.train.num_workers=-1": ["train.num_workers is -1"],
    f"{TRAIN} --config.mesh.data=0": ["mesh.data is 0"],
    f"{TRAIN} --config.data.labels=(1,2)": ["data.labels is (1, 2)", "count from 0"],
    "train --config=tiny.py --workdir=gs://b/run": [
        "--workdir is 'gs://b/run'",
        "Mount",
    ],
    "train --config=bucket.py --workdir=run": ["config.init_from.net is 'gs://b/run'"],
    "aot --config=tiny.py --topology=v5e:2x2 --json=s3://b/x": ["--json is 's3://b/x'"],
    "data list --data_dir=gs://b/data": ["--data_dir is 'gs://b/data'", "Mount"],
    "train --config=tiny.py --workdir=notes.txt": ["notes.txt is a file"],
    "verify resume --config=tiny.py --workdir=notes.txt": ["notes.txt is a file"],
    "checkpoint list --workdir=notes.txt": ["notes.txt is a file; give a folder"],
    f"train --config=tiny.py --workdir={300 * 'a'}": [
        "--workdir: aaa",
        "name too long",
    ],
    "aot --config=tiny.py --topology=v5e:2x2 --json=full": ["full is a folder"],
    "train --config=full --workdir=run": ["--config: full is a folder; give a file"],
    "train --config=tiny.py --workdir=full": ["full is not empty", "config.json"],
    "train --config=tiny.py --workdir=/proc/run": ["cannot write to /proc/run"],
    "train --config=exit.py --workdir=run": ["exit.py ends the process", "exit(7)"],
    "train --config=exit_later.py --workdir=run": ["ends the process with sys.exit("],
    "train --config=name_error.py --workdir=run": ["line 2", "NameError: name 'learn"],
    "train --config=no_key.py --workdir=run": ["no_key.py, line ", 'mean "count"'],
    "train --config=slip.py --workdir=run": ["config.evall is read", "'eval'"],
    "train --config=huge.py --workdir=run": [
        "config.data.labels[2] is 1000",
        "64 bits",
    ],
    "train --config=a:b/my.py --workdir=run": ["there is no file a:b/my.py"],
    "train --config=/dev/zero --workdir=run": ["there is no file /dev/zero"],
    f"{TRAIN} --config.model.noise=nan": ["config.model.noise is nan"],
    f"{TRAIN} --config.train.num_workers={10**23}": ["config.train.num_workers"],
    f"{TRAIN} --config.train.num_workers=100000": ["num_workers is 100000", "1024"],
    f"{TRAIN} --config.train.batch_size=100000000": ["100000000", "24"],
    f"{TRAIN} --config.mesh.data=100000000": ["mesh.data is 100000000", "8 cpu"],
    f"{TRAIN} --hang_seconds={10**23}": ["hang_seconds", "range [1, "],
    f"{TRAIN} --join_seconds=0": ["join_seconds"],
    "verify devices --config=tiny.py --devices=100000000": ["ask for 100000000"],
    f"verify devices --config=tiny.py --devices={'9' * 5000}": ["give numbers"],
    "verify devices --config=tiny.py --kills=3": ["--kills is for verify resume"],
    "verify resume --config=tiny.py --devices=2": ["--devices is for verify devices"],
    f"verify resume --config=tiny.py --seed={10**23}": ["seed"],
    "data list --config.data.count=3": ["changes a config; give --config=FILE"],
    "data doctor folder --config.data.load_size=3": ["changes a config"],
    "data list --config=tiny.py": ["--config is for data doctor"],
    "data prepare tfds:stl10 --split=test": ["--split is for data doctor"],
    "data doctor --config=tiny.py --split=test": ["--split is for doctor NAME"],
    f"aot --config=tiny.py --topology=v5e:2x2 --mesh=data={'9' * 5000}": [
        "--mesh: data"
    ],
    f"aot --config=tiny.py --topology=v5e:2x{'9' * 5000}": ["write it as one of"],
    f"aot --config=tiny.py --topology=v5e:2x2 --slices={10**23}": ["slices"],
    "evaluate": ["--workdir is missing"],
    "evaluate --workdir=none": ["none holds no run", "jaxssl train"],
    "report --workdir=none": ["none"],
    "report --workdir=full --baselines=other": ["'other'", "NAME=WORKDIR"],
    "data": ["allowed: list, prepare, doctor"],
    "data doctor": ["needs one name"],
    "data doctor no_such_set": ["no_such_set"],
    "data prepare no_such_set": ["no_such_set"],
    "checkpoint": ["allowed: list, verify"],
    "checkpoint list --workdir=none": ["no folder none"],
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(folder, capsys, line, faults):
    before = _tree(folder)
    code = main(line.split())
    out, err = capsys.readouterr()
    assert code == 2
    assert err.startswith("jaxssl: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    for word in MISTAKES[line]:
        assert word in err
    assert out == ""
    assert _tree(folder) == before
    faults.record("F6", injected=1, survived=1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("evaluate --workdir={run} --evals=shade", "'shades'"),
        ("evaluate --workdir={run} --config={tiny}.py", "no file"),
        ("evaluate --workdir={run} extra", "'extra' is not expected"),
        ("evaluate --workdir={run} --config.seed=1", "evaluate takes --config.eval"),
        ("evaluate --workdir={run} --config.eval.frist=1", "Did you mean 'first'"),
    ],
)
def test_a_mistake_changes_no_run(copy, capsys, words, line, faults):
    before = _tree(copy)
    assert main(words.format(tiny=TINY, run=copy).split()) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert _tree(copy) == before
    faults.record("F6", injected=1, survived=1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--config={tiny}", "num_steps was 4, now 20"),
        ("--config={tiny}:wide", "model.width was 8, now 16"),
        ("--config={tiny} --config.data.count=32", "data.count was 24, now 32"),
    ],
)
def test_another_config_is_exit_code_7(copy, capsys, words, line, faults):
    before = _tree(copy)
    assert main(["train", *words.format(tiny=TINY).split(), f"--workdir={copy}"]) == 7
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert _tree(copy) == before
    faults.record("F7", injected=1, survived=1)


def test_other_settings_may_follow_a_start_that_saved_nothing(copy, capsys):
    shutil.rmtree(copy / "checkpoints")
    flags = [f"--config={TINY}:wide", "--hang_seconds=77", "--nodistributed"]
    flags += ["--traceback", f"--workdir={copy}"]
    words = ["train", *flags, "--config.train.num_steps=3"]
    assert main(words) == 0
    assert json.loads((copy / "run.json").read_text())["command"] == [
        "jaxssl",
        "train",
        *sorted(flags, key=lambda word: word.removeprefix("--").removeprefix("no")),
        "--config.train.num_steps=3",
    ]
    out = capsys.readouterr().out
    assert "changed since the last start: model.width was 8, now 16\n" in out
    assert checkpoints.steps(copy) == [3]


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_a_checkpoint_of_another_architecture(copy, capsys, verb):
    path = copy / "config.json"
    path.write_text(path.read_text().replace('"width": 8', '"width": 5'))
    before = _tree(copy)
    words = [f"--config={TINY}", "--config.train.num_steps=4"]
    words += ["--config.train.save_every=2", "--config.model.width=5"]
    assert main([verb, f"--workdir={copy}", *(words if verb == "train" else [])]) == 7
    err = capsys.readouterr().err
    assert "another architecture" in err
    assert "dense/kernel is float32[48, 8] there" in err
    assert "float32[48, 5]" in err
    assert err.count("\n") == 1
    assert _tree(copy) == before


@pytest.mark.parametrize("verb", ["train", "evaluate", "verify"])
def test_no_checkpoint_to_trust_is_exit_code_4(copy, capsys, verb):
    for path in (copy / "checkpoints").rglob("_METADATA"):
        path.write_bytes(path.read_bytes()[:-1])
    before = _tree(copy)
    words = {
        "train": ["train", f"--config={TINY}", "--config.train.num_steps=4"],
        "evaluate": ["evaluate"],
        "verify": ["checkpoint", "verify"],
    }[verb]
    words += ["--config.train.save_every=2"] if verb == "train" else []
    assert main([*words, f"--workdir={copy}"]) == 4
    out, err = capsys.readouterr()
    assert "_METADATA has changed" in out + err
    assert err.count("\n") == 1
    assert _tree(copy) == before


def test_a_loss_that_is_no_number_is_exit_code_6(tmp_path, capsys):
    words = ["--config.model.nan_at=5", "--config.train.num_steps=8"]
    assert main(["train", f"--config={TINY}", f"--workdir={tmp_path}", *words]) == 6
    err = capsys.readouterr().err
    assert err.startswith("jaxssl: steps 6 to 8 made no update; not finite: loss/")
    assert "Step 4 is kept" in err
    assert err.count("\n") == 1
    assert checkpoints.steps(tmp_path) == [4]


def test_an_interrupted_command_is_exit_code_130(monkeypatch, capsys):
    def interrupt(values, rest):
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, "data", VERBS["data"]._replace(run=interrupt))
    assert main(["data", "list"]) == 130
    assert capsys.readouterr().err == "jaxssl: interrupted\n"


def test_results_that_cannot_be_written_are_exit_code_74(copy, monkeypatch, capsys):
    def refuse(old, new):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(new))

    monkeypatch.setattr(os, "replace", refuse)
    assert main(["evaluate", f"--workdir={copy}", "--norandom_init"]) == 74
    err = capsys.readouterr().err
    assert err.startswith(f"jaxssl: the disk refused {copy}/")
    assert "No space left on device. Step 4 is kept; make room" in err
    assert err.count("\n") == 1


def test_evaluate_writes_both_states(copy, capsys):
    assert main(["evaluate", f"--workdir={copy}"]) == 0
    out = capsys.readouterr().out
    assert f"jaxssl report --workdir={copy}" in out
    for name, step in (("evals", 4), ("evals/random_init", 0)):
        body = json.loads((copy / name / "shades.json").read_text())
        assert body["step"] == step
        assert 0 <= body["metrics"]["accuracy"]["value"] <= 1
        assert body["seconds"] >= 0
        with np.load(copy / name / "shades.npz", allow_pickle=False) as arrays:
            accuracy = (arrays["logits"].argmax(-1) == np.arange(24) % 3).mean()
        assert body["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
    assert main(["report", f"--workdir={copy}"]) == 0
    assert (copy / "report.html").stat().st_size > 0


def test_training_and_the_untrained_state_follow_the_order_of_the_experiment(folder):
    order = """

def order(step):
    with open("steps", "a") as file:
        print(step, file=file)
    return np.arange(8) + 8 * (step % 3)
"""
    text = TINY.read_text().replace("init_from={},", "init_from={}, order=order,")
    Path("ordered.py").write_text(text + order)

    def asked(line):
        Path("steps").write_text("")
        assert main(line.split()) == 0
        return {int(step) for step in Path("steps").read_text().split()}

    steps = asked("train --config=ordered.py --workdir=run --config.train.num_steps=5")
    assert {0, 1, 2, 3, 4} <= steps
    assert max(steps) < 20  # Those read ahead are few.
    assert set(range(80)) <= asked("evaluate --workdir=run")
    assert asked("evaluate --workdir=run --norandom_init") == set()  # No batch at all.


def test_evaluate_takes_other_settings_of_evaluations_and_says_so(copy):
    word = "--config.eval.first=20"
    assert main(["evaluate", f"--workdir={copy}", "--norandom_init", word]) == 0
    body = json.loads((copy / "evals" / "shades.json").read_text())
    assert body["changed"] == [word]
    with np.load(copy / "evals" / "shades.npz", allow_pickle=False) as arrays:
        hits = arrays["logits"].argmax(-1) == np.arange(24) % 3
    assert body["metrics"]["accuracy"]["value"] == pytest.approx(hits[20:].mean())
    config = json.loads((copy / "config.json").read_text())["config"]
    assert config["eval"]["first"] == 0


def test_evaluate_takes_settings_that_are_newer_than_the_run(tmp_path):
    """Version 0.1 knew no ``eval.retrieval.database``."""
    root = Path(__file__).parents[2]
    stored = root / "tests" / "golden" / "config_0_1_demo.json"
    shutil.copy(stored, tmp_path / "config.json")
    moved = str(root / json.loads(stored.read_text())["config_file"])
    asked = ["--config.eval.retrieval.database=train"]
    config = evaluate._choose(tmp_path, moved, asked).config
    assert config.eval.retrieval.database == "train"
    assert config.eval.retrieval.num_queries == 8
    with pytest.raises(UserError, match=r"eval\.retrieval\.data is not a setting"):
        evaluate._choose(tmp_path, moved, ["--config.eval.retrieval.data=train"])


def test_evaluate_can_leave_the_untrained_state_out(copy, capsys):
    moved = Path(shutil.copy(TINY, copy.parent / "tiny.py"))
    words = ["--evals=shades", "--norandom_init", f"--config={moved}"]
    assert main(["evaluate", f"--workdir={copy}", *words]) == 0
    assert sorted(path.name for path in (copy / "evals").iterdir()) == [
        "shades.json",
        "shades.npz",
    ]


def test_checkpoint_verbs(copy, capsys):
    assert main(["checkpoint", "list", f"--workdir={copy}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["step", "2", "4"]
    assert main(["checkpoint", "verify", f"--workdir={copy}"]) == 0
    assert capsys.readouterr().out.split() == ["2", "good", "4", "good"]


def test_one_damaged_checkpoint_is_exit_code_4_and_training_goes_on(copy, capsys):
    path = next((copy / "checkpoints" / "4").rglob("_METADATA"))
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["checkpoint", "verify", f"--workdir={copy}"]) == 4
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == ["2", "good"]
    assert out[1].split()[:2] == ["4", "DAMAGED:"]
    words = ["--config.train.num_steps=4", "--config.train.save_every=2"]
    assert main(["train", f"--config={TINY}", f"--workdir={copy}", *words]) == 0
    assert "CHECKPOINT 4 IS DAMAGED" in capsys.readouterr().out
    assert main(["checkpoint", "verify", f"--workdir={copy}"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in out] == ["good", "good", "4.corrupt"]


def test_the_table_of_exit_codes_is_that_of_the_code():
    page = Path(__file__).parent.parent.parent / "docs" / "exit_codes.md"
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", page.read_text(), re.M)
    assert [(int(code), name) for code, name in rows] == [
        (code.value, code.name) for code in ExitCode
    ]


FUTURE = """from __future__ import annotations

import dataclasses
from jaxssl.config import fields, section


@dataclasses.dataclass(frozen=True, kw_only=True)
class Own:
    width: int = fields.number(8, at_least=1, at_most=64)

    __post_init__ = fields.validate

"""


def test_a_config_may_have_dataclasses_and_colons_in_its_path(folder, capsys):
    text = TINY.read_text().partition("import os")[2]
    text = text.replace("width=config.model.width", "width=own.width")
    text = text.replace(
        "    task = make_task(",
        "    own = section.read(Own, {}, 'own')\n    task = make_task(",
    )
    Path("a:b").mkdir()
    Path("a:b/my.py").write_text(f"{FUTURE}\nimport os{text}")
    words = ["--config=a:b/my.py:wide", "--workdir=run", "--config.train.num_steps=1"]
    assert main(["train", *words]) == 0
    out = capsys.readouterr().out
    assert "this run does not read: model.width\n" in out
    assert json.loads(Path("run/config.json").read_text())["variant"] == "wide"
    assert main(["evaluate", "--workdir=run", "--norandom_init"]) == 0


def test_a_wrong_setting_is_found_before_any_evaluation_runs(copy, monkeypatch, capsys):
    def refuse():
        raise UserError("eval.last is wrong")

    def run(state):
        raise AssertionError("an evaluation ran")

    build = config_file.build

    def with_check(recipe):
        evals = {"shades": run, "last": CheckedEval(run, refuse)}
        return build(recipe)._replace(evals=evals)

    monkeypatch.setattr(config_file, "build", with_check)
    assert main(["evaluate", f"--workdir={copy}"]) == 2
    assert capsys.readouterr().err == "jaxssl: eval.last is wrong\n"


def test_data_verbs(capsys):
    assert main(["data", "list"]) == 0
    assert "fashion_on_photos" in capsys.readouterr().out
    assert main(["data", "doctor", f"--config={TINY}"]) == 0
    assert "shades" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(capsys, verb):
    assert main([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: jaxssl {verb}")
    assert max(map(len, out.splitlines())) <= 88


def test_overview_and_version(capsys):
    for words in ([], ["help"], ["--help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {verb} " in out for verb in VERBS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.count(".") == 2


def test_help_lists_the_settings_of_a_config(capsys):
    assert main(["train", f"--config={TINY}:wide", "--help"]) == 0
    out = capsys.readouterr().out
    assert "  --config.model.width=16\n" in out
    assert "  --config.train.num_steps=20\n" in out


def test_a_developer_can_ask_for_the_traceback(folder):
    with pytest.raises(ValueError, match="no file none"):
        main(["train", "--config=none", "--workdir=run", "--traceback"])


def test_compiled_programs_are_kept_by_processor(monkeypatch, tmp_path):
    updates = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.setenv("JAXSSL_CACHE", str(tmp_path))
    process_settings.use_compilation_cache()
    assert Path(updates["jax_compilation_cache_dir"]).parent == tmp_path
    assert updates["jax_persistent_cache_min_compile_time_secs"] == 0
    assert updates["jax_persistent_cache_min_entry_size_bytes"] == -1
    monkeypatch.delenv("JAXSSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    process_settings.use_compilation_cache()
    parent = Path(updates["jax_compilation_cache_dir"]).parent
    assert parent == tmp_path / "xdg" / "jaxssl" / "xla"


FAULTS = """\
import resource
from jaxssl.train import process_settings
process_settings.keep_freed_memory()
size = 2**26
for turn in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = b"x" * size
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is a knob of glibc")
@pytest.mark.parametrize("own", [{}, {"MALLOC_ARENA_MAX": "8"}])
def test_freed_memory_is_kept_unless_the_user_chose(own):
    outside = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=outside | own,
    )
    pages = 2**26 // resource.getpagesize()
    assert (int(done.stdout) > pages / 2) == bool(own)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config=tiny.py", "--workdir=run", "--config.train.num_step=3"],
        ["train", "--config=tiny.py", "--workdir=run", "--config.mesh.data=3"],
    ],
)
def test_the_installed_command_says_one_line(folder, words):
    script = Path(sys.executable).parent / "jaxssl"
    done = subprocess.run(
        [script, *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("jaxssl: ")
    assert done.stderr.count("\n") == 1
    assert not (folder / "run").exists()
