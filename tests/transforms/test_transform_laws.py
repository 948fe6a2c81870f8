"""Laws that every public transform obeys; a new name must join to pass.

The tables joined in `EXAMPLES` hold one way to call each transform, with how its
parameters are drawn. `test_every_public_name_is_covered` fails for a public name that
is neither covered by an example nor listed in `OTHERS` with the file that tests it.
"""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import transforms as T  # noqa: N812
from tests.transforms import (
    examples_boxes,
    examples_color,
    examples_compose,
    examples_geometric,
    examples_patches,
    examples_policies,
    examples_pretext,
    examples_time,
    examples_tone,
    examples_views,
)
from tests.transforms.laws import (
    Example,
    apply_with,
    close,
    draw,
    equal,
    is_floating,
    join,
    plain,
    smooth_leaves,
    widen,
)

TABLES = (
    examples_boxes,
    examples_color,
    examples_compose,
    examples_geometric,
    examples_patches,
    examples_policies,
    examples_pretext,
    examples_time,
    examples_tone,
    examples_views,
)
EXAMPLES = join(*(table.EXAMPLES for table in TABLES))

OTHERS = {
    "batched": "test_transform_compose.py",
    "grain_map": "test_transform_pipelines.py",
}
"""What transforms no data but functions."""

BATCHES = {
    "temporal_batch",
    "temporal_params",
    "transformation_batch",
    "transformation_views",
    "view_pair_batch",
}
"""Batches of several transforms, whose parts are examples, too."""

ALIKE = {
    *("color_jitter_exact", "contrast_of_one_channel", "cutout", "wide_range"),
    *("free_warp_coarse", "free_warp_coords", "free_warp_flow", "warp_coords"),
    *("warp_flow", "crop_coords", "hflip_coords", "vflip_coords", "rot90_coords"),
    *("rotate_coords", "resized_crop_coords", "resized_crop_same_size"),
    *("bilinear_sample_reflect", "label_noise_bernoulli", "view_pair_params"),
    "transformation_views_whole",
}
"""Other settings, or a part, of another example."""

EXACT = {"color_jitter_exact", "hue_exact"}
"""Gradients that are NaN in unoptimised code of XLA's older generator."""

POLICIES = set(examples_policies.EXAMPLES)
"""Ten branches to compile."""

LONG = BATCHES | ALIKE | POLICIES
"""The default suite holds one law of these, that of vmap; the slow suite holds all."""


def _pick(
    condition: Callable[[Example], bool] = lambda example: True,
    *,
    slow: set[str] = LONG,
    **marks: set[str],
):
    """Choose examples; ``marks`` maps a mark to the examples that it is for."""
    marks["slow"] = slow
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(
                name, marks=[getattr(pytest.mark, m) for m in marks if name in marks[m]]
            )
            for name, example in EXAMPLES.items()
            if condition(example)
        ],
    )


@functools.cache
def _compiled(name: str):
    """Return the jitted example, which all laws share, and a list of its traces."""
    traces = []

    def apply(data, params):
        traces.append(None)
        return EXAMPLES[name].apply(data, params)

    return jax.jit(apply), traces


def _is_smooth(example: Example) -> bool:
    data, params = jax.eval_shape(lambda: (example.data(), draw(example)))
    out = jax.eval_shape(example.apply, data, params)
    has_real = any(is_floating(leaf) for leaf in jax.tree.leaves(out))
    return has_real and bool(smooth_leaves(example, data, params))


@functools.cache
def _compiled_strictly(name: str):
    """Return one program for the data of every dtype, which no promotion may change."""

    @jax.jit
    def apply(data, params):
        with jax.numpy_dtype_promotion("strict"):
            return [EXAMPLES[name].apply(one, params) for one in data]

    return apply


def _of_every_dtype(example: Example) -> list:
    return [example.data(dtype) for dtype in (jnp.float32, *example.dtypes)]


def test_every_public_name_is_covered() -> None:
    covered = set().union(*(example.covers for example in EXAMPLES.values()))
    assert not covered & set(OTHERS)
    assert covered | set(OTHERS) == set(T.__all__)
    for name, file in OTHERS.items():
        assert f"T.{name}" in (Path(__file__).parent / file).read_text()
    public = {n for n in vars(T) if not n.startswith("_") and n in T.__all__}
    assert public == set(T.__all__)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_tables_call_what_they_cover(table) -> None:
    called = set(re.findall(r"\bT\.(\w+)", Path(table.__file__).read_text()))
    assert set().union(*(e.covers for e in table.EXAMPLES.values())) <= called


