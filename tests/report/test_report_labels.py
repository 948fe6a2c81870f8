"""The page of a run that learns from labels: its numbers, curves and weights."""

import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from jaxssl.report import figures, page
from jaxssl.report.sections import labels, weights
from jaxssl.run import read as reader
from tests.report.test_report_page import read
from tests.report.workdirs import label_config, label_log, put, start

BILEVEL = {"labels": 0.4975, "true_labels": 0.8404, "memorized": 0.0866}
SGD = {"labels": 0.9672, "true_labels": 0.5231, "memorized": 0.9374}


def finish(workdir, *, last, fit, step=400):
    put(workdir / "evals", "test", {"accuracy": last}, step=step)
    put(workdir / "evals", "train", fit, step=step)
    (workdir / "run.json").write_text('{"command": "jaxssl train"}')
    return workdir


@pytest.fixture
def bilevel(tmp_path):
    workdir = start(tmp_path / "bilevel", **label_config("bilevel"))
    label_log(workdir, tests=(0.1, 0.7, 0.81, 0.8, 0.796), fit=BILEVEL, bilevel=True)
    return finish(workdir, last=0.796, fit=BILEVEL)


@pytest.fixture
def sgd(tmp_path):
    workdir = start(tmp_path / "sgd", **label_config("sgd"))
    label_log(workdir, tests=(0.1, 0.79, 0.7, 0.6, 0.531), fit=SGD, bilevel=False)
    return finish(workdir, last=0.531, fit=SGD)


def test_last_and_best_stand_side_by_side_with_the_fit(bilevel):
    _, seen = read(page.write(bilevel))
    assert (
        "Trained by bilevel learning with 50 % of the labels replaced by other "
        "classes, the network gets 79.6 % of held-out images right after the last "
        "epoch, 1.4 points below its best (81.0 % at step 200). It repeats 8.7 % of "
        "the wrong labels: such an image gets its true label more often than the wrong "
        "one, so the network learned the classes rather than the noise." in seen.text
    )
    tiles = ["79.6 % test, last epoch", "81.0 % test, best epoch (step 200)"]
    tiles += ["49.8 % fit of the labels", "84.0 % fit of the true labels"]
    tiles += ["8.7 % wrong labels repeated"]
    assert [tile for tile in tiles if tile not in seen.text] == []
    assert "training images and the test is +4.4 points" in seen.text
    assert "up to 2,000 images" in seen.text


def test_memorised_noise_is_called_so(sgd):
    _, seen = read(page.write(sgd))
    assert "25.9 points below its best (79.0 % at step 100)" in seen.text
    assert "wrong label at least as often as its true one" in seen.text
    assert "memorised the noise" in seen.text


def test_the_meaning_is_that_of_counted_answers():
    """Against counting: which answer is more frequent where the label is wrong."""
    rng = np.random.default_rng(0)
    for says_true in (0.1, 0.4, 0.6, 0.9):
        true = rng.integers(0, 10, 5000)
        wrong = rng.random(5000) < 0.4
        given = np.where(wrong, (true + 1) % 10, true)
        answer = np.where(rng.random(5000) < says_true, true, given)
        found = {
            "labels": (answer == given).mean(),
            "true_labels": (answer == true).mean(),
            "memorized": (answer == given)[wrong].mean(),
        }
        resisted = (answer == true)[wrong].sum() > (answer == given)[wrong].sum()
        assert ("rather than the noise" in labels._meaning(found)) == resisted


@pytest.mark.parametrize("other", ["bilevel", "sgd"])
def test_nothing_of_chapter_4_is_on_the_page(bilevel, sgd, drawn, other):
    text, seen = read(page.write({"bilevel": bilevel, "sgd": sgd}[other]))
    assert "not run" not in seen.text.replace("marked “not run”", "")
    for word in ("probe", "untrained", "random init", "Beside the thesis", "filters"):
        assert word not in seen.text.lower(), word
    assert [name for name in re.findall(r'<section id="(\w+)"', text)] == [
        name
        for name in ("labels", "weights", "curves", "facts")
        if name != "weights" or other == "bilevel"
    ]
    assert ("Which mini-batches counted" in seen.text) == (other == "bilevel")
    targets = {attrs["href"][1:] for attrs in seen.all("a")}
    assert targets == set(re.findall(r'<section id="(\w+)"', text))
    numbers = [int(n) for n in re.findall(r"Figure (\d+)\.(?!\d)", seen.text)]
    assert numbers == list(range(1, len(numbers) + 1))
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        xml.etree.ElementTree.fromstring(drawing)
        assert "#01" not in drawing


