import errno
import fcntl
import functools
import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict, config_dict

from jaxssl import errors, text, trees
from jaxssl.checkpoint import store as checkpoints
from jaxssl.errors import UserError
from jaxssl.run import compatibility, config_file, launch
from jaxssl.run import lock as locks
from jaxssl.run import workdir as workdirs
from jaxssl.train.setup import set_up

TINY = str(Path(__file__).parent.parent / "train" / "tiny.py")
GOLDEN = Path(__file__).parent.parent / "golden"
CONFIG_FOLDER = Path(__file__).parent.parent.parent / "configs"
CONFIGS = sorted(map(str, CONFIG_FOLDER.glob("*.py")))


def check(workdir, wanted, **options):
    known = workdirs.Known(checkpoints.exists(workdir), **options)
    return workdirs.check(workdir, wanted, known)


def write(workdir, wanted, command, **options):
    known = workdirs.Known(checkpoints.exists(workdir), **options)
    return workdirs.write(workdir, wanted, known, command)


def _load(*flags, spec=TINY):
    return config_file.load(spec, flags)


def _begin(workdir, wanted, *, saved=True, **options):
    """Write config.json and run.json, and a folder that counts as a checkpoint."""
    changes = write(workdir, wanted, [], **options)
    if saved:
        (workdir / "checkpoints" / "4").mkdir(parents=True, exist_ok=True)
    return changes


def test_a_recipe_survives_its_file():
    wanted = _load("--config.train.num_steps=7", spec=TINY + ":wide")
    assert wanted.config.model.width == 16
    again = config_file.loads(config_file.dumps(wanted))
    assert again == wanted
    assert again.config.data.labels == (0, 1, 2)
    assert again.config.is_locked
    assert again.config.train.is_locked


@pytest.mark.parametrize(
    ("flags", "path", "value"),
    [
        (["--config.seed=5"], "seed", 5),
        (["--config.seed", "5"], "seed", 5),
        (["--config.seed=1", "--config.seed=2"], "seed", 2),
        (["-config.optim.learning_rate=3"], "optim.learning_rate", 3.0),
        (["--config.optim.learning_rate=1e-3"], "optim.learning_rate", 0.001),
        (["--config.data.labels=(2, 3)"], "data.labels", (2, 3)),
    ],
)
def test_overrides_take_the_type_of_their_field(flags, path, value):
    plain = trees.flatten(config_file.to_plain(_load(*flags).config))[path]
    assert config_file._freeze(plain) == value
    assert type(config_file._freeze(plain)) is type(value)


def test_booleans_and_placeholders_can_be_overridden():
    config = ConfigDict({"a": {"flag": True, "none": config_dict.placeholder(int)}})
    config_file.override(config, ["--noconfig.a.flag", "--config.a.none=3"])
    assert config.to_dict() == {"a": {"flag": False, "none": 3}}


def test_a_config_holds_plain_values_only():
    with pytest.raises(UserError, match=r"config\.a\.b is <object .*only numbers"):
        config_file.to_plain({"a": {"b": object()}})
    assert trees.flatten({"a": {"b": 1, "c": {}}, "d": [2]}) == {
        "a.b": 1,
        "a.c": {},
        "d": [2],
    }


def test_check_then_write_then_check(tmp_path):
    wanted = _load()
    workdir = tmp_path / "deep" / "run"
    assert check(workdir, wanted) == []
    assert not workdir.parent.exists()
    with locks.hold(workdir):
        assert check(workdir, wanted) == []
        write(workdir, wanted, ["first"])
        write(workdir, wanted, ["second"])
    assert workdirs.read(workdir) == wanted
    assert check(workdir, wanted) == []
    run = json.loads((workdir / "run.json").read_text())
    assert run["command"] == ["second"]
    assert [launch["command"] for launch in run["earlier"]] == [["first"]]


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    wanted = _load()
    _begin(tmp_path, wanted, fingerprint="aa")
    assert check(tmp_path, wanted, fingerprint="aa") == []
    assert check(tmp_path, wanted) == []
    with pytest.raises(errors.DriftError, match="fingerprint was aa, now bb"):
        check(tmp_path, wanted, fingerprint="bb")
    (tmp_path / "run.json").write_text("{")
    (line,) = check(tmp_path, wanted, fingerprint="bb")
    assert line.startswith("the training set could not be compared")
    (line,) = workdirs.set_unusable_aside(tmp_path, anew=False)
    assert line.endswith(
        "run.json is no JSON: SET ASIDE as run.json.corrupt; the data were not "
        "compared with those of the last start."
    )
    assert (tmp_path / "run.json.corrupt").read_text() == "{"


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
    _begin(tmp_path, _load())
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(errors.DriftError, match="run with another config") as caught:
        check(tmp_path, _load(word))
    assert text in str(caught.value)
    assert "another --workdir" in str(caught.value)
    assert (tmp_path / "config.json").read_bytes() == before


