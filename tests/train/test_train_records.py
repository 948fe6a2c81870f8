import json
import multiprocessing
import subprocess
from pathlib import Path

import pytest
from ml_collections import ConfigDict, config_dict

from jaxssl.train import recipe, records
from jaxssl.types import UserError

TINY = str(Path(__file__).parent / "tiny.py")


def _load(*words, spec=TINY):
    return recipe.load(spec, words)


def test_a_recipe_survives_its_file():
    wanted = _load("--config.train.num_steps=7", spec=TINY + ":wide")
    assert wanted.config.model.width == 16
    again = recipe.loads(recipe.dumps(wanted))
    assert again == wanted
    assert again.config.data.labels == (0, 1, 2)
    assert again.config.is_locked
    assert again.config.train.is_locked


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (["--config.seed=5"], "seed", 5),
        (["--config.seed", "5"], "seed", 5),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
        (["-config.optim.learning_rate=3"], "optim.learning_rate", 3.0),
        (["--config.optim.learning_rate=1e-3"], "optim.learning_rate", 0.001),
        (["--config.data.labels=(2, 3)"], "data.labels", (2, 3)),
    ],
)
def test_overrides_take_the_type_of_their_field(words, path, value):
    found = recipe.flatten(recipe.to_plain(_load(*words).config))[path]
    assert recipe._freeze(found) == value
    assert type(recipe._freeze(found)) is type(value)


def test_booleans_and_placeholders_can_be_overridden():
    config = ConfigDict({"a": {"flag": True, "none": config_dict.placeholder(int)}})
    recipe.override(config, ["--noconfig.a.flag", "--config.a.none=3"])
    assert config.to_dict() == {"a": {"flag": False, "none": 3}}


def test_a_config_holds_plain_values_only():
    with pytest.raises(UserError, match=r"a config holds <object .*only numbers"):
        recipe.to_plain({"a": {"b": object()}})
    assert recipe.flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {
        "a.b": 1,
        "a.c": {},
        "d": [2],
    }


def test_check_then_write_then_check(tmp_path):
    wanted = _load()
    workdir = tmp_path / "deep" / "run"
    assert records.check(workdir, wanted) == []
    assert not workdir.parent.exists()
    with records.lock(workdir):
        assert records.check(workdir, wanted) == []
        records.write(workdir, wanted, ["first"])
        records.write(workdir, wanted, ["second"])
    assert records.read(workdir) == wanted
    assert records.check(workdir, wanted) == []
    run = json.loads((workdir / "run.json").read_text())
    assert run["command"] == ["second"]
    assert [launch["command"] for launch in run["earlier"]] == [["first"]]


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    wanted = _load()
    records.write(tmp_path, wanted, [], fingerprint="aa")
    assert records.check(tmp_path, wanted, fingerprint="aa") == []
    assert records.check(tmp_path, wanted) == []
    with pytest.raises(UserError, match="fingerprint was aa, now bb"):
        records.check(tmp_path, wanted, fingerprint="bb")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UserError, match=r"run.json is damaged.*remove it"):
        records.check(tmp_path, wanted)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("--config.optim.learning_rate=0.5", "optim.learning_rate was 0.01, now 0.5"),
        ("--config.train.num_steps=21", "train.num_steps was 20, now 21"),
        ("--config.train.batch_size=4", "train.batch_size was 8, now 4"),
        ("--config.seed=4", "seed was 3, now 4"),
        ("--config.data.labels=(0, 1)", "data.labels was [0, 1, 2], now [0, 1]"),
    ],
)
def test_another_config_is_refused(tmp_path, word, text):
    records.write(tmp_path, _load(), [])
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError, match="holds a run with another config") as caught:
        records.check(tmp_path, _load(word))
    assert text in str(caught.value)
    assert "another --workdir" in str(caught.value)
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize(
    "word",
    [
        "--config.train.log_every=1",
        "--config.train.save_every=1",
        "--config.train.eval_every=1",
        "--config.train.keep_checkpoints=9",
        "--config.mesh.data=2",
    ],
)
def test_what_moves_no_parameter_may_change(tmp_path, word):
    records.write(tmp_path, _load(), [])
    (notice,) = records.check(tmp_path, _load(word))
    assert word.partition("=")[0].removeprefix("--config.") in notice


def test_keys_that_come_or_go_and_other_files_are_differences(tmp_path):
    old = _load()
    records.write(tmp_path, old, [])
    plain = recipe.to_plain(old.config)
    del plain["model"]["noise"]
    plain["model"]["depth"] = 2
    new = old._replace(config=recipe.from_plain(plain), file=Path("other.py"))
    with pytest.raises(UserError) as caught:
        records.check(tmp_path, new)
    for text in (
        "--config was tiny.py, now other.py",
        "model.noise was 0.1, now 'absent'",
        "model.depth was 'absent', now 2",
    ):
        assert text in str(caught.value)


def test_folders_that_are_no_runs_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="file is a file; give a folder"):
        records.check(file, _load())
    with pytest.raises(UserError, match=r"is not empty and holds no config\.json"):
        records.check(tmp_path, _load())
    with pytest.raises(UserError, match="holds no run"):
        records.read(tmp_path)
    with pytest.raises(UserError, match="cannot write to"), records.lock(file / "x"):
        pass


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"config_file": 3}'])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is damaged"):
        records.read(tmp_path)


def _try_lock(workdir, answers):
    try:
        with records.lock(workdir):
            answers.put("locked")
    except UserError as error:
        answers.put(str(error))


def test_two_trainers_cannot_share_a_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with records.lock(tmp_path):
        other = context.Process(target=_try_lock, args=(tmp_path, answers))
        other.start()
        told = answers.get(timeout=60)
        other.join()
    assert "is being trained by process" in told
    with records.lock(tmp_path):  # It ends with the block.
        pass


def test_git_state_is_that_of_the_package():
    found = records.describe_git()
    folder = Path(records.__file__).parent
    head = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    if head.returncode:
        assert found is None
    else:
        assert found["commit"] == head.stdout.strip()
        assert isinstance(found["dirty"], bool)
