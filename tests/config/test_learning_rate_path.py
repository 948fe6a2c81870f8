"""From the number in a config file to optax: few files, and one place to look."""

import ast
import sys
from pathlib import Path

import optax
import pytest

from jaxssl import trees
from jaxssl.builders import common
from jaxssl.data import generated
from jaxssl.run import config_file

ROOT = Path(__file__).parent.parent.parent
CONFIGS = sorted(ROOT.glob("configs/*.py"))
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
MOST = 4
"""Files that a learning rate passes: config, builder, registry, optimizer."""


class Reached(Exception):  # noqa: N818 (it is no mistake)
    """Optax was called."""


def _files_above():
    """Return the files of configs and package that lead here, outermost first."""
    files, frame = [], sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        inside = [ROOT / "jaxssl", ROOT / "configs"]
        if any(path.is_relative_to(folder) for folder in inside):
            files.insert(0, str(path.relative_to(ROOT)))
        frame = frame.f_back
    return list(dict.fromkeys(files))


def _load(config, *splits, **_):
    """Stand in for ``common.load_splits``: few images, made at once."""
    name = config.data.name.removeprefix("tfds:")
    name = name if name in generated.FORMS else "cifar10"
    size = config.data.get("load_size", 256)
    return [
        generated.load(name, split=s, num_records=32, load_size=size) for s in splits
    ]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_learning_rate_passes_few_files(path, monkeypatch):
    asked = []

    def reach(learning_rate, *_, **__):
        asked.append(_files_above())
        raise Reached

    for name in OPTIMIZERS:
        monkeypatch.setattr(optax, name, reach)
    monkeypatch.setattr(common, "load_splits", _load)
    words = ["--config.init_from.classifier=random"] * path.stem.startswith("probe")
    config = config_file.load(str(path), words).config
    with pytest.raises(Reached):
        config_file.load_module(path).build(config)
    files = asked[0]
    assert files[0] == f"configs/{path.name}"
    assert len(files) <= MOST, " -> ".join(files)
    assert files[1] == f"jaxssl/builders/{path.stem.split('_')[0]}.py"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_numbers_of_an_optimizer_stand_in_the_config_file(path):
    constants = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float)
    }
    config = config_file.load(str(path)).config.to_dict()
    numbers = trees.flatten(config.get("optim", {}))
    if "learning_rates" in config["method"]:
        numbers = {"learning_rates": config["method"]["learning_rates"]}
    assert numbers
    for name, value in numbers.items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float):
                assert number in constants, f"{name} = {number}"