@_pick(slow=POLICIES - {"rand_augment"})
def test_vmap_equals_loop_with_one_trace(name: str) -> None:
    """One program serves all parameters, and never calls back into Python."""
    example, (one, traces) = EXAMPLES[name], _compiled(name)
    before = len(traces)
    examples = [example.data(seed=seed) for seed in range(3)]
    params = [draw(example, seed) for seed in range(3)]
    pairs = zip(examples, params, strict=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    together = jax.jit(jax.vmap(example.apply))(*stacked)
    for i in range(3):
        alone = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        close(alone, one(examples[i], params[i]))
    assert len(traces) <= before + 1
    assert "callback" not in one.lower(examples[0], params[0]).as_text()


@_pick()
def test_jit_equals_eager(name: str) -> None:
    example = EXAMPLES[name]
    data, params = example.data(), draw(example)
    close(_compiled(name)[0](data, params), example.apply(data, params))


@_pick(lambda example: example.shares)
def test_leading_axes_share_the_parameters(name: str) -> None:
    example = EXAMPLES[name]
    clips, params = example.data(lead=(2, 3)), draw(example)
    apply, _ = _compiled(name)
    together = apply(clips, params)
    for at in np.ndindex(2, 3):
        frame, one = jax.tree.map(lambda leaf, at=at: leaf[at], (clips, together))
        close(one, apply(frame, params))


@_pick(lambda example: bool(example.dtypes))
def test_dtype_is_kept_and_the_range_is_not_left(name: str) -> None:
    """Under strict promotion, so that no dtype is chosen by accident."""
    example = EXAMPLES[name]
    data = _of_every_dtype(example)
    outputs = _compiled_strictly(name)(data, draw(example))
    for given, out in zip(data, outputs, strict=True):
        leaves, sources = jax.tree.leaves(out), jax.tree.leaves(given)
        assert {leaf.dtype for leaf in leaves} <= {leaf.dtype for leaf in sources}
        values = np.concatenate([np.ravel(plain(leaf)) for leaf in sources])
        low, high = example.bounds or (min(0, values.min()), values.max())
        for leaf in leaves:
            assert low <= plain(leaf).min()
            assert plain(leaf).max() <= high


@_pick(lambda example: example.identity is not None)
def test_identity_parameters_return_the_data_bit_by_bit(name: str) -> None:
    example = EXAMPLES[name]
    data = _of_every_dtype(example)
    equal([example.apply(one, example.identity) for one in data], data)
    equal(_compiled_strictly(name)(data, example.identity), data)


@_pick(lambda example: example.random is not None)
def test_random_draws_apply_and_can_be_repeated(name: str) -> None:
    example, data = EXAMPLES[name], EXAMPLES[name].data()
    random = jax.jit(example.random)
    first = random(jax.random.key(1), data)
    equal(random(jax.random.key(1), data), first)
    eager, drawn = example.random(jax.random.key(1), data)
    equal(drawn, example.sample(jax.random.key(1)))
    equal(example.apply(data, drawn), eager)
    close(first, (eager, drawn))
    others = [random(jax.random.key(seed), data) for seed in range(12)]
    assert _num_distinct([out for out, _ in others]) >= 2
    if any(map(is_floating, jax.tree.leaves(drawn))):
        assert _num_distinct([params for _, params in others]) == 12


def _num_distinct(trees: list) -> int:
    return len(
        {b"".join(plain(x).tobytes() for x in jax.tree.leaves(t)) for t in trees}
    )


@_pick(lambda example: bool(example.strengths))
def test_strengths_may_be_traced(name: str) -> None:
    example, data, traces = EXAMPLES[name], EXAMPLES[name].data(), []

    @jax.jit
    def random(key, options):
        traces.append(None)
        return example.random(key, data, **options)

    for factor in (1.0, 0.5):
        scaled = jax.tree.map(lambda value, f=factor: f * value, example.strengths)
        fixed = jax.jit(lambda key, scaled=scaled: example.random(key, data, **scaled))
        close(random(jax.random.key(0), scaled), fixed(jax.random.key(0)))
    assert len(traces) == 1


@_pick(_is_smooth, optimised=EXACT)
def test_gradients_are_finite_even_on_flat_images(name: str) -> None:
    """On black, grey and white, on parameters drawn at random and on the identity."""
    example, data = EXAMPLES[name], EXAMPLES[name].data()

    @jax.jit
    def gradients(data, params):
        def energy(values):
            outputs = apply_with(example, values, data, params)
            return sum((out**2).sum() for out in outputs)

        return jax.grad(energy)(smooth_leaves(example, data, params))

    choices = [draw(example)]
    if example.identity is not None:
        choices.append(example.identity)
    flat = [
        jax.tree.map(lambda x, v=v: jnp.full_like(x, v) if is_floating(x) else x, data)
        for v in (0, 0.5, 1)
    ]
    for params in choices:
        for given in (data, *flat):
            for gradient in gradients(given, params):
                assert np.isfinite(gradient).all()


@_pick(_is_smooth)
def test_gradients_match_finite_differences(name: str) -> None:
    """In float64, along one random direction of data and parameters together."""
    example = EXAMPLES[name]
    data, params = example.data(), draw(example, 5)
    with jax.enable_x64(True):
        data, params = widen(data), widen(params)
        point = smooth_leaves(example, data, params)
        shapes = jax.eval_shape(lambda at: apply_with(example, at, data, params), point)
        assert {shape.dtype for shape in shapes} == {np.dtype(np.float64)}
        rng = np.random.default_rng(0)
        step = [rng.normal(size=leaf.shape) for leaf in point]
        weights = [rng.normal(size=shape.shape) for shape in shapes]

        def total(moved):
            at = [a + moved * b for a, b in zip(point, step, strict=True)]
            outputs = apply_with(example, at, data, params)
            return sum((w * o).sum() for w, o in zip(weights, outputs, strict=True))

        eps = 1e-6

        @jax.jit
        def slopes(zero):
            numeric = (total(zero + eps) - total(zero - eps)) / (2 * eps)
            forward = jax.jvp(total, (zero,), (jnp.ones_like(zero),))[1]
            return numeric, forward, jax.grad(total)(zero)

        numeric, forward, reverse = slopes(np.zeros((), np.float64))
        np.testing.assert_allclose(forward, numeric, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reverse, numeric, rtol=1e-5, atol=1e-6)
