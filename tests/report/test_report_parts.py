"""The parts of the report against independent answers."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from jaxssl.report import align, figures, numbers, thesis
from jaxssl.run.read import Series
from jaxssl.types import Metric


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


def test_long_curves_are_averaged(drawn):
    steps = np.arange(3000)
    series = Series(steps, (steps // 10) % 2 + np.tile([-5.0, 5.0], 1500))
    drawing = figures.training({"a": series}, label="", name="x")
    curve = max(re.findall(r'd="([^"]*)"', drawing), key=len)
    heights = {point.split()[-1] for point in curve.split("L")}
    assert 295 <= len(curve.split("L")) <= 301
    assert len(heights) == 2  # The noise is gone, the steps of ten are left.


def test_end_labels_do_not_touch():
    places = figures._spread([0.5, 0.5, 0.51, 0.99, 1.0], 0.1)
    assert (np.diff(places) >= 0.1 - 1e-9).all()
    assert max(places) <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        (Metric(0.081, "m"), "0.081 m"),
        (Metric(0.081, "share"), "8.1 %"),
        (Metric(0.3125, "share", spread=0.0156), "31.2 ± 1.6 %"),
        (Metric(41.2), "41.2"),
        (Metric(0.5), "0.5"),
        (Metric(412345.6, "images/s"), "412,346 images/s"),
        (Metric(1.25, "m", spread=0.5), "1.25 ± 0.5 m"),
        (Metric(-0.25), "-0.25"),
    ],
)
def test_a_metric_is_written_in_its_unit(metric, text):
    assert numbers.metric(metric).replace("\xa0", " ") == text


def test_an_image_grid_holds_each_image_in_reading_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 3), np.uint8)
    grid = figures.image_grid(images, columns=3)
    assert grid.shape == (2 * 4 + 2, 3 * 3 + 2 * 2, 4)
    for i, image in enumerate(images):
        y, x = (i // 3) * 6, (i % 3) * 5
        np.testing.assert_array_equal(grid[y : y + 4, x : x + 3, :3], image)
    assert (grid[6:, 10:] == 0).all()  # The place without an image.
    assert grid[..., 3].sum() == 255 * 5 * 4 * 3
    rows = figures.image_grid(images[:4].reshape(2, 2, 4, 3, 3), most=2)
    np.testing.assert_array_equal(rows[:, :3, :3], images[0])
    np.testing.assert_array_equal(rows[:, 5:, :3], images[1])
    grey = figures.image_grid(images[:1, ..., :1])
    np.testing.assert_array_equal(grey[..., :3], images[0, ..., :1].repeat(3, -1))
