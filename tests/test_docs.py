"""What the documents name exists, and what they show runs."""

import ast
import functools
import importlib
import importlib.util
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxssl import cli, trees
from jaxssl.aot import accelerators
from jaxssl.data import pipeline, registry
from jaxssl.run import config_file

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
CHECKED = (
    "README.md",
    "CONTRIBUTING.md",
    "results.md",
    "paper_map.md",
    "deviations.md",
    "configuration.md",
    "transforms.md",
    "bilevel.md",
    "cpu.md",
    "pods.md",
)
"""Pages whose every backticked name is looked up."""

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
DOTTED = re.compile(r"[A-Za-z_]\w*(\.\w+)+")
INLINE = re.compile(
    r"(python|make) \S|jaxssl (data|checkpoint|verify) \S|jaxssl \w+ --"
)
HERE = "tests/methods/test_transformations.py"  # The paper map's tests without a file.
OUTSIDE = (
    "runs/",
    "configs/my_photos.py",
    "configs/my_labels.py",
    "params/",  # Leaves of a state.
    "data/bad_records",  # A metric.
    "train.npz",
    "test.npz",
)
"""Beginnings of names that a reader's own run or data bring."""


def page(name):
    return next(path for path in PAGES if path.name == name).read_text()


def blocks(text, language):
    return [body for found, body in BLOCK.findall(text) if found == language]


def names(text):
    """Return what stands between single backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def load_script(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Names


@functools.cache
def settings():
    """Every setting and section of every config, as ``train.num_steps``."""
    found = set()
    for path in CONFIGS.glob("*.py"):
        for name in trees.flatten(config_file.load(str(path)).config.to_dict()):
            parts = name.split(".")
            found |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    return found


def is_python_name(name):
    """Say whether a dotted name leads to something, below jaxssl or absolutely."""
    for parts in (["jaxssl", *name.split(".")], name.split(".")):
        for depth in range(len(parts), 0, -1):
            module = ".".join(parts[:depth])
            try:
                found = importlib.import_module(module)
            except ModuleNotFoundError:
                continue
            for part in parts[depth:]:
                fields = getattr(found, "__annotations__", {})
                found = getattr(found, part, fields.get(part))
            if found is not None:
                return True
            break
    return False


def has_test(file, name):
    tree = ast.parse((ROOT / file).read_text())
    return any(isinstance(n, ast.FunctionDef) and n.name == name for n in tree.body)


def is_there(name):
    """Look up one backticked name; prose and formulas count as there."""
    name = re.sub(r"=.*", "", name)  # A setting with its value.
    name = re.sub(r"^T\.", "transforms.", name)
    if (
        " " in name
        or re.search("<|>", name)
        or name.startswith((*OUTSIDE, "-", "'", "<"))
    ):
        return True
    file, _, test = name.partition("::")
    if test or name.startswith("test_"):
        return has_test(file if test else HERE, test or name)
    path, _, variant = name.partition(":")
    if variant and path.endswith(".py"):
        return config_file.load(f"{ROOT / path}:{variant}") is not None
    if "/" in name or re.search(r"\.(py|md|json|txt|png|toml)$", name):
        return (ROOT / name).exists()
    if DOTTED.fullmatch(name):
        return name in settings() or is_python_name(name)
    return True


@pytest.mark.parametrize("name", CHECKED)
def test_every_name_exists(name):
    found = names(page(name))
    assert len(found) > 10
    missing = [item for item in found if not is_there(item)]
    assert missing == []


@pytest.mark.parametrize(
    "name",
    [
        "jaxssl/nothing.py",
        "nothing.md",
        "losses.no_such_loss",
        "optim.no_such_player",
        "jax.no_such_name",
        "test_nothing",
        "tests/cli/test_cli.py::test_nothing",
    ],
)
def test_a_missing_name_is_noticed(name):
    assert not is_there(name)


def test_links_lead_to_files():
    for path in PAGES:
        prose = BLOCK.sub("", path.read_text())
        for target in re.findall(r"\]\(([^)#]+)\)", prose):
            if not target.startswith("http"):
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_settings_of_a_row_are_those_of_the_config():
    sides = {
        side: trees.flatten(
            config_file.load(
                f"{CONFIGS / 'transformations_stl10.py'}:rot_warp_lci,{side}"
            ).config.to_dict()
        )
        for side in ("paper", "released")
    }
    probe = trees.flatten(
        config_file.load(str(CONFIGS / "probe_stl10.py")).config.to_dict()
    )
    rows = [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in page("deviations.md").splitlines()
        if line.startswith("|") and "---" not in line and "| setting |" not in line
    ]
    assert len(rows) == 11
    for _, _, _, name, *values in rows:
        expected = [s[name] for s in sides.values()] if values[1:] else [probe[name]]
        assert [ast.literal_eval(value) for value in values] == expected, name


def test_every_difference_of_the_two_sides_is_in_the_table():
    module = load_script(CONFIGS / "transformations_stl10.py")
    paper, released = (
        trees.flatten(module.get_config(f"lci,{side}").to_dict())
        for side in ("paper", "released")
    )
    text = page("deviations.md")
    for name, value in paper.items():
        if value != released[name]:
            assert f"`{name}`" in text, name


# --- How to add a method


def method_files():
    """The files that CONTRIBUTING names for a new method."""
    table = page("CONTRIBUTING.md").partition("## How to add a method")[2]
    return re.findall(r"^\| `([^`]+)` \|", table.partition("**1.")[0], re.M)


def test_contributing_names_what_a_method_touches():
    assert method_files() == [
        "jaxssl/methods/<name>.py",
        "jaxssl/builders/<name>.py",
        "configs/<name>_<dataset>.py",
        "tests/methods/test_<name>.py",
        "tests/tasks.py",
        "tests/small.py",
        "jaxssl/report/sections/<evaluation>.py",
        "experiments/table_<n>.py",
        "CHANGELOG.md",
    ]


@pytest.mark.parametrize("method", ["transformations", "classify", "probe"])
def test_every_method_has_the_files_that_contributing_names(method):
    for name in method_files():
        pattern = re.sub(r"<(?!name)\w+>", "*", name).replace("<name>", method)
        assert list(ROOT.glob(pattern)), pattern


def test_no_shared_module_names_a_method():
    """Else a new method would have to be entered there."""
    builders = {path.stem for path in (ROOT / "jaxssl/builders").glob("*.py")}
    methods = {path.stem for path in (ROOT / "jaxssl/methods").glob("*.py")}
    for path in (ROOT / "jaxssl").rglob("*.py"):
        if path.parent.name not in ("methods", "builders"):
            text = path.read_text()
            for name in (methods & builders) - {"__init__"}:
                assert f"methods.{name}" not in text, path
                assert f"builders.{name}" not in text, path


def test_the_readme_is_a_page_for_who_arrives():
    assert len(page("README.md").splitlines()) <= 200


# --- Python


@pytest.mark.parametrize(
    "name",
    ["README.md", "data.md", "python.md", "transforms.md", "bilevel.md", "cpu.md"],
)
def test_python_blocks_run_in_order(name, capsys):
    shown = blocks(page(name), "python")
    assert shown
    namespace = {}
    for body in shown:
        if "download_and_prepare" not in body:  # Asks the network.
            exec(compile(body, name, "exec"), namespace)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder like the repository's root, with the page's own configs in it."""
    shutil.copytree(CONFIGS, tmp_path / "configs")
    photos, _, own = blocks(page("configuration.md"), "python")
    (tmp_path / "configs" / "my_photos.py").write_text(photos)
    (tmp_path / "configs" / "my_labels.py").write_text(own)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "configs"), *sys.path])
    return tmp_path


