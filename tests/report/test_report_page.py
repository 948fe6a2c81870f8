"""The page as a whole: what it must contain, and what it must never do."""

import html.parser
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from jaxssl.errors import UserError
from jaxssl.report import page
from tests.report.workdirs import (
    CLASSES,
    KS,
    LAYERS,
    OURS,
    RANDOM,
    fill,
    gan,
    put,
    put_metrics,
    start,
)

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Collects elements and text; ``open`` is empty at the end if all were closed."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        text = " ".join(self.words).replace("\N{EN DASH}", "-")
        return re.sub(r"\s+", " ", text.replace("\xa0", " "))

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


def read(path):
    text = path.read_text("utf-8")
    seen = Page(text)
    assert seen.open == []
    return text, seen


ASKED = ("linear_probe", "knn", "retrieval", "filters", "shortcut", "pretext")


@pytest.fixture
def workdir(tmp_path):
    return fill(start(tmp_path / "run"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """The page of a run that has all evaluations of chapter 4: text, parsed."""
    return read(page.write(fill(start(tmp_path_factory.mktemp("full") / "run"))))


def test_full_page_says_what_was_learned(full):
    _, seen = full
    assert (
        "By learning to tell 5 image transformations apart (72.6 % right), without any "
        "label, the network found features from which a linear probe gets 61.5 % "
        "(conv4) and 60.1 % (conv5) of held-out images right: 18.7 and 20.9 points "
        "above what the same network reaches untrained." in seen.text
    )
    assert "chance 20 %" in seen.text
    assert "not run" not in seen.text.split("Beside the thesis")[1].split("Random")[0]


def test_full_page_contains_each_number(full):
    _, seen = full
    wanted = [f"{100 * x:.1f}" for x in (*OURS, *RANDOM)]
    wanted += ["+13.6", "+14.4", "+17.9", "+18.7", "+20.9"]  # gaps to random init
    wanted += [f"{100 * (0.5 + 0.001 * k):.1f}" for k in KS]
    wanted += [f"{100 * (0.375 + 0.001 * k):.1f}" for k in KS]
    wanted += ["31.2 ± 1.6", "18.8 ± 1.6", "43.8", "31.2"]  # few-shot, retrieval
    wanted += ["86.5 %", "at least 75 %", "51.2 %", "at most 45 %"]
    wanted += ["Median 320", "Mean 1.2 %", "classifier 1"]
    wanted += ["warp taken for none (30.0 %)"]
    assert [number for number in wanted if number not in seen.text] == []


def test_full_page_says_what_was_run(full):
    text, seen = full
    assert "jaxssl train --config=configs/a.py '--workdir=my runs/a'" in seen.text
    assert "1,200 of 1,200" in seen.text
    assert "Time in training steps 2 min 00 s" in seen.text
    assert "git c57a627f3e1a with uncommitted changes" in seen.text
    assert "jax 0.10.2" in seen.text
    assert "method.warp_magnitude 0.125" in seen.text
    assert "Restarts 1" in seen.text
    assert "secret-host" not in text


def test_nothing_is_loaded_from_elsewhere(full):
    text, seen = full
    for tag, attrs in seen.elements:
        assert tag not in (
            "script",
            "link",
            "iframe",
            "object",
            "embed",
            "image",
            "base",
        )
        for name, value in attrs.items():
            if name in ("src", "href", "xlink:href", "srcset", "poster", "data"):
                assert value.startswith(("data:image/png;base64,", "#")), (tag, name)
            assert not name.startswith("on")
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert any("default-src 'none'" in a.get("content", "") for a in seen.all("meta"))


def test_it_can_be_read_without_eyes_or_colours(full):
    text, seen = full
    assert seen.all("html") == [{"lang": "en"}]
    assert len(seen.all("img")) > 30
    assert all(attrs.get("alt") for attrs in seen.all("img"))
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 6
    for drawing in drawings:
        root = xml.etree.ElementTree.fromstring(drawing)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]
        assert "#01" not in drawing  # Every placeholder became a variable of the page.
    assert seen.text.count("✓") == 2 * 8 + 1
    assert seen.text.count("✗") == 2 * 4 + 1
    ids = [attrs["id"] for _, attrs in seen.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"][1:] for attrs in seen.all("a")}
    assert targets <= set(ids)


def test_spreads_are_no_results_and_numbers_in_names_are_numbers(tmp_path):
    workdir = start(tmp_path / "run")
    row = {"acc/rot180": 0.1, "acc/rot90": 0.2, "acc/none": 0.3}
    row |= {"probe/conv10": 0.4, "probe/conv2": 0.5, "probe/conv2_sd": 0.01}
    (workdir / "metrics.jsonl").write_text(json.dumps({"step": 1, **row}) + "\n")
    _, seen = read(page.write(workdir))
    assert "Last: none 30.0 %, rot90 20.0 %, rot180 10.0 %." in seen.text
    assert "Last: conv2 50.0 %, conv10 40.0 %." in seen.text
    assert "conv2_sd" not in seen.text


def test_neighbours_with_the_same_label_are_counted_in_words(full):
    _, seen = full
    told = "Same label as the query: 8 of the 12 neighbours below; {} % over all images"
    assert told.format("43.8") in seen.text
    assert told.format("31.2") in seen.text


def test_the_searched_set_is_named(workdir):
    assert (
        "searched: the training set (version 0.1)." in read(page.write(workdir))[1].text
    )
    path = workdir / "evals" / "retrieval.npz"
    with np.load(path) as arrays:
        np.savez(path, **(dict(arrays) | {"database": np.array("stl10 test")}))
    assert "searched: stl10 test." in read(page.write(workdir))[1].text


def test_settings_that_differ_from_the_run_are_named(workdir):
    path = workdir / "evals" / "retrieval.json"
    body = json.loads(path.read_text())
    body["changed"] = ["--config.eval.retrieval.database=train"]
    path.write_text(json.dumps(body))
    text = read(page.write(workdir))[1].text
    told = "retrieval was measured with eval.retrieval.database=train, unlike the"
    assert text.count(told) == text.count("was measured with") == 1


def test_figures_and_tables_are_numbered_through(full):
    _, seen = full
    for kind, least in (("Figure", 7), ("Table", 4)):
        numbers = [int(n) for n in re.findall(rf"{kind} (\d+)\.(?!\d)", seen.text)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= least


def test_equal_input_gives_an_equal_file(workdir, drawn):
    first = page.write(workdir).read_bytes()
    assert page.write(workdir).read_bytes() == first
    assert sorted(p.name for p in workdir.iterdir() if "report" in p.name) == [
        "report.html"
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_run_of_several_processes_says_how_to_start_them(workdir, count):
    path = workdir / "run.json"
    info = json.loads(path.read_text())
    info["devices"]["processes"] = count
    path.write_text(json.dumps(info))
    _, seen = read(page.write(workdir))
    assert ("It was one of 2 processes" in seen.text) == (count == 2)
    assert ("--process_id" in seen.text) == (count == 2)


def test_half_a_run_names_the_command_for_what_its_config_asks(tmp_path):
    asked = {name: {} for name in (*ASKED, "features", "online")}
    workdir = start(tmp_path / "run", eval=asked)
    _, seen = read(page.write(workdir))
    for name in ASKED:
        assert f"jaxssl evaluate --workdir={workdir} --evals={name}" in seen.text
    assert "--evals=features" not in seen.text
    train = f"not run: jaxssl train --config=configs/a.py --workdir={workdir}"
    assert seen.text.count(train) == 2
    assert "has not been measured yet" in seen.text
    without_thesis = re.sub("Beside the thesis.*Training", "", seen.text)
    assert not re.search(r"\d\d\.\d", without_thesis)
    assert seen.all("img") == []


def test_what_a_config_does_not_ask_for_is_not_named(tmp_path):
    workdir = start(tmp_path / "run", eval={"knn": {}, "online": {}})
    text, seen = read(page.write(workdir))
    assert re.findall(r'<section id="([\w-]+)"', text) == [
        "knn", "thesis", "curves", "facts",
    ]  # fmt: skip
    assert seen.text.count("jaxssl evaluate") == 2  # Once for all, once for this.


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("evals/knn.json", "knn: knn.json is missing"),
        ("evals/pretext.npz", "pretext: pretext.npz is missing"),
        ("evals/random_init/retrieval.npz", "The same queries with random init - not"),
        ("evals/random_init/filters.npz", "The filters before training - not run:"),
        ("evals/random_init/knn.*", "random init, held-out not run: jaxssl evaluate"),
        ("evals/random_init/linear_probe.*", "Random init not run: jaxssl evaluate"),
        ("metrics.jsonl", "The training log (metrics.jsonl) - not run:"),
        ("run.json", "The record of the run (run.json) - not run:"),
    ],
)
def test_each_piece_can_be_missing_alone(workdir, lost, words):
    for path in workdir.glob(lost):
        path.unlink()
    assert words in read(page.write(workdir))[1].text


def test_a_run_of_version_0_1_has_the_same_page(workdir):
    page.write(workdir)
    text = (workdir / "report.html").read_text()
    for path in workdir.glob("evals/**/*.json"):
        body = json.loads(path.read_text())
        metrics = body.pop("metrics")
        body["scalars"] = {name: metrics[name]["value"] for name in metrics}
        for name, fields in metrics.items():
            if "spread" in fields:
                body["scalars"][f"{name}_sd"] = fields["spread"]
        path.write_text(json.dumps(body))
    assert page.write(workdir).read_text() == text


def test_a_gan_is_not_told_to_run_what_it_does_not_have(tmp_path):
    text, seen = read(page.write(gan(tmp_path / "run")))
    assert re.findall(r'<section id="([\w-]+)"', text) == [
        "evaluation-fid", "evaluation-samples", "curves", "facts",
    ]  # fmt: skip
    assert "not run" not in seen.text.replace("marked “not run”", "")
    for word in ("jaxssl evaluate", "thesis", "Table 4.2", "probe", "random init"):
        assert word not in seen.text
    assert "After 1,200 steps: fid 41.2." in seen.text
    assert "fid 41.2 lower" in seen.text
    assert "Last: discriminator 75.0 %." in seen.text
    assert "Last: gradient 0.25." in seen.text
    assert [attrs["alt"] for attrs in seen.all("img")] == ["samples: images, this run"]


def test_another_pretext_task_is_not_told_as_chapter_4(workdir):
    arrays = dict(np.load(workdir / "evals" / "pretext.npz"))
    arrays["names"] = np.array([f"quadrant {i}" for i in range(len(CLASSES))])
    put(workdir / "evals", "pretext", {"accuracy": 0.7256}, arrays)
    _, seen = read(page.write(workdir))
    for words in ("image transformations apart", "Beside the thesis", "flip"):
        assert words not in seen.text
    assert "72.6" in seen.text


def test_units_are_those_of_the_files(tmp_path):
    workdir = start(tmp_path / "run", method={"name": "pose"}, eval={"pose": {}})
    error = {"value": 0.081, "unit": "m", "higher_is_better": False, "spread": 0.002}
    recall = {"value": 0.5, "unit": "share", "chance": 0.1, "higher_is_better": True}
    plain = {"value": 0.75}
    put_metrics(
        workdir / "evals", "pose", {"mpjpe_m": error, "recall": recall, "r": plain}
    )
    bare = {"mpjpe_m": {"value": 0.25, "unit": "m"}}
    put_metrics(workdir / "evals" / "random_init", "pose", bare)
    other = start(tmp_path / "other")
    put_metrics(other / "evals", "pose", {"mpjpe_m": {"value": 0.5, "unit": "m"}})
    row = {"loss/pose": 0.5, "online/mpjpe": 0.125, "online/recall": 0.5, "x/y": 0.5}
    (workdir / "metrics.jsonl").write_text(json.dumps({"step": 9, **row}) + "\n")
    units = {"online/mpjpe": "m", "online/recall": "share"}
    (workdir / "metric_units.json").write_text(json.dumps(units))
    _, seen = read(page.write(workdir, baselines={"plain": other}))
    table = seen.text.split("metric This run Random init plain chance better")[1]
    assert table.startswith(
        " mpjpe_m 0.081 ± 0.002 m 0.25 m 0.5 m lower"
        " recall 50.0 % - - 10.0 % higher r 0.75 - -"
    )
    for last in ("pose 0.5.", "mpjpe 0.125 m.", "recall 50.0 %.", "y 0.5."):
        assert f"Last: {last}" in seen.text
    assert "8.1 %" not in seen.text


def test_shares_have_a_section_where_other_units_have_a_table(tmp_path):
    """A probe of a regression is no accuracy: nothing is multiplied by 100."""
    workdir = start(tmp_path / "run", method={"name": "pose"})
    errors = {
        "conv1": {"value": 0.5, "unit": "m"},
        "conv2": {"value": 0.25, "unit": "m"},
    }
    put_metrics(workdir / "evals", "linear_probe", errors)
    text, seen = read(page.write(workdir))
    assert 'id="evaluation-linear-probe"' in text
    assert "conv1 0.5 m conv2 0.25 m" in seen.text
    assert "50.0" not in seen.text


def test_damaged_files_are_named_and_the_rest_is_shown(workdir):
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"step": 9, "loss/classi')
    (workdir / "evals" / "knn.json").write_text("{")
    (workdir / "evals" / "pretext.npz").write_bytes(b"PK\x03\x04 no archive")
    (workdir / "run.json").write_text("[]")
    _, seen = read(page.write(workdir))
    assert "metrics.jsonl: 2 unreadable line(s)" in seen.text
    assert "knn: knn.json is unreadable" in seen.text
    assert "pretext: pretext.npz is unreadable" in seen.text
    assert "run.json is unreadable" in seen.text
    assert "61.5" in seen.text


def test_hostile_text_stays_text(tmp_path, drawn):
    evil = "</style><script>alert('x')</script>\"'&$\\frac{"
    workdir = fill(start(tmp_path / "run", **{evil: evil}))
    arrays = dict(np.load(workdir / "evals" / "pretext.npz"))
    arrays["names"] = np.array([evil, *CLASSES[1:]])
    put(workdir / "evals", "pretext", {"accuracy": 0.5}, arrays)
    put(workdir / "evals", evil.replace("/", ""), {evil: 0.5})
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 1500, f"loss/{evil}": 1.0}) + "\n")
    stored = tmp_path / "stored.json"
    row = {"name": evil, "measured_on": evil, "linear_probe": {"conv1": 0.5}}
    stored.write_text(json.dumps(row))
    text, seen = read(page.write(workdir, stored=[stored], baselines={evil: workdir}))
    assert "script" not in {tag for tag, _ in seen.elements}
    assert "<script" not in text
    assert evil in seen.text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        xml.etree.ElementTree.fromstring(drawing)


