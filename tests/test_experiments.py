"""The experiments' scripts: what they would run, and the tables they print."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from jaxssl.train import recipe

ROOT = Path(__file__).parent.parent
RESULTS = sorted((ROOT / "experiments" / "results").glob("*.json"))


def load(name):
    folder = str(ROOT / "experiments")
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "experiments" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", ["cpu", "paper"])
@pytest.mark.parametrize("table", ["table_4_1", "table_4_2"])
def test_every_row_resolves_to_a_config_at_equal_budget(table, size):
    rows = load(table).rows(size)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    steps = set()
    for row in rows:
        overrides = [*row.overrides, "--config.seed=1"]
        chosen = recipe.load(str(ROOT / row.config), overrides)
        assert chosen.config.seed == 1
        if row.name != "Supervised":
            steps.add((chosen.config.train.num_steps, chosen.config.train.batch_size))
        for other in row.needs.values():
            assert other in names
    assert len(steps) == 1


def test_table_4_2_has_the_thesis_eight_rows_in_its_order():
    names = [row.name for row in load("table_4_2").rows("cpu")]
    assert names[:8] == [
        "Random",
        "Warp",
        "LCI",
        "Rot",
        "Warp + LCI",
        "Rot + Warp",
        "Rot + LCI",
        "Rot + Warp + LCI",
    ]


def test_the_code_hash_ignores_comments_and_sees_code(tmp_path, monkeypatch):
    runner = load("runner")
    file = tmp_path / "jaxssl" / "models" / "net.py"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    file.write_text('"""Doc."""\nWIDTH = 1\n')
    first = runner.code_hash()
    file.write_text('"""Other."""\n# why\nWIDTH = 1\n')
    assert runner.code_hash() == first
    file.write_text('"""Doc."""\nWIDTH = 2\n')
    assert runner.code_hash() != first


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_stored_results_say_where_they_come_from(path):
    result = json.loads(path.read_text())
    for key in ("hardware", "date", "commit", "code_sha256", "command", "rows"):
        assert result[key], key
    for row in result["rows"]:
        assert len(row["seeds"]) >= 3
        for values in row["linear_probe"].values():
            mean, spread = values
            assert 0 < mean < 1
            assert 0 <= spread < 0.2
