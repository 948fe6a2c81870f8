"""Runs on a folder of pictures: what is left out, and other data than before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxssl.cli import main
from jaxssl.data import fingerprint

TINY = Path(__file__).parent.parent / "train" / "tiny.py"
CONFIG = """
import tiny
from ml_collections import ConfigDict

from jaxssl.builders import common
from jaxssl.data.subset import subset
from jaxssl.experiment import Experiment


def get_config():
    config = tiny.get_config().unlock()
    config.data = ConfigDict({"name": "folder", "data_dir": "photos"})
    config.train.update({"num_steps": 4, "batch_size": 4, "save_every": 2})
    return config.lock()


def build(config):
    train, test = common.load_splits(config, "train", "test")
    common.check_classes(train, test)
    task = tiny.make_task(noise=config.model.noise)
    shades = tiny.make_eval(task, subset(test, len(test)), config.eval.first)
    return Experiment(
        task=task,
        train_set=train,
        evals={"shades": shades},
        online_evals={},
        init_from={},
    )
"""
HALF = ["train", "--config=photos.py", "--workdir=run"]


def picture(path, level):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).integers(level, level + 9, (4, 4, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path, "PNG")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run that was ended after two of four steps, its config and its pictures."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(TINY, folder / "tiny.py")
    (folder / "photos.py").write_text(CONFIG)
    for split, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("dark", "grey", "light")):
            for i in range(count):
                level = 80 * label + i + 20 * (split == "test")
                picture(folder / "photos" / split / name / f"{i}.png", level)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(fingerprint, "SETTLE_SECONDS", -60.0)
        assert main(HALF) == 0
    shutil.rmtree(folder / "run" / "checkpoints" / "4")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy of the run to work in."""
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    monkeypatch.chdir(copy)
    return copy


def swap(folder):
    one, two = (folder / "dark" / "0.png", folder / "light" / "0.png")
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)


def tree(root):
    paths = [path for path in root.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in paths if path.name != ".lock"}


EVALUATE = ["evaluate", "--workdir=run", "--norandom_init"]


@pytest.mark.parametrize("words", [HALF, EVALUATE], ids=lambda words: words[0])
@pytest.mark.parametrize("split", ["train", "test"])
def test_swapped_pictures_are_exit_code_7(folder, capsys, split, words, faults):
    swap(folder / "photos" / split)
    before = tree(folder / "run")
    assert main(words) == 7
    err = capsys.readouterr().err
    name = {"train": "the training set", "test": "folder test"}[split]
    assert f"{name}'s fingerprint was content:" in err
    assert err.count("\n") == 1
    assert tree(folder / "run") == before
    faults.record("F22", injected=1, survived=1)


def test_evaluate_can_be_told_to_take_other_data(folder, capsys):
    swap(folder / "photos" / "test")
    assert main([*EVALUATE, "--other_data"]) == 0
    assert "folder test's fingerprint was" in capsys.readouterr().out
    changed = json.loads((folder / "run" / "evals" / "shades.json").read_text())
    assert "folder test's fingerprint was" in changed["changed"][0]


@pytest.mark.parametrize("place", ["elsewhere", "{}/photos", "link"])
def test_data_that_moved_go_on(folder, capsys, place):
    Path("elsewhere").mkdir()
    if place == "elsewhere":
        shutil.rmtree("elsewhere")
        Path("photos").rename("elsewhere")
    Path("link").symlink_to("photos")
    where = f"--config.data.data_dir={place.format(folder)}"
    assert main([*EVALUATE, where]) == 0
    out = capsys.readouterr().out
    assert "changed" not in json.loads(Path("run/evals/shades.json").read_text())
    assert main([*HALF, where]) == 0
    out = capsys.readouterr().out
    assert "data.data_dir was 'photos', now" in out
    assert "the data moved, and are the same" in out
    assert "going on after step 2" in out
    assert main(EVALUATE) == 0


def test_data_that_moved_and_changed_are_refused(folder, capsys, faults):
    shutil.copytree("photos", "other")
    swap(folder / "other" / "train")
    where = "--config.data.data_dir=other"
    for words in ([*HALF, where], [*EVALUATE, where]):
        assert main(words) == 7
        assert "the training set's fingerprint was" in capsys.readouterr().err
    faults.record("F22", injected=2, survived=2)


