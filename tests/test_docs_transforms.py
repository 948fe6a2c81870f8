"""docs/transforms.md says of the transforms what the code says."""

import functools
import importlib
import inspect
import io
import json
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxssl import transforms as T  # noqa: N812

DOCS = Path(__file__).parent.parent / "docs"
sys.path.append(str(DOCS))
reference = importlib.import_module("make_reference")
gallery = importlib.import_module("make_gallery")

ENTRIES = {entry.name: entry for entry in reference.entries()}
PICTURES = DOCS / "images" / "transforms"


@functools.cache
def page():
    return (DOCS / "transforms.md").read_text()


# --- Names and signatures


def test_every_public_name_is_on_the_page():
    assert reference.listed() == set(T.__all__)
    shown = "\n".join(re.findall(r"^```text\n(.*?)^```$", page(), re.S | re.M))
    missing = [name for name in T.__all__ if not re.search(rf"\b{name}\b", shown)]
    assert missing == []


def test_the_page_is_that_of_the_code():
    reference.main(["--check"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("*, order=2)", "*, order=3)"),
        pytest.param(
            "| `image`, `flip`, `prob` |", "| `image` |", marks=pytest.mark.slow
        ),
    ],
)
def test_an_outdated_page_is_noticed(tmp_path, monkeypatch, old, new):
    changed = tmp_path / "transforms.md"
    changed.write_text(page().replace(old, new))
    assert changed.read_text() != page()
    monkeypatch.setattr(reference, "PAGE", changed)
    with pytest.raises(SystemExit, match=r"make_reference\.py"):
        reference.main(["--check"])
    reference.main([])
    assert changed.read_text() == page()


def test_signatures_have_the_defaults_of_the_code():
    assert reference.signature("rotate_params") == (
        "rotate_params(key, *, max_angle=0.07 * math.pi) -> RotateParams(angle)"
    )
    assert reference.signature("chain") == "chain(*fns)"
    for name in T.__all__:
        if inspect.isfunction(getattr(T, name)):
            shown = reference.signature(name)
            for given in inspect.signature(getattr(T, name)).parameters:
                assert re.search(rf"\b{given}\b", shown), name


# --- What may be traced, and what may be differentiated


def defaults(name):
    given = inspect.signature(getattr(T, name)).parameters.values()
    return {
        arg.name: arg.default
        for arg in given
        if arg.default is not arg.empty and arg.default is not None
    }


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if e.draw])
def test_traced_arguments_may_be_traced_and_static_ones_may_not(name):
    entry = ENTRIES[name]
    drawn = entry.draw(jax.random.key(0))
    for member in reference.members(entry):
        given, fixed = reference.arguments_of(
            member, entry, {"key": jax.random.key(1), **drawn}
        )
        values = {**defaults(member), **fixed, **given}
        arrays = {
            arg: jax.tree.map(jnp.asarray, value)
            for arg, value in values.items()
            if arg == "key" or arg in reference.traced(entry)
        }
        rest = {arg: value for arg, value in values.items() if arg not in arrays}
        jax.eval_shape(
            lambda arrays, member=member, rest=rest: reference.call(
                member, {**arrays, **rest}
            ),
            arrays,
        )
        for arg, value in rest.items():
            if isinstance(value, str) or arg == "classes":
                continue  # No array holds it.

            def call(value, member=member, arg=arg, values=values):
                return reference.call(member, {**values, arg: value})

            with pytest.raises((TypeError, ValueError)):
                jax.eval_shape(call, jax.tree.map(jnp.asarray, value))


