import io
import json

import pytest

from jaxssl import text
from jaxssl.run import metrics
from jaxssl.types import SHARE, Metric

LINES = [json.dumps({"step": s, "loss/a": float(s)}) + "\n" for s in (1, 2, 2, 3, 5)]


def _kept(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("last", "kept"),
    [(-1, []), (0, []), (2, [1, 2, 2]), (3, [1, 2, 2, 3]), (9, [1, 2, 2, 3, 5])],
)
def test_records_after_a_step_are_cut_off(tmp_path, last, kept):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(LINES))
    assert metrics.repair(path, last) == 5 - len(kept)
    assert _kept(path) == kept


def test_a_log_cut_at_any_byte_is_repaired(tmp_path):
    path, whole = tmp_path / "metrics.jsonl", "".join(LINES).encode()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        metrics.repair(path, 9)
        assert _kept(path) == [1, 2, 2, 3, 5][: whole[:length].count(b"\n")]


@pytest.mark.parametrize("bad", [b"null\n", b"{}\n", b"\xff\xfe\n", b"3\n", b"{\n"])
def test_lines_that_are_no_records_are_dropped(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES[0].encode() + bad + LINES[1].encode())
    assert len(metrics.read(tmp_path)) == 2
    assert metrics.repair(path, 9) == 1
    assert _kept(path) == [1, 2]


def test_a_missing_log_is_empty(tmp_path):
    assert metrics.repair(tmp_path / "metrics.jsonl", 3) == 0
    assert metrics.read(tmp_path) == []


def test_writes_json_and_tensorboard(tmp_path):
    out = io.StringIO()
    with metrics.open_writer(tmp_path, first_step=-1, total=10, stream=out) as writer:
        metrics.write(writer, 2, {"loss/a": 0.5, "acc/b": float("nan")})
        metrics.advance(writer)
    assert metrics.read(tmp_path) == [{"step": 2, "loss/a": 0.5, "acc/b": None}]
    (events,) = (tmp_path / "tb").iterdir()
    assert b"loss/a" in events.read_bytes()
    with metrics.open_writer(tmp_path, first_step=1, total=10, stream=out):
        pass
    assert metrics.read(tmp_path) == []
    assert "cut off what came after step 1 (records: 1)." in out.getvalue()


SCALARS = {
    "acc/a": 0.5,
    "loss/a": 1.25,
    "data/bad_records": 0.0,
    "speed/images_per_second": 812.4,
    "speed/input_wait_share": 0.0149,
}


def test_a_line_reads_well(tmp_path):
    out = io.StringIO()
    with metrics.open_writer(tmp_path, first_step=0, total=300, stream=out) as writer:
        metrics.show(writer, 40, SCALARS, 185.0)
        metrics.show(writer, 300, {**SCALARS, "data/bad_records": 2.0}, 0.0)
    assert out.getvalue().splitlines() == [
        "step  40/300  loss: a 1.250  acc: a 50.0%  812 img/s  input wait 1%  "
        "3 min 05 s left",
        "step 300/300  loss: a 1.250  acc: a 50.0%  812 img/s  input wait 1%  "
        "2 bad records  0 s left",
    ]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar(tmp_path):
    out = _Terminal()
    with metrics.open_writer(tmp_path, first_step=5, total=10, stream=out) as writer:
        assert writer.bar.n == 5
        metrics.advance(writer)
        metrics.show(writer, 6, SCALARS, 3.0)
        metrics.say(writer, "a word")
    assert "\ra word\n" in out.getvalue()  # Not behind the bar.
    assert "loss: a 1.250" in out.getvalue()
    assert "step  6" not in out.getvalue()


def test_a_narrow_terminal_still_shows_the_speed(tmp_path):
    out = _Terminal()
    scalars = {name: x for name, x in SCALARS.items() if not name.startswith("loss")}
    scalars |= {"loss/classifier": 1.25} | {f"acc/rot{i}": 0.5 for i in range(9)}
    with metrics.open_writer(tmp_path, first_step=5, total=1200, stream=out) as writer:
        writer.bar.dynamic_ncols = lambda _: (80, 24)
        metrics.show(writer, 6, scalars, 3.0)
        shown = str(writer.bar)
    assert "812 img/s  input wait 1%  loss: classifier 1.250" in shown
    assert len(shown) <= 80


def test_numbers_in_names_count_as_numbers():
    names = ("acc/rot180", "acc/conv10", "acc/rot90", "loss/b", "acc/conv2", "acc/none")
    assert metrics.format_groups(dict.fromkeys(names, 0.5)) == (
        "loss: b 0.500  acc: conv2 50.0%, conv10 50.0%, none 50.0%, rot90 50.0%, "
        "rot180 50.0%"
    )


@pytest.mark.parametrize(
    ("metric", "shown"),
    [
        (Metric(0.081, "m"), "0.08100 m"),  # Its range says nothing of its unit.
        (Metric(0.081), "0.08100"),
        (Metric(0.081, SHARE), "8.1%"),
        (Metric(1.0, SHARE, spread=0.0), "100.0% ± 0.0%"),
        (Metric(81.3, "mm", spread=2.06), "81.30 ± 2.1 mm"),
        (Metric(12345.6), "1.235e+04"),
        (Metric(float("nan"), SHARE), "nan%"),
    ],
)
def test_the_unit_is_what_the_metric_declares(metric, shown):
    assert metrics.format_metric(metric) == shown
    assert metrics.format_metrics({"a": metric, "b": metric}) == f"a {shown}  b {shown}"


def test_only_the_group_acc_is_in_percent():
    scalars = {"loss/a": 0.5, "acc/a": 0.5, "accord/a": 0.5, "share/a": 0.5}
    assert metrics.format_groups(scalars) == (
        "loss: a 0.500  acc: a 50.0%  accord: a 0.500  share: a 0.500"
    )


def test_pace_counts_the_share_of_waiting():
    pace = metrics.Pace().add(seconds=1.0, waited=0.25).add(seconds=2.0, waited=0.5)
    assert pace.extend(1.0).scalars(batch_size=8) == {
        "speed/images_per_second": 4.0,
        "speed/input_wait_share": 0.1875,
    }


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (7830.0, "2 h 10 min")],
)
def test_durations(seconds, words):
    assert text.format_seconds(seconds) == words