def _other(value):
    """Return another value of the same type."""
    if isinstance(value, bool | str | list | tuple):
        return {bool: lambda v: not v, str: lambda v: v + "x"}.get(
            type(value), lambda v: [*v, 7]
        )(value)
    return 1 if value is None else value + 1


def _vary(wanted):
    """Yield every setting of a config, and the recipe in which it alone differs."""
    for name in trees.flatten(config_file.to_plain(wanted.config)):
        plain = config_file.to_plain(wanted.config)
        *sections, key = name.split(".")
        section = functools.reduce(dict.__getitem__, sections, plain)
        if section[key] != {}:
            section[key] = _other(section[key])
            yield name, wanted._replace(config=config_file.from_plain(plain))


@pytest.mark.parametrize("spec", [TINY, *CONFIGS], ids=lambda spec: Path(spec).name)
def test_every_setting_has_its_class(tmp_path, spec, faults):
    """Each change is refused with both values, or accepted with a line of both."""
    wanted = _load(spec=spec)
    _begin(tmp_path, wanted)
    accepted, others = set(), [*_vary(wanted)]
    for name, other in others:
        try:
            (line,) = check(tmp_path, other)
            accepted.add(name)
        except errors.DriftError as error:
            line = str(error)
        old, new = (
            trees.flatten(config_file.to_plain(r.config)) for r in (wanted, other)
        )
        assert f"{name} was {old[name]!r}, now {new[name]!r}" in line
        rounds = name.startswith("mesh.") or name == "compute.remat"
        assert (compatibility.ROUNDING in line) == rounds
    known = set(trees.flatten(config_file.to_plain(wanted.config)))
    assert accepted == known & {
        "train.log_every",
        "train.save_every",
        "train.eval_every",
        "train.keep_checkpoints",
        "train.num_workers",
        "train.max_bad_records",
        "mesh.data",
        "mesh.model",
        "mesh.params",
        "mesh.rules",
        "compute.remat",
        "data.data_dir",
        "noise.file",
    }
    assert len(accepted) >= 4
    faults.record("F7", injected=len(others), survived=len(others))


def _without(recipe, *names):
    """Return a recipe that lacks some settings."""
    plain = config_file.to_plain(recipe.config)
    for name in names:
        *sections, key = name.split(".")
        del functools.reduce(dict.__getitem__, sections, plain)[key]
    return recipe._replace(config=config_file.from_plain(plain))


def test_a_setting_that_came_later_is_compared_by_its_default(tmp_path):
    wanted = _load()
    defaults = {"model.noise": 0.1, "data.labels": (0, 1, 2), "model.width": 8}
    _begin(tmp_path, _without(wanted, *defaults))
    assert check(tmp_path, wanted, defaults=defaults) == [
        "data.labels is new, the run goes on with its default [0, 1, 2]",
        "model.noise is new, the run goes on with its default 0.1",
        "model.width is new, the run goes on with its default 8",
    ]
    # Before the experiment is built, its defaults are not known.
    assert check(tmp_path, wanted) == []
    other = _load("--config.model.noise=0.5")
    with pytest.raises(errors.DriftError, match=r"noise was 0\.1, now 0\.5"):
        check(tmp_path, other, defaults=defaults)
    with pytest.raises(errors.DriftError, match=r"noise was 'absent', now 0\.1"):
        check(tmp_path, wanted, defaults={})