def test_a_further_evaluation_asks_nothing_of_the_untrained_network(bilevel):
    put(bilevel / "evals", "predictions", {"noise": 0.2125})
    _, seen = read(page.write(bilevel))
    assert "predictions, after 1,200 steps. metric This run noise 21.2 %" in seen.text
    assert "Random init" not in seen.text


def test_weights_are_told_in_numbers(bilevel):
    _, seen = read(page.write(bilevel))
    assert "Their gradients are ascended. Last: 25.0 %." in seen.text
    assert "Last: right label 0.11, wrong label 0.08, plain mean 0.1429." in seen.text
    assert "Dotted: 0.143" in seen.text
    assert "Steps without weights" not in seen.text  # There were none.


def test_clean_labels_have_no_curve_of_wrong_ones(tmp_path):
    config = label_config("bilevel", noise={"kind": "none", "rate": 0.0})
    workdir = start(tmp_path / "run", **config)
    fit = {"labels": 0.862}
    label_log(workdir, tests=(0.1, 0.8, 0.82), fit=fit, bilevel=True, clean=True)
    _, seen = read(page.write(finish(workdir, last=0.82, fit=fit, step=200)))
    assert "Trained by bilevel learning, the network gets 82.0 %" in seen.text
    assert "at step 200 of 400, its best. It fits 86.2 % of its" in seen.text
    assert "+4.2 points the fit of training labels over the test" in seen.text
    for word in ("wrong label", "right label", "true label", "repeated"):
        assert word not in seen.text
    assert "Negative weights" in seen.text


def test_other_runs_and_stored_rows_stand_beside(bilevel, sgd, tmp_path):
    same = label_config("ghost")
    longer = label_config("sgd")
    longer["train"] = {"num_steps": 800, "batch_size": 64}
    other = label_config("sgd", noise={"kind": "symmetric", "rate": 0.2})
    rows = [
        stored_row("Ghost batches", 0.7153, same),
        stored_row("Longer SGD", 0.4321, longer),
        stored_row("Less noise", 0.8888, other),
        {**stored_row("One run", 0.2345, same), "seeds": [0]},
    ]
    file = tmp_path / "table_8_1_cpu.json"
    more = {"hardware": "2 cores", "date": "2026-11-20"}
    file.write_text(json.dumps({"rows": rows, **more}))
    empty = start(tmp_path / "empty", **label_config("sgd"))
    logged = start(tmp_path / "logged", **other)
    label_log(logged, tests=(0.1, 0.64), fit=SGD, bilevel=False)
    runs = {"SGD here": sgd, "Not yet": empty, "Unlike": logged}
    _, seen = read(page.write(bilevel, baselines=runs, stored=[file]))
    table = seen.text.split("Table 1.")[1]
    assert "This run measured in this workdir 79.6 81.0 49.8 84.0 8.7" in table
    assert f"SGD here measured in {sgd} 53.1 79.0 96.7 52.3 93.7" in table
    assert f"Not yet not run: jaxssl evaluate --workdir={empty}" in table
    unlike = "as logged during training; other data, noise, views or network 64.0 64.0"
    assert f"Unlike measured in {logged}, {unlike}" in table
    told = "Ghost batches stored, measured on 2 cores, 2026-11-20, 3 seeds 71.5 ± 0.5"
    assert told in table
    assert "3 seeds; another length: 800 steps of 64 images 43.2 ± 0.5" in table
    assert "1 seed 23.4 90.0 50.0" in table  # Its zero spread says nothing.
    assert "Less noise" not in seen.text
    assert "1 stored row is not shown" in table
    assert "The test of each run over its steps" in seen.text


def stored_row(name, last, config):
    """A row in the form of experiments/labels.py."""
    accuracy = {"last": [last, 0.005], "best": [0.9, 0.001], "labels": [0.5, 0.01]}
    settings = {**config, "data": {"name": config["data"]}}
    return {
        "name": name,
        "seeds": [0, 1, 2],
        "accuracy": accuracy,
        "config": {"file": "x.py:mlp", "overrides": [], "seed0": settings},
    }


def test_half_a_run_shows_what_was_logged(tmp_path):
    workdir = start(tmp_path / "run", **label_config("sgd"))
    _, seen = read(page.write(workdir))
    assert "has not been measured yet" in seen.text
    label_log(workdir, tests=(0.1, 0.79, 0.7), fit=SGD, bilevel=False)
    _, seen = read(page.write(workdir))
    assert "gets 70.0 % of held-out images right at step 200 of 400" in seen.text
    command = f"jaxssl evaluate --workdir={workdir} --evals=test,train --norandom_init"
    assert f"not run: {command}" in seen.text