@pytest.mark.parametrize(
    ("name", "smooth"),
    [
        ("remove_background", {"image", "fill"}),
        ("grayscale", {"image"}),
        ("flip_pose", {"pose"}),
        ("mixup", {"first", "second", "weight"}),
        ("brightness", {"image", "factor"}),
    ],
)
def test_the_gradient_column_is_what_jvp_says(name, smooth):
    entry, found = ENTRIES[name], set()
    values = entry.draw(jax.random.key(3))
    for arg, value in values.items():
        if not jnp.issubdtype(value.dtype, jnp.floating):
            continue

        def apply(value, arg=arg):
            return getattr(T, name)(**{**values, arg: value}, **entry.static)

        slope = jax.jvp(apply, (value,), (jnp.ones_like(value),))[1]
        found |= {arg} if jnp.any(slope) else set()
    assert found == smooth == set(reference.smooth(entry))


# --- Costs


def test_costs_are_stored_for_what_is_timed_and_for_nothing_else():
    costs = json.loads((DOCS / "transform_costs.json").read_text())
    timed = {
        name
        for entry in ENTRIES.values()
        if reference.shapes(entry)
        for name in (entry.name, f"random_{entry.name}")
        if name in T.__all__
    }
    assert set(costs["ratios"]) == timed
    assert costs["ratios"]["hflip"] == 1
    assert reference.NOT_RUN not in page()
    assert all(costs[field] for field in ("machine", "date", "jax", "unit_ms"))


def test_measuring_one_entry_keeps_the_others(tmp_path, monkeypatch):
    stored = tmp_path / "costs.json"
    stored.write_text(json.dumps({"ratios": {"warp": 20.0}}))
    monkeypatch.setattr(reference, "COSTS", stored)
    reference.measure(["vflip"], turns=1)
    costs = json.loads(stored.read_text())
    names = {"warp", "hflip", "random_hflip", "vflip", "random_vflip"}
    assert set(costs["ratios"]) == names
    assert costs["ratios"]["warp"] == 20
    assert costs["ratios"]["hflip"] == 1
    assert costs["ratios"]["vflip"] > 0
    with pytest.raises(SystemExit, match="no such entry"):
        reference.measure(["vflips"])


@pytest.mark.parametrize(
    ("ratio", "shown"), [(0.034, "0.03"), (0.25, "0.2"), (1.4, "1"), (34.0, "30")]
)
def test_costs_have_one_digit(ratio, shown):
    assert reference.digit(ratio) == shown


def test_a_missing_cost_is_not_run():
    assert reference.cost(ENTRIES["warp"], {"ratios": {"warp": 20.0}}) == "20 / not run"


# --- Pictures


def test_every_sheet_is_shown_and_the_files_are_small():
    shown = set(re.findall(r"images/transforms/(\w+)\.png", page()))
    files = {path.stem: path.stat().st_size for path in PICTURES.iterdir()}
    assert shown == set(files) == set(gallery.SHEETS)
    assert sum(files.values()) < 1_400_000


def test_every_transform_is_drawn():
    drawn = set(re.findall(r"T\.(?:random_)?(\w+)", inspect.getsource(gallery)))
    batches = {"rotation_batch", "temporal_batch", "transformation_views", "view_pairs"}
    needed = {
        entry.name
        for group, members in reference.GROUPS.items()
        if group != "functions"
        for entry in members
    }
    rules = {f"{kind}_indices" for kind in T.KINDS}  # Drawn by temporal_indices.
    assert needed - drawn <= {*batches, *rules, "max_kappa"}


def test_images_are_shown_pixel_by_pixel():
    rng = np.random.default_rng(0)
    panels = [rng.integers(0, 2, (20, 20, 3)) * np.uint8(255) for _ in range(2)]
    drawn = gallery.sheet([[("a", panels[0]), ("b", panels[1])]], side=20)
    pixels = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
    top = gallery.CAPTION
    for i, panel in enumerate(panels):
        left = i * (20 + gallery.GAP)
        shown = pixels[top:, left : left + 20].astype(int)
        np.testing.assert_allclose(shown, panel, atol=4)  # The palette's rounding.
    assert (pixels[top:, 20 : 20 + gallery.GAP] == 255).all()