def test_a_config_file_may_leave_out_what_has_its_default(tmp_path):
    wanted = _load()
    _begin(tmp_path, wanted)
    fewer = _without(wanted, "model.noise")
    assert check(tmp_path, fewer, defaults={"model.noise": 0.1}) == []
    with pytest.raises(errors.DriftError, match=r"noise was 0\.1, now 0\.2"):
        check(tmp_path, fewer, defaults={"model.noise": 0.2})


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ("demo", ()),
        ("mlp", ("--config.train.num_steps=300", "--config.train.save_every=100")),
    ],
)
def test_configs_of_version_0_1_are_those_of_today(tmp_path, stored, words):
    """Written by version 0.1: no ``kind``, and ``tap`` for ``endpoint``."""
    old = config_file.loads((GOLDEN / f"config_0_1_{stored}.json").read_bytes())
    spec = f"{CONFIG_FOLDER / old.file.name}:{old.variant}".removesuffix(":None")
    new = config_file.load(spec, words)
    changes = compatibility.compare(old, new, set_up(new).defaults)
    assert changes.refused == []
    assert [line for line in changes.allowed if " is new, " not in line] == []
    assert old.config.optim.classifier.kind == {"demo": "adamw", "mlp": "sgd"}[stored]
    other = config_file.load(spec, [*words, "--config.seed=7"])
    assert compatibility.compare(old, other).refused == ["seed was 0, now 7"]


@pytest.mark.parametrize(("more", "kind"), [({}, "adamw"), ({"learner": {}}, "sgd")])
def test_a_short_section_of_version_0_1_has_its_optimizer(more, kind):
    optim = {player: {"learning_rate": 0.1} for player in ("classifier", "critic")}
    body = {"config_file": "a.py", "variant": None, "config": {"optim": optim, **more}}
    config = config_file.loads(json.dumps(body).encode()).config
    assert (config.optim.classifier.kind, config.optim.critic.kind) == (kind, "adam")


def test_a_config_of_today_is_read_as_it_was_written():
    """Even if it has names of 0.1, and optimizers that its own ``build`` makes."""
    config = {"optim": {"critic": {"b1": 0.5}}, "eval": {"knn": {"tap": "conv4"}}}
    recipe = _load()._replace(config=config_file.from_plain(config))
    assert config_file.loads(config_file.dumps(recipe)) == recipe


def test_settings_have_kept_their_old_names_in_stored_configs_alone():
    old = config_file.loads((GOLDEN / "config_0_1_demo.json").read_bytes())
    assert old.config.eval.knn.endpoint == "conv5"
    assert "tap" not in old.config.eval.knn
    with pytest.raises(UserError, match=r"knn.tap is now called config.eval.knn.endp"):
        _load("--config.eval.knn.tap=conv4", spec=f"{CONFIG_FOLDER / old.file.name}")


def test_many_differences_are_counted(tmp_path):
    _begin(tmp_path, _load())
    plain = {"other": {str(i): i for i in range(20)}}
    other = _load()._replace(config=config_file.from_plain(plain))
    with pytest.raises(errors.DriftError) as caught:
        check(tmp_path, other, defaults={})
    assert str(caught.value).count(" was ") == text.SHOWN
    assert re.search(r" and \d\d more\. Give the old values back", str(caught.value))


def test_a_run_without_checkpoint_may_become_another(tmp_path):
    """The first try failed before its first save, so nothing can be lost."""
    wanted = _load("--config.seed=4")
    _begin(tmp_path, _load(), fingerprint="aa", saved=False)
    cut = tmp_path / "checkpoints" / "4"
    cut.mkdir(parents=True)
    (tmp_path / "checkpoints" / "saving").write_text("4")
    changes = ["seed was 3, now 4", "the training set's fingerprint was aa, now bb"]
    assert check(tmp_path, wanted, fingerprint="bb") == changes
    assert write(tmp_path, wanted, [], fingerprint="bb") == changes
    assert workdirs.read(tmp_path) == wanted
    cut.rename(cut.with_name("4.corrupt"))
    with pytest.raises(errors.DriftError, match="seed was 4, now 3"):
        check(tmp_path, _load())


def test_other_software_and_hardware_are_told(tmp_path, monkeypatch, faults):
    real = launch.describe
    _begin(tmp_path, _load())
    assert _begin(tmp_path, _load()) == []

    def change(command):
        described = real(command)
        described["versions"]["jax"] = "9.9"
        described["devices"]["count"] = 99
        return described

    monkeypatch.setattr(launch, "describe", change)
    assert write(tmp_path, _load(), []) == [
        f"versions.jax was {jax.__version__!r}, now '9.9' ({compatibility.SOFTWARE})",
        f"devices.count was 8, now 99 ({compatibility.ROUNDING})",
    ]
    faults.record("F17", injected=2, survived=2)