def test_a_run_that_noted_only_names_goes_on_and_says_so(folder, capsys):
    path = folder / "run" / "run.json"
    launch = json.loads(path.read_text())
    del launch["other_data"]
    path.write_text(json.dumps(launch | {"data_fingerprint": "0123456789abcdef"}))
    assert main(EVALUATE) == 0
    line = "the training set, folder test could not be compared"
    assert line in capsys.readouterr().out
    assert main([*HALF, f"--config.data.data_dir={folder}/photos"]) == 7
    assert "could not be compared" in capsys.readouterr().err
    assert main(HALF) == 0
    assert line in capsys.readouterr().out
    swap(folder / "photos" / "train")
    assert main(EVALUATE) == 7


def test_what_is_left_out_is_counted_at_the_start_and_named_by_the_doctor(
    folder, capsys
):
    train = folder / "photos" / "train"
    (train / "empty").mkdir()
    (train / "dark" / "a.gif").write_bytes(b"GIF")
    (train / "grey" / "out.png").symlink_to("/etc/passwd")
    assert main(HALF) == 0
    text = (
        "folder photos/train: left out 1 x link that leads out of the data, 1 x class "
        "folder without an image, 1 x suffix that is not read (.gif)"
    )
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if "left out" in line)
    assert sorted(line.partition("; jaxssl")[0].split(", ")) != []
    assert set(text.split("left out ")[1].split(", ")) == set(
        line.split("left out ")[1].partition("; jaxssl")[0].split(", ")
    )
    assert main(EVALUATE) == 0
    assert line in capsys.readouterr().out
    assert main(["data", "doctor", "--config=photos.py"]) == 0
    out = capsys.readouterr().out
    assert "  dark/a.gif: suffix .gif\n" in out
    assert "  empty: class folder without an image\n" in out
    assert "  grey/out.png: link that leads out of the data\n" in out


def test_class_lists_are_compared_whole(folder, capsys, caplog):
    test = folder / "photos" / "test"
    picture(test / "white" / "0.png", 200)
    assert main(HALF) == 2
    assert "classes that folder photos/train lacks: 'white'" in capsys.readouterr().err
    shutil.rmtree(test / "white")
    shutil.rmtree(test / "grey")
    assert main(HALF) == 2
    err = capsys.readouterr().err
    assert "means 'grey' and 'light'; the first alone has grey" in err
    shutil.rmtree(test / "light")
    assert main(HALF) == 7  # Other test pictures than before.
    line = "folder photos/test has no image of grey; light, which folder photos/train"
    assert line in caplog.text


MISTAKES = {
    "data doctor folder --data_dir=photos --split=..": "name of a split",
    "data doctor folder --data_dir=photos --split=../photos": "name of a split",
    "data doctor fashion_mnist_10k --load_size=3": "no option 'load_size'",
    "data doctor folder --data_dir=photos --load_size=0": "load_size",
    "data list --load_size=3": "--load_size is for data doctor; data list does",
    "data prepare fashion_mnist_10k --split=test": "--split is for data doctor;",
    "data doctor --config=photos.py --split=test": "--split is for doctor NAME;",
    "data doctor folder --data_dir=photos --config.seed=3": "--config.seed=3",
    "data list --config.seed=3": "--config.seed=3",
    "data doctor folder --data_dir=nowhere": "nowhere (relative to ",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_of_the_verb_data_is_one_line(folder, capsys, line):
    assert main(line.split()) == 2
    err = capsys.readouterr().err
    assert MISTAKES[line] in err
    assert err.count("\n") == 1


def test_the_doctor_takes_the_options_of_a_data_set(folder, capsys):
    picture(folder / "photos" / "train" / "dark" / "wide.png", 3)
    Image.new("RGBA", (9, 5)).save(folder / "photos" / "train" / "dark" / "wide.png")
    words = ["data", "doctor", "folder", "--data_dir=photos"]
    assert main(words) == 0
    assert "12 of 13 records readable" in capsys.readouterr().out
    assert main([*words, "--load_size=4"]) == 0
    out = capsys.readouterr().out
    assert "13 of 13 records readable" in out
    assert "alpha is dropped: 1 records" in out
    np.savez("x.npz", pictures=np.zeros((2, 4, 4, 3), np.uint8), label=np.arange(2))
    words = ["data", "doctor", "npz", "--data_dir=x.npz", "--image_key=pictures"]
    assert main(words) == 0
    assert "2 of 2 records readable" in capsys.readouterr().out
