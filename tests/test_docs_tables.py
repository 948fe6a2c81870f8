"""The tables of docs hold what was measured; the README's figure shows transforms."""

import functools
import importlib.util
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import faults
from tests.faults import FAULTS, Ledger

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "results.md"


def load_script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def make_tables():
    return load_script("make_tables")


def _page(text, results):
    return make_tables().fill(text, make_tables().PAGES[PAGE], results)


@pytest.fixture(autouse=True)
def code(monkeypatch):
    """The tree's code has one hash for every row: computing the real ones is slow."""

    def same(table, size):
        rows = make_tables().expected_rows(table, size)
        return {row.name: "now" for row in rows}

    monkeypatch.setattr(make_tables(), "code_hashes", same)


def test_tables_are_those_of_the_stored_results(capsys):
    make_tables().main(["--check"])
    assert "table_4_2: 9 of 9 rows are stale" in capsys.readouterr().out


def test_marks_of_stale_rows_are_no_error_but_are_told(tmp_path, monkeypatch, capsys):
    fresh = tmp_path / "results.md"
    fresh.write_text(make_tables().without_marks(PAGE.read_text()))
    assert "| Rot |" in fresh.read_text()
    pages = make_tables().PAGES
    monkeypatch.setattr(make_tables(), "PAGES", {fresh: pages[PAGE]})
    make_tables().main(["--check"])
    assert "results.md: other rows are stale now" in capsys.readouterr().out


def test_a_row_of_other_code_is_marked_and_no_other(tmp_path):
    stored = json.loads((make_tables().RESULTS / "table_4_2_cpu.json").read_text())
    for row in stored["rows"]:
        row["measured"]["code_sha256"] = ["now"]
    stored["rows"][3]["measured"] |= {
        "code_sha256": ["now", "then"],
        "commit": ["a" * 40],
    }
    (tmp_path / "table_4_2_cpu.json").write_text(json.dumps(stored))
    table = make_tables().TABLES["table_4_2_cpu"](tmp_path)
    assert [line[:9] for line in table.splitlines() if "†" in line] == [
        "| Rot † |",
        "† stale: ",
    ]
    assert "† stale: measured on the code of aaaaaaa; the code" in table


def test_a_stored_result_fills_its_rows_and_leaves_the_others(tmp_path):
    endpoints = {f"conv{i}": [0.5 + i / 100, 0.002] for i in range(1, 6)}
    row = {
        "name": "Rot",
        "seeds": [0, 1, 2],
        "linear_probe": endpoints,
        "pretext": [0.8, 0.01],
        "steps": 3000,
        "train_seconds": [60.0, 120.0, 180.0],
        "measured": {"code_sha256": ["now"], "commit": ["0123456789"]},
    }
    untrained = row | {"name": "Random", "pretext": None, "steps": 0}
    result = {
        "hardware": "2 CPU cores",
        "date": "2026-01-01",
        "commit": "0123456789, abcdefghij",
        "rows": [row, untrained | {"train_seconds": None}],
    }
    (tmp_path / "table_4_2_cpu.json").write_text(json.dumps(result))
    best = row | {"name": "Rot + Warp + LCI"}
    (tmp_path / "table_4_2_paper.json").write_text(json.dumps({"rows": [best]}))
    text = _page(PAGE.read_text(), tmp_path)
    lines = text.splitlines()
    conv = "51.0 ± 0.2 | 52.0 ± 0.2 | 53.0 ± 0.2 | 54.0 ± 0.2 | 55.0 ± 0.2"
    assert f"| Rot | {conv} | 80.0 ± 1.0 | 3,000 | 2 |" in lines
    assert f"| Random | {conv} |  | 0 |  |" in lines
    assert sum(line.startswith("| Warp | not run |") for line in lines) == 1
    told = "2 CPU cores with other work on them, 2026-01-01, code of 0123456, abcdefg, "
    assert told + "3 seeds" in text
    table = next(line for line in lines if line.startswith("| 4.2 |"))
    assert table.endswith("| 59.2 69.7 71.9 73.1 73.7 | 51.0 52.0 53.0 54.0 55.0 |")
    assert _page(text, tmp_path) == text


def test_an_outdated_table_is_noticed(tmp_path, monkeypatch):
    old = tmp_path / "results.md"
    old.write_text(PAGE.read_text().replace("| Random † |", "| Chance † |"))
    pages = make_tables().PAGES
    monkeypatch.setattr(make_tables(), "PAGES", {old: pages[PAGE]})
    with pytest.raises(SystemExit, match=r"results\.md is out of date; .*tables\.py"):
        make_tables().main(["--check"])
    make_tables().main([])
    assert old.read_text() == PAGE.read_text()


def test_faults_of_all_tests_are_added_and_others_say_so(tmp_path):
    one = {"injected": 600, "survived": 600, "lost": 0, "silent": 0, "commit": "abc"}
    two = one | {"injected": 500, "survived": 500, "commit": "def"}
    stored = {"F3": {"a::b": one, "c::d": two}}
    (tmp_path / "faults.json").write_text(json.dumps(stored))
    lines = make_tables().fault_table(tmp_path).splitlines()
    (row,) = [line for line in lines if line.startswith("| F3 |")]
    assert row.endswith("| 1,100 | 1,100 | 0 | 0 |")
    assert sum(line.endswith("| not run |") for line in lines) == len(FAULTS) - 1
    assert lines[-1] == "Code of abc, def. `experiments/results/faults.json`"