def test_a_config_for_own_photos_builds(workplace):
    rng = np.random.default_rng(0)
    for folder in ("train/cat", "train/dog", "test/cat", "test/dog"):
        Path("photos", folder).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (48, 56, 3), np.uint8)
            Image.fromarray(pixels).save(f"photos/{folder}/{i}.png")
    chosen = config_file.load("configs/my_photos.py", ["--config.train.batch_size=4"])
    experiment = config_file.build(chosen)
    assert experiment.train_set.class_names == ("cat", "dog")
    batch, _ = next(pipeline.epoch(experiment.train_set, batch_size=4))
    state = jax.eval_shape(experiment.task.init, jax.random.key(0), batch)
    assert list(state.params) == ["classifier"]
    namespace = vars(config_file.load_module(Path("configs/my_photos.py")))
    exec(blocks(page("configuration.md"), "python")[1], namespace)
    plain = namespace["build"](chosen.config)
    assert sorted(plain.evals) == ["filters", "pretext"]
    assert plain.online_evals == {}


@pytest.mark.parametrize("variant", ["sgd", "ghost", "bilevel"])
def test_a_config_for_own_noisy_labels_builds(workplace, variant):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = Path("photos", split, name)
            folder.mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 256, (40, 48, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    config = f"configs/my_labels.py:{variant}"
    chosen = config_file.load(config, ["--config.train.batch_size=16"])
    arrays = chosen.config.copy_and_resolve_references().unlock()
    arrays.data = ConfigDict({"name": "npz", "data_dir": "arrays"})
    Path("arrays").mkdir()
    for split in ("train", "test"):
        images = rng.integers(0, 256, (16, 28, 28, 3), np.uint8)
        np.savez(f"arrays/{split}.npz", image=images, label=np.arange(16) % 2)
    module = config_file.load_module(Path("configs/my_labels.py"))
    for experiment in (config_file.build(chosen), module.build(arrays)):
        spec = experiment.train_set.spec
        assert "true_label" not in spec  # No label was made worse.
        order = experiment.order
        with pipeline.batches(
            experiment.train_set, batch_size=16, seed=0, order=order
        ) as batches:
            batch = next(batches)
        state = jax.eval_shape(experiment.task.init, jax.random.key(0), batch)
        assert list(state.params) == ["classifier"]
        key = jax.random.key(1)
        _, metrics = jax.eval_shape(experiment.task.step, state, batch, key)
        assert "loss/classifier" in metrics
        assert {"test", "train"} <= set(experiment.evals)


# --- Commands


def commands():
    """Every shell command of the pages and of the configs' docstrings."""
    found = []
    for path in [*PAGES, *sorted(CONFIGS.glob("*.py"))]:
        text = path.read_text()
        shell = blocks(text, "sh")
        shell += re.findall(r"^ {4}((?:jaxssl|make) (?:.*\\\n)*.*)", text, re.M)
        shell += [name for name in names(text) if INLINE.match(name)]
        for line in "\n".join(shell).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and (path.name, words) not in found:
                found.append((path.name, words))
    return found


def check_jaxssl(words, monkeypatch):
    """Parse with the real command line; then do what the verb does before it works."""
    asked = []

    def note(values, rest):
        asked.append((values, rest))
        return 0

    verbs = {name: verb._replace(run=note) for name, verb in cli.VERBS.items()}
    monkeypatch.setattr(cli, "VERBS", verbs)
    assert cli.main(words) == 0
    if "--help" in words:
        return
    (values, rest), verb = asked[0], words[0]
    if verb == "supervise":
        assert rest[0] == "jaxssl"
        check_jaxssl(rest[1:], monkeypatch)
        return
    flags = {name: values[name].value for name in values}
    if flags.get("config"):
        config_file.load(flags["config"], [word for word in rest if "config." in word])
    if verb == "data":
        assert rest[0] in ("list", "prepare", "doctor")
        for name in rest[1:]:
            registry.check_name(name)
    elif verb == "verify":
        assert rest[0] in ("resume", "devices")
        assert flags["config"]
    elif verb == "aot":
        accelerators.parse(flags["topology"], flags["slices"])
    else:
        assert flags["workdir"]
        assert verb == "train" or rest in ([], ["list"], ["verify"])


def check_python(words, monkeypatch):
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2])
        return
    script = ROOT / words[1]
    monkeypatch.setattr(sys, "argv", words[1:])
    if script.parent.name == "experiments":
        monkeypatch.syspath_prepend(str(script.parent))
        module = load_script(script)
        args = importlib.import_module("runner").parse_args("", tuple(module.FILES))
        assert module.rows(args.size)
    else:
        assert script.exists()
        flags = {word for word in words[2:] if word.startswith("-")}
        assert flags <= set(re.findall(r'"(--\w+)"', script.read_text()))