def test_the_fit_can_be_known_before_the_test(tmp_path):
    workdir = start(tmp_path / "run", **label_config("sgd"))
    put(workdir / "evals", "train", SGD)
    _, seen = read(page.write(workdir))
    assert "has not been measured yet" in seen.text
    assert "96.7 % fit of the labels" in seen.text
    assert "test, best epoch" not in seen.text


def test_several_labels_an_image_have_a_precision(tmp_path):
    config = label_config("bilevel", noise={"kind": "none", "rate": 0.0})
    config["method"]["labels"] = "attributes"
    workdir = start(tmp_path / "run", **config)
    put(workdir / "evals", "test", {"precision": 0.61}, step=400)
    put(workdir / "evals", "train", {"precision": 0.7}, step=400)
    _, seen = read(page.write(workdir))
    assert "reaches a mean average precision of 61.0 % on held-out images" in seen.text
    assert "It fits 70.0 % of its training labels." in seen.text


def cells(drawing):
    """Read the colours of the cells back: fill and opacity, in drawing order."""
    group = drawing.split('id="weights-cells"')[1].split("</g>")[0]
    found = []
    for style in re.findall(r'style="([^"]*)"', group):
        fill = re.search(r"fill: var\((--c\d)\)", style)[1]
        opacity = re.search(r"opacity: ([\d.]+)", style)
        found.append((fill, float(opacity[1]) if opacity else 1.0))
    return found


def test_the_heat_map_turns_at_zero_and_fades_with_the_share(drawn):
    shares = np.zeros((20, 2))
    shares[[9, 10, 12], 0] = 0.16, 0.64, 0.2
    shares[[0, 19], 1] = 0.04, weights.LEAST / 2
    shares[11, 1] = 0.96 - weights.LEAST / 2
    drawing = weights.heat_map(np.array([5, 10]), shares, level=1 / 7)
    most = shares.max()
    expected = [
        ("--c1" if i < 10 else "--c0", round(np.sqrt(shares[i, j] / most), 2))
        for i, j in np.argwhere(shares >= weights.LEAST)
    ]
    assert sorted(cells(drawing)) == sorted(expected)


def test_many_intervals_are_averaged(drawn):
    steps = np.arange(1, 401)
    shares = np.zeros((20, 400))
    shares[10] = np.where(steps % 5 == 0, 1.0, 0.5)
    shares[9] = 1.0 - shares[10]
    drawing = weights.heat_map(steps, shares, level=None)
    found = cells(drawing)
    assert len(found) == 2 * 80
    assert {c for c in found} == {("--c0", 1.0), ("--c1", round((0.4 / 0.6) ** 0.5, 2))}


def test_the_best_is_that_of_one_curve(bilevel):
    assert labels.best(reader.read(bilevel)) == (200, 0.81)
    put(bilevel / "evals", "test", {"accuracy": 0.85}, step=400)  # Of more images.
    run = reader.read(bilevel)
    assert labels.best(run) == (200, 0.81)
    _, seen = read(page.write(bilevel))
    assert "85.0 % of held-out images right after the last epoch. It" in seen.text
    (bilevel / "metrics.jsonl").unlink()
    assert labels.best(reader.read(bilevel)) == (400, 0.85)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"learner": {"name": "ghost"}}, True),
        ({"data": {"name": "a", "data_dir": "/elsewhere", "num_train": 10}}, True),
        ({"data": {"name": "a", "data_dir": "/here", "num_train": 20}}, False),
        ({"data": {"name": "b", "data_dir": "/here", "num_train": 10}}, False),
        ({"data": {"name": "a", "num_train": 10, "preset": "tiny"}}, False),
        ({"percent": 20}, False),
        ({"noise": {"kind": "predicted", "file": "there.npz"}}, True),
        ({"noise": {"kind": "symmetric", "file": "here.npz"}}, False),
    ],
)
def test_a_task_is_the_data_and_not_where_they_lie(change, same):
    ours = {
        "data": {"name": "a", "data_dir": "/here", "num_train": 10},
        "percent": 10,
        "noise": {"kind": "predicted", "file": "here.npz"},
        "learner": {"name": "sgd"},
    }
    assert labels._is_same_task(ours, {**ours, **change}) == same


def test_one_drawing_fits_a_phone():
    assert figures.MIDDLE[0] * 72 <= 420
