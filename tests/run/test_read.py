"""The reader of a workdir: files of this version and of 0.1, whole and damaged."""

import io
import json

import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.run import metrics, read
from jaxssl.types import Metric


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {"seed": 3}, "variant": null}')
    (tmp_path / "evals" / "random_init").mkdir(parents=True)
    return tmp_path


def store(folder, name, body, **arrays):
    (folder / "evals" / f"{name}.json").write_text(json.dumps(body))
    np.savez(folder / "evals" / f"{name}.npz", **arrays)


def log(folder, *records):
    (folder / metrics.JSONL).write_text("".join(f"{json.dumps(r)}\n" for r in records))


def test_metrics_come_back_with_all_that_was_stored(folder):
    full = {"value": 0.5, "unit": "m", "higher_is_better": False}
    full |= {"chance": 2.0, "spread": 0.25}
    body = {"step": 7, "seconds": 1.5, "metrics": {"a": full, "b": {"value": 3}}}
    store(folder, "pose", body, x=np.arange(3))
    run = read.read(folder)
    pose = run.evals["pose"]
    assert pose.metrics == {"a": Metric(0.5, "m", False, 2.0, 0.25), "b": Metric(3.0)}
    assert (pose.step, pose.seconds, pose.problem) == (7, 1.5, "")
    np.testing.assert_array_equal(pose.arrays["x"], [0, 1, 2])
    assert run.config == {"seed": 3}
    assert (run.random_init, run.variant, run.notes) == ({}, "", ())


def test_numbers_of_version_0_1_are_shares_where_they_were(folder):
    scalars = {"conv5": 0.5, "conv5_sd": 0.25, "alone_sd": 0.125}
    store(folder, "few_shot", {"step": 1, "scalars": scalars})
    store(folder, "of_a_user", {"step": 1, "scalars": {"error": 0.5}})
    run = read.read(folder)
    assert run.evals["few_shot"].metrics == {
        "conv5": Metric(0.5, "share", spread=0.25),
        "alone_sd": Metric(0.125, "share"),
    }
    assert run.evals["of_a_user"].metrics == {"error": Metric(0.5)}


@pytest.mark.parametrize("stored", [None, {"probe/conv5": "share", "test/error": "m"}])
def test_units_of_the_log_are_stored_or_those_of_the_contract(folder, stored):
    row = {"acc/a": 0.5, "loss/a": 0.5, "probe/conv5": 0.5, "test/error": 0.5}
    row |= {"speed/images_per_second": 0.5, "speed/input_wait_share": 0.5}
    log(folder, {"step": 1, **row})
    if stored is not None:
        (folder / metrics.UNITS).write_text(json.dumps(stored))
    units = {name: series.unit for name, series in read.read(folder).series.items()}
    assert units == {
        "acc/a": "share",
        "loss/a": "",
        "probe/conv5": "share",
        "test/error": "share" if stored is None else "m",
        "speed/images_per_second": "images/s",
        "speed/input_wait_share": "share",
    }


@pytest.mark.parametrize("old", [False, True])
def test_a_new_run_needs_no_evaluation_to_be_told_from_one_of_0_1(folder, old):
    if old:
        log(folder, {"step": 1, "test/error": 2.0})
    options = {"first_step": 1, "total": 9, "stream": io.StringIO()}
    with metrics.open_writer(folder, **options) as writer:
        metrics.write(writer, 2, {"test/error": 3.0})
    unit = read.read(folder).series["test/error"].unit
    assert unit == ("share" if old else "")


def test_a_step_logged_twice_counts_once(folder):
    log(
        folder,
        {"step": 1, "loss/a": 3.0},
        {"step": 3, "loss/a": 9.0},
        {"step": 2, "loss/a": None, "acc/b": 0.5},
        {"step": 3, "loss/a": 1.0},
    )
    series = read.read(folder).series
    assert series["loss/a"].steps.tolist() == [1, 3]
    assert series["loss/a"].values.tolist() == [3.0, 1.0]
    assert series["acc/b"].values.tolist() == [0.5]


def test_what_cannot_be_read_is_named_and_the_rest_is_there(folder):
    log(folder, {"step": 1, "loss/a": 3.0}, [1], {"step": None}, {"loss/a": 2.0})
    with (folder / metrics.JSONL).open("ab") as file:
        file.write(b'\xff\xfe\n{"step": 9, "loss/a')
    (folder / "run.json").write_text("[]")
    (folder / metrics.UNITS).write_text("{")
    store(folder, "knn", {"metrics": {"k1": {"value": None}, "k5": {"value": 0.5}}})
    store(folder, "test", {})
    (folder / "evals" / "test.json").write_text("{")
    (folder / "evals" / "pretext.npz").write_bytes(b"PK\x03\x04 no archive")
    (folder / "evals" / "random_init" / "fid.json").write_text("{}")
    run = read.read(folder)
    assert run.notes == (
        "metrics.jsonl: 5 unreadable line(s) left out",
        "metric_units.json is unreadable: it is no JSON",
        "run.json is unreadable: it holds no JSON object",
        "knn: k1 has no number",
        "pretext: pretext.json is missing; pretext.npz is unreadable: it is a damaged "
        "archive",
        "test: test.json is unreadable: it is no JSON",
        "random_init/fid: fid.npz is missing",
    )
    assert run.series["loss/a"].values.tolist() == [3.0]
    assert run.evals["knn"].metrics == {"k5": Metric(0.5)}


def test_pickled_arrays_are_not_loaded(folder):
    store(folder, "pose", {}, x=np.array([{"a": 1}], object))
    pose = read.read(folder).evals["pose"]
    assert (pose.arrays, pose.problem) == (
        {},
        "pose.npz is unreadable: it has an array without a readable header",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "config.json is missing"), ("{", "is not a readable JSON object")],
)
def test_a_folder_that_is_no_workdir_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=words):
        read.read(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        read.read(tmp_path / "absent")