def test_counted_faults_are_of_tests_that_exist():
    stored = json.loads((ROOT / "experiments/results/faults.json").read_text())
    assert list(stored) == [fault for fault in FAULTS if fault in stored]
    for test in {test for counts in stored.values() for test in counts}:
        assert "[/" not in test, "the path of a machine"
        file, _, function = test.partition("[")[0].partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(), test


def test_the_ledger_forgets_a_test_that_runs_again(tmp_path):
    path = tmp_path / "faults.json"
    for test in ("a::b", "c::d"):
        Ledger(test, path).record("F3", injected=2, survived=2)
    with pytest.raises(AssertionError):
        Ledger("a::b", path).record("F1", injected=2, survived=1)
    stored = json.loads(path.read_text())
    assert {fault: [*counts] for fault, counts in stored.items()} == {
        "F1": ["a::b"],
        "F3": ["c::d"],
    }
    Ledger("c::d", path)
    assert [*json.loads(path.read_text())] == ["F1"]


def test_the_ledger_calls_code_dirty_but_not_for_what_it_wrote(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)

    results = tmp_path / "experiments" / "results"
    results.mkdir(parents=True)
    table, code = results / "faults.json", tmp_path / "code.py"
    table.write_text("{}")
    code.write_text("")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")
    monkeypatch.setattr(faults, "ROOT", tmp_path)
    Ledger("a::b", table).record("F1", injected=1, survived=1)
    Ledger("c::d", table).record("F1", injected=1, survived=1)
    code.write_text("1")
    Ledger("e::f", table).record("F1", injected=1, survived=1)
    said = [entry["commit"] for entry in json.loads(table.read_text())["F1"].values()]
    assert said[0] == said[1]
    assert said[2] == f"{said[0]}-dirty"


def test_the_figure_shows_every_transformation():
    module = load_script("make_figures")
    image = np.random.default_rng(0).integers(0, 256, (module.SIDE,) * 2 + (3,))
    image = image.astype(np.uint8)
    shown = list(module.panels(image, seed=0).values())
    for turns in range(4):
        np.testing.assert_array_equal(shown[turns], np.rot90(image, turns))
    changed = (shown[5] != image).any(-1)
    hole = module.PATCH - 2 * module.BORDER
    assert 0.99 * hole**2 < changed.sum() <= hole**2
    assert (shown[4] != image).mean() > 0.5
    file = ROOT / "docs" / "images" / "transformations.png"
    assert file.stat().st_size < 300_000
    with Image.open(file) as drawn:
        assert drawn.size[0] > 800


@functools.cache
def make_pods():
    return load_script("make_pods")


def test_pages_about_pods_hold_what_was_compiled():
    make_pods().main(["--check"])


def test_an_outdated_page_about_pods_is_noticed(tmp_path, monkeypatch):
    old = tmp_path / "pods.md"
    old.write_text(make_pods().PAGE.read_text().replace("| spare |", "| free |"))
    monkeypatch.setattr(make_pods(), "PAGE", old)
    with pytest.raises(SystemExit, match=r"make_pods\.py"):
        make_pods().main(["--check"])
    make_pods().main([])
    assert old.read_text() == (ROOT / "docs" / "pods.md").read_text()


def test_batches_that_chips_cannot_share_are_scaled():
    batch_of = make_pods().batch_of
    assert batch_of("transformations_stl10.py", 16) == 64
    assert batch_of("transformations_stl10.py", 256) == 64 * 32
    assert batch_of("classify_cifar10.py", 8) == 64  # Eight mini-batches of eight.
    assert batch_of("classify_cifar10.py", 16) == 128


def test_a_compiled_program_fills_its_row(tmp_path):
    module = make_pods()
    entry = {
        "batch_size": 2048,
        "memory": {"arguments": 2**30, "temporaries": 2**31},
        "spare": 0.81,
        "flops": {"chip": 12.34e9},
        "collectives": {
            "all-reduce": {"count": 3, "size": 10**7},
            "send": {"count": 2, "size": 10**6},
        },
        "least": {"compute": 1e-3, "HBM": 2e-3},
    }
    found = {"probe_stl10.py on v5e:2x4": entry}
    found["probe_celeb_a.py on v5e:2x4"] = {"refused": "jaxssl: the step does not fit"}
    lines = module.table("v5e:2x4", found).splitlines()
    assert lines[2] == "| `classify_cifar10` | not run | | | | | |"
    assert (
        "| `probe_stl10` | 2,048 (64 x 32) | 1.00 + 2.00 | 81% | 12.3 | 5: 11.0 MB "
        "| 2 ms (HBM) |"
    ) in lines
    assert "| `probe_celeb_a` | the step does not fit | | | | | |" in lines
    store = tmp_path / "aot.json"
    module.save(dict(reversed(found.items())), store)
    assert list(module.load(store)) == list(found)


def test_every_program_is_a_command_that_is_understood():
    for config, target in make_pods().programs():
        name, verb, *words = make_pods().command(config, target)
        assert (name, verb) == ("jaxssl", "aot")
        overrides = [word for word in words if word.startswith("--config.")]
        assert len(overrides) in (2, 3)
        assert (ROOT / words[0].removeprefix("--config=")).exists()
    assert len(make_pods().programs()) == 60


def test_compiled_programs_fit_or_say_what_to_change(faults):
    entries = make_pods().load().values()
    good = [
        entry
        for entry in entries
        if entry.get("spare", 0) >= 0.1
        or "mesh.params=fsdp" in entry.get("refused", "")
    ]
    faults.record("F19", injected=len(entries), survived=len(good))