def test_what_a_crash_left_of_the_first_config_is_no_obstacle(tmp_path, monkeypatch):
    """The process was killed between writing the temporary file and renaming it."""

    def die(*names):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, _load(), [])
    assert [path.name[:13] for path in tmp_path.iterdir()] == [".config.json."]
    assert check(tmp_path, _load()) == []


def test_keys_that_come_or_go_and_other_files_are_differences(tmp_path):
    old = _load()
    _begin(tmp_path, old)
    plain = config_file.to_plain(old.config)
    del plain["model"]["noise"]
    plain["model"]["depth"] = 2
    new = old._replace(config=config_file.from_plain(plain), file=Path("other.py"))
    with pytest.raises(errors.DriftError) as caught:
        check(tmp_path, new, defaults={})
    for line in (
        "--config was tiny.py, now other.py",
        "model.noise was 0.1, now 'absent'",
        "model.depth was 'absent', now 2",
    ):
        assert line in str(caught.value)


def test_folders_that_are_no_runs_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="file is a file; give a folder"):
        check(file, _load())
    with pytest.raises(UserError, match=r"is not empty and holds no config\.json"):
        check(tmp_path, _load())
    with pytest.raises(UserError, match="holds no run"):
        workdirs.read(tmp_path)
    with pytest.raises(UserError, match="cannot write to"), locks.hold(file / "x"):
        pass


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"config_file": 3}'])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is damaged"):
        workdirs.read(tmp_path)


def _try_lock(workdir, answers):
    try:
        with locks.hold(workdir):
            answers.put("locked")
    except UserError as error:
        answers.put(str(error))


def test_two_trainers_cannot_share_a_folder(tmp_path, faults):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    with locks.hold(tmp_path):
        other = context.Process(target=_try_lock, args=(tmp_path, answers))
        other.start()
        message = answers.get(timeout=60)
        other.join()
    assert "is being trained by process" in message
    with locks.hold(tmp_path):  # It ends with the block.
        pass
    faults.record("F16", injected=1, survived=1)


def test_a_lock_of_a_process_that_was_killed_holds_nobody_up(tmp_path, faults):
    (tmp_path / ".lock").write_text("process 1 on another machine")
    with locks.hold(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / ".lock").read_text()
    faults.record("F16", injected=1, survived=1)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_disk_without_locks_is_told(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    kind, message = UserError, "has no locks"
    if number == errno.EIO:
        kind, message = OSError, "Input/output"
    with pytest.raises(kind, match=message), locks.hold(tmp_path):
        pass


def test_what_a_hang_left_does_not_keep_a_run_from_beginning(tmp_path):
    (tmp_path / "hang-0.json").write_text("{}")
    assert check(tmp_path, _load()) == []


def test_processes_compare_software_and_what_a_config_imports(tmp_path, monkeypatch):
    (tmp_path / "base_of_this_test.py").write_text("WIDTH = 1\n")
    config = tmp_path / "config.py"
    config.write_text(f"import base_of_this_test\n{Path(TINY).read_text()}")
    monkeypatch.setattr(sys, "path", [*sys.path])
    wanted = config_file.load(str(config))
    first = workdirs._describe_setup(wanted, "data")
    assert first.keys() >= {"jax", "optax", "flax", "numpy", "data", "code", "seed"}
    assert first == workdirs._describe_setup(wanted, "data")
    (tmp_path / "unrelated.py").write_text("")
    assert first == workdirs._describe_setup(wanted, "data")
    (tmp_path / "base_of_this_test.py").write_text("WIDTH = 2\n")
    other = workdirs._describe_setup(wanted, "data")
    assert [name for name in first if first[name] != other[name]] == ["config file"]
    monkeypatch.delitem(sys.modules, "base_of_this_test")


def test_a_link_leads_to_the_same_lock(tmp_path, monkeypatch, faults):
    run, link = tmp_path / "run", tmp_path / "link"
    run.mkdir()
    link.symlink_to(run)
    monkeypatch.chdir(tmp_path)
    for other in (link, Path("run"), Path("link/../run")):
        with locks.hold(run), pytest.raises(UserError, match="is being trained by"):
            with locks.hold(other):
                pass
    faults.record("F16", injected=3, survived=3)


def test_git_state_is_that_of_the_package():
    state = launch.describe_git()
    folder = Path(workdirs.__file__).parent
    head = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    if head.returncode:
        assert state is None
    else:
        assert state["commit"] == head.stdout.strip()
        assert isinstance(state["dirty"], bool)