def test_baselines_stand_beside_with_their_source(workdir, tmp_path):
    other = start(tmp_path / "supervised")
    put(other / "evals", "linear_probe", {"conv4": 0.7012, "conv5": 0.6984})
    empty = start(tmp_path / "empty")
    stored = tmp_path / "stored.json"
    rows = [{"name": "rotations", "linear_probe": {"conv4": [0.5972, 0.005]}}]
    more = {"rows": rows, "hardware": "2 cores", "date": "20 Nov 2026", "seeds": [0, 1]}
    stored.write_text(json.dumps(more))
    baselines = {"supervised": other, "warp only": empty}
    _, seen = read(page.write(workdir, baselines=baselines, stored=[stored]))
    assert f"supervised measured in {other}" in seen.text
    assert "70.1 +27.3" in seen.text
    assert f"not run: jaxssl evaluate --workdir={empty}" in seen.text
    assert "rotations stored, measured on 2 cores, 20 Nov 2026, 2 seeds" in seen.text
    assert "59.7 ± 0.5 +16.9" in seen.text


def test_cpu_sized_numbers_are_not_put_beside_the_thesis(full):
    _, seen = full
    thesis = seen.text.split("Beside the thesis")[-1].split("few shot")[0]
    assert "does not reproduce any of these rows" in thesis
    assert "“Rot + Warp”" in thesis
    assert thesis.count("not run") == 8 + 1  # one in the text
    assert not any(word in thesis for word in ("pass", "gap"))
    assert "61.5" not in thesis


