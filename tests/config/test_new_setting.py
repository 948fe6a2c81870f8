"""A setting that a later version adds, with a default, does not stop stored runs."""

import shutil
from pathlib import Path

import pytest

from jaxssl.cli import main
from jaxssl.errors import ExitCode

TINY = Path(__file__).parent.parent / "train" / "tiny.py"

SETTINGS = """

import dataclasses
from jaxssl.config import section

tiny_config, tiny_build = get_config, build


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    width: int = 8


def get_config(variant="small"):
    config = tiny_config(variant).unlock()
    config.method = section.defaults(Config)
    return config.lock()


def build(config):
    section.read(Config, config, "method")
    return tiny_build(config)
"""


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Train the tiny config, with some lines in its class of settings."""
    monkeypatch.setenv("JAXSSL_CACHE", "")
    config, workdir = tmp_path / "own.py", tmp_path / "run"

    def go(field="", *words):
        text = SETTINGS.replace("width: int = 8", f"width: int = 8\n    {field}")
        config.write_text(TINY.read_text() + text)
        sizes = ["--config.train.num_steps=4", "--config.train.save_every=2"]
        code = main(
            ["train", f"--config={config}", f"--workdir={workdir}", *sizes, *words]
        )
        shutil.rmtree(
            workdir / "checkpoints" / "4", ignore_errors=True
        )  # As if killed.
        return code, "".join(capsys.readouterr())

    return go


def test_a_run_goes_on_with_the_default_of_a_new_setting(train):
    assert train()[0] == ExitCode.DONE
    code, told = train("depth: int = 3")
    assert code == ExitCode.DONE
    assert "going on after step 2" in told
    assert "method.depth is new, the run goes on with its default 3" in told
    # From now on the setting is on record.
    code, told = train("depth: int = 3")
    assert (code, "is new" in told) == (ExitCode.DONE, False)
    code, told = train("depth: int = 3", "--config.method.depth=4")
    assert code == ExitCode.DRIFT
    assert "method.depth was 3, now 4" in told


def test_another_value_than_the_default_is_another_run(train):
    assert train()[0] == ExitCode.DONE
    code, told = train("depth: int = 3", "--config.method.depth=4")
    assert code == ExitCode.DRIFT
    assert "method.depth was 3, now 4" in told