def check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for several in re.findall(r"(?:\.|jaxssl)\[([\w,-]+)\]", " ".join(words)):
        assert {*several.split(",")} <= {*extras["project"]["optional-dependencies"]}


def check_make(words):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert words[1] in targets


def is_pattern(words):
    """Say whether a command is a form to fill in, such as ``tfds:<name>``."""
    return any(re.search(r"<|NAME|FILE|DIR|\.\.\.|\|", word) for word in words)


def test_every_command_is_understood(workplace, monkeypatch, capsys):
    kinds = set()
    for name, words in commands():
        if is_pattern(words):
            continue
        kinds.add(words[0])
        try:
            if words[0] == "jaxssl":
                check_jaxssl(words[1:], monkeypatch)
            elif words[0] == "python":
                check_python(words, monkeypatch)
            elif words[0] == "pip":
                check_pip(words)
            elif words[0] == "make":
                check_make(words)
        except (AssertionError, ValueError, SystemExit) as error:
            told = capsys.readouterr().err
            pytest.fail(f"{name}: {' '.join(words)}: {error!r} {told}")
    assert kinds >= {"jaxssl", "python", "pip", "make"}


@pytest.mark.parametrize(
    "line",
    [
        "train --config=configs/none.py --workdir=runs/a",
        "train --config=configs/transformations_stl10.py --workdir=runs/a --sped=3",
        "data prepare stl10",
    ],
)
def test_a_command_that_is_not_understood_is_noticed(workplace, monkeypatch, line):
    with pytest.raises((AssertionError, ValueError)):
        check_jaxssl(line.split(), monkeypatch)