def test_stl10_rows_pass_or_show_their_gap(tmp_path):
    workdir = fill(start(tmp_path / "run", data="tfds:stl10"))
    good = dict(zip(LAYERS, (0.565, 0.70, 0.71, 0.70, 0.71), strict=True))
    put(workdir / "evals", "linear_probe", good)
    _, seen = read(page.write(workdir))
    thesis = seen.text.split("Beside the thesis")[-1].split("few shot")[0]
    assert "Random 48.4 ours 47.0 (\N{MINUS SIGN}1.4)" in thesis
    assert "47.9 ours 39.2 (\N{MINUS SIGN}8.7) gap cached probe" in thesis
    assert "Rot + Warp 57.4 ours 56.5 (\N{MINUS SIGN}0.9)" in thesis
    assert "70.6 ours 71.0 (+0.4) pass cached probe" in thesis
    assert thesis.count("not run") == 6 + 2  # two in the text


def test_the_thesis_own_protocol_counts_before_the_cached_probe(tmp_path):
    trained = fill(start(tmp_path / "run", data="tfds:stl10"))
    good = dict(zip(LAYERS, (0.58, 0.70, 0.71, 0.71, 0.71), strict=True))
    probed = {}
    for name, place in (("random", "random"), ("probe", str(trained)), ("gone", "x")):
        method = {"endpoints": LAYERS}
        more = {"init_from": {"classifier": place}, "method": method}
        probed[name] = start(tmp_path / name, data="tfds:stl10", **more)
        put(probed[name] / "evals", "linear_classifiers", good)
    _, seen = read(page.write(trained, baselines=probed))
    table = seen.text.split("Beside the thesis")[-1]
    assert "Random 48.4 ours 58.0 (+9.6)" in table
    assert "70.6 ours 71.0 (+0.4) pass thesis' protocol" in table
    assert table.count("thesis' protocol") == 2
    assert "cached probe" not in table.split("pre-training")[-1]
    _, seen = read(page.write(probed["probe"]))
    table = seen.text.split("Beside the thesis")[-1]
    assert "Rot + Warp 57.4 ours 58.0 (+0.6)" in table
    assert table.count("pass thesis' protocol") == 1


