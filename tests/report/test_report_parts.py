"""The parts of the report against independent answers."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxssl.report import align, figures, inputs, story, thesis


def decode(uri):
    head, data = uri.split(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_png_keeps_small_images_exactly_and_shrinks_large_ones():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode(figures.png(image)), image)
    np.testing.assert_array_equal(decode(figures.png(image[..., :1])), image[..., 0])
    np.testing.assert_array_equal(
        decode(figures.png(image.astype(np.float32) / 255.0)), image
    )
    assert decode(figures.png(np.zeros((300, 150, 3), np.uint8))).shape == (192, 96, 3)


def test_filter_grid_scales_each_filter_by_its_largest_weight():
    kernels = np.zeros((2, 2, 3, 10))
    kernels[0, 0, 0, 0] = 0.001
    kernels[1, 1, 2, 9] = -50.0
    grid = figures.filter_grid(kernels)
    assert grid.shape == (5, 23, 4)
    np.testing.assert_array_equal(grid[0, 0], [255, 128, 128, 255])
    np.testing.assert_array_equal(grid[4, 4], [128, 128, 0, 255])
    assert (grid[2] == 0).all()  # the gap
    assert (grid[3:, 6:] == 0).all()  # places without a filter
    grey = figures.filter_grid(np.ones((2, 2, 1, 1)))
    np.testing.assert_array_equal(grey[..., :3], 255)


def brute_force_window(original, view):
    best = None
    for mirrored in (False, True):
        for top in range(original.shape[0] - view.shape[0] + 1):
            for left in range(original.shape[1] - view.shape[1] + 1):
                window = original[top:, left:][: view.shape[0], : view.shape[1]]
                window = window[:, ::-1] if mirrored else window
                error = ((window.astype(float) - view) ** 2).sum()
                if best is None or error < best[0]:
                    best = error, window
    return best[1]


def test_best_window_is_the_one_that_brute_force_finds():
    rng = np.random.default_rng(1)
    original = rng.integers(0, 256, (11, 13, 3), np.uint8)
    for _ in range(5):
        view = rng.integers(0, 256, (8, 7, 3), np.uint8)
        np.testing.assert_array_equal(
            align.best_window(original, view), brute_force_window(original, view)
        )


@pytest.mark.parametrize(("top", "left", "step"), [(0, 0, 1), (3, 2, -1), (1, 4, 1)])
def test_difference_undoes_crop_and_flip_and_shows_the_turn(top, left, step):
    original = np.random.default_rng(2).integers(0, 256, (12, 12, 3), np.uint8)
    view = original[top : top + 8, left : left + 8][:, ::step]
    assert (align.difference(original, view, "none") == 0).all()
    turned = np.rot90(view, 1)
    expected = np.abs(view.astype(int) - turned.astype(int))
    np.testing.assert_array_equal(align.difference(original, turned, "rot90"), expected)


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (("none", "rot90", "rot180", "rot270"), "Rot"),
        (("none", "warp"), "Warp"),
        (("none", "lci"), "LCI"),
        (("none", "rot90", "rot180", "rot270", "warp"), "Rot + Warp"),
        (("none", "lci", "rot90", "rot180", "rot270", "warp"), "Rot + Warp + LCI"),
        (("none", "rot180"), ""),
        ((), ""),
    ],
)
def test_row_name(classes, name):
    assert thesis.row_name(classes) == name
    assert name in ("", *thesis.TABLE_4_2)


def test_a_row_passes_only_if_every_layer_does():
    target = thesis.TABLE_4_2["Rot"]
    layers = dict(zip(thesis.LAYERS, (x / 100 for x in target), strict=True))
    rows = thesis.rows({"Rot": thesis.Measured(layers, thesis.CACHED)})
    status = {row.name: row.status for row in rows}
    assert status == {n: "pass" if n == "Rot" else "not run" for n in thesis.TABLE_4_2}
    below = {**layers, "conv3": layers["conv3"] - 0.0101}
    within = {**layers, "conv3": layers["conv3"] - 0.0099}
    partly = {"conv5": 0.99}
    for measured, expected in ((below, "gap"), (within, "pass"), (partly, "gap")):
        rows = thesis.rows({"Rot": thesis.Measured(measured, thesis.CACHED)})
        assert rows[3].status == expected


def test_layers_are_the_taps_in_natural_order():
    scalars = {"conv10": 0.1, "conv2": 0.2, "conv5_best_l2": 0.3, "stage1": 0.4}
    assert list(inputs.layers(scalars)) == ["conv2", "conv10", "stage1"]


def test_a_step_logged_twice_counts_once(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    lines = [
        '{"step": 1, "loss/a": 3.0}',
        '{"step": 3, "loss/a": 9.0}',
        '{"step": 2, "loss/a": null, "acc": 0.5}',
        '{"step": 3, "loss/a": 1.0}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    run = inputs.read(tmp_path)
    assert run.metrics["loss/a"].steps.tolist() == [1, 3]
    assert run.metrics["loss/a"].values.tolist() == [3.0, 1.0]
    assert run.metrics["acc"].values.tolist() == [0.5]
    assert run.notes == ()


def test_long_curves_are_averaged(tmp_path):
    steps = np.arange(3000)
    series = inputs.Series(steps, (steps // 10) % 2 + np.tile([-5.0, 5.0], 1500))
    drawing = figures.training({"a": series}, unit="", name="x")
    curve = max(re.findall(r'd="([^"]*)"', drawing), key=len)
    heights = {point.split()[-1] for point in curve.split("L")}
    assert 295 <= len(curve.split("L")) <= 301
    assert len(heights) == 2  # The noise is gone, the steps of ten are left.


def test_end_labels_do_not_touch():
    places = figures._spread([0.5, 0.5, 0.51, 0.99, 1.0], 0.1)
    assert (np.diff(places) >= 0.1 - 1e-9).all()
    assert max(places) <= 1.0 + 1e-9


def test_settings_are_written_as_the_command_line_takes_them():
    config = {"a": {"b": {"c": 0.003}}, "classes": ["x", "y"], "mesh": None, "e": {}}
    assert list(story.flat(config)) == [
        ("a.b.c", "0.003"),
        ("classes", '["x", "y"]'),
        ("mesh", "null"),
        ("e", "{}"),
    ]