def test_the_config_file_names_the_data_set_if_nothing_else_does(tmp_path):
    file = "configs/transformations_stl10.py"
    workdir = fill(start(tmp_path / "run", data=None, file=file))
    _, seen = read(page.write(workdir))
    assert "does not reproduce any of these rows" not in seen.text
    assert "70.6 ours 60.1" in seen.text


def test_a_supervised_run_has_no_task_to_show(tmp_path):
    workdir = start(tmp_path / "run", method={"name": "classify"})
    put(workdir / "evals", "linear_probe", dict(zip(LAYERS, OURS, strict=True)))
    _, seen = read(page.write(workdir))
    assert "transformation" not in seen.text
    assert "thesis" not in seen.text
    assert "without any label" not in seen.text
    assert "--evals=pretext" not in seen.text
    assert "--evals=shortcut" not in seen.text


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        ((0.1, 0.2), "10.0 and 20.0 points above what"),
        ((-0.1, -0.2), "10.0 and 20.0 points below what"),
        ((0.1, -0.2), "10.0 above and 20.0 points below what"),
        ((0.0, 0.2), "0.0 and 20.0 points above what"),
    ],
)
def test_the_claim_follows_the_numbers(tmp_path, gains, words):
    workdir = start(tmp_path / "run")
    base = {"conv4": 0.4, "conv5": 0.4}
    ours = {layer: 0.4 + g for layer, g in zip(base, gains, strict=True)}
    put(workdir / "evals", "linear_probe", ours)
    put(workdir / "evals" / "random_init", "linear_probe", base)
    assert words in read(page.write(workdir))[1].text


def test_without_random_init_nothing_is_claimed(tmp_path):
    workdir = start(tmp_path / "run")
    put(workdir / "evals", "linear_probe", dict(zip(LAYERS, OURS, strict=True)))
    _, seen = read(page.write(workdir))
    assert "untrained network has not been measured beside it yet" in seen.text
    assert "points above" not in seen.text


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda w: {"workdir": w / "absent"}, "is not a folder"),
        (lambda w: {"baselines": {"a": w / "absent"}}, "is not a folder"),
        (
            lambda w: {"stored": [w / "absent.json"]},
            "absent.json is missing; give a file",
        ),
        (lambda w: {"stored": [w / "metrics.jsonl"]}, "not a readable JSON object"),
        (lambda w: (w / "config.json").unlink(), "config.json is missing"),
        (
            lambda w: (w / "config.json").write_text("{"),
            "is not a readable JSON object",
        ),
        (lambda w: (w / "report.html").mkdir(), "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(workdir, break_it, words):
    given = break_it(workdir)
    before = sorted(p.name for p in workdir.iterdir())
    arguments = {"workdir": workdir, **(given if isinstance(given, dict) else {})}
    with pytest.raises(UserError, match=words) as caught:
        page.write(**arguments)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in workdir.iterdir()) == before
