"""The four temporal rules against literal loops that list all they may draw."""

import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

VARIANTS = ("paper", "literal", "released")
DRAWS = 10_000


# --- The oracle: every outcome with its probability, by plain loops


def fastest(n, length, variant):
    kappa = 0
    for k in (1, 2, 3):
        needed = length * 2**k if variant == "released" else (length - 1) * 2**k + 1
        if needed <= n:
            kappa = k
    return kappa


def placed(clips, n):
    """Put each of equally likely (indices, window) at each start that fits."""
    outcomes = Counter()
    for indices, window in clips:
        starts = range(n - window + 1)
        for start in starts:
            place = tuple(start + i for i in indices)
            outcomes[place] += 1 / len(clips) / len(starts)
    return outcomes


def speed(n, kappa, length, variant):
    step = 2 ** min(kappa, fastest(n, length, variant))
    indices = [i * step for i in range(length)]
    window = length * step if variant == "released" else indices[-1] + 1
    return placed([(indices, window)], n)


def random(n, kappa, length, variant):
    clips = itertools.permutations(range(length))
    return placed([(indices, length) for indices in clips], n)


def there_and_back(turn, step, length):
    """The index sequence of thesis section 5.2.1, entry by entry."""
    whole = turn // step
    rest = turn - whole * step
    start = max(0, (length - 1 - 2 * whole) * step - rest)
    indices = []
    for i in range(length):
        if i <= whole:
            indices.append(start + i * step)
        else:
            indices.append(start + (whole - (i - whole)) * step + rest)
    return indices


def released_there_and_back(step, length):
    forward = [i * step for i in range(length - 2)]
    clips = []
    for rest in (0, 1) if step == 1 else range(1, step):
        both = forward + [i + rest for i in reversed(forward)]
        for first in range(len(both) - length + 1):
            clips.append((both[first : first + length], (length - 1) * step))
    return clips


def periodic(n, kappa, length, variant):
    step = 2 ** min(kappa, fastest(n, length, variant))
    if variant == "released":
        return placed(released_there_and_back(step, length), n)
    turns = range(2 * step + 1, (length - 3) * step)
    clips = [there_and_back(turn, step, length) for turn in turns]
    if variant == "literal":
        return Counter({tuple(clip): 1 / len(clips) for clip in clips})
    return placed([(clip, max(clip) + 1) for clip in clips], n)


def warp(n, kappa, length, variant):
    if variant == "released":
        largest = 2 ** fastest(n, length, variant)
        window = length * largest
        clips = []
        for gaps in itertools.product(range(1, largest + 1), repeat=length):
            indices = [min(i, window - 1) for i in itertools.accumulate(gaps)]
            clips.append((indices, window))
        regular = largest > 2
    else:
        smallest = 1 if variant == "paper" else 0
        largest = min((n - 1) // (length - 1), 7 + smallest)
        clips = []
        for gaps in itertools.product(range(smallest, largest + 1), repeat=length - 1):
            indices = list(itertools.accumulate((0, *gaps)))
            clips.append((indices, indices[-1] + 1))
        regular = largest > smallest
    if regular:
        return placed(clips, n)
    sets = list(itertools.combinations(range(n), length))
    return Counter({chosen: 1 / len(sets) for chosen in sets})


ORACLES = {"speed": speed, "random": random, "periodic": periodic, "warp": warp}


# --- The rules


@functools.cache
def rule(kind, length, variant):
    function = {
        "speed": T.speed_indices,
        "random": T.random_indices,
        "periodic": T.periodic_indices,
        "warp": T.warp_indices,
    }[kind]
    options = {} if kind == "random" else {"variant": variant}
    function = functools.partial(function, length=length, **options)
    return jax.jit(jax.vmap(function, in_axes=(0, None, None)))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("kind", "n", "kappa", "length"),
    [
        ("speed", 20, 0, 4),
        ("speed", 20, 2, 4),
        ("speed", 9, 3, 4),
        ("random", 5, 2, 3),
        ("periodic", 9, 0, 7),
        ("periodic", 30, 1, 7),
        ("periodic", 27, 2, 7),
        ("periodic", 60, 3, 7),
        ("warp", 12, 0, 2),
        ("warp", 9, 3, 3),
        ("warp", 40, 1, 3),
        ("warp", 6, 0, 4),
        ("warp", 4, 0, 4),
    ],
)
def test_all_that_may_be_drawn_is_drawn_as_often_as_it_should(
    kind, n, kappa, length, variant
) -> None:
    keys = jax.random.split(jax.random.key(5), DRAWS)
    drawn = rule(kind, length, variant)(keys, jnp.array(n), jnp.array(kappa))
    expected = ORACLES[kind](n, kappa, length, variant)
    np.testing.assert_allclose(sum(expected.values()), 1)
    seen = Counter(tuple(row) for row in np.asarray(drawn).tolist())
    assert set(seen) <= set(expected)
    # Cells of at least 20 draws or so; rarer outcomes share one.
    cells = [[0.0, 0.0]]
    for outcome, chance in expected.items():
        if chance * DRAWS >= 20:
            cells.append([seen[outcome], chance * DRAWS])
        else:
            cells[0][0] += seen[outcome]
            cells[0][1] += chance * DRAWS
    got, wanted = np.array([cell for cell in cells if cell[1] > 0]).T
    if len(got) > 1:
        assert stats.chisquare(got, wanted).pvalue > 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_gaps_of_a_long_warp_are_uniform_and_independent(variant) -> None:
    keys = jax.random.split(jax.random.key(6), DRAWS)
    drawn = np.asarray(rule("warp", 16, variant)(keys, jnp.array(300), jnp.array(0)))
    gaps = np.diff(drawn, axis=1)
    low = 0 if variant == "literal" else 1
    counts = np.bincount(gaps.ravel() - low, minlength=8)
    assert stats.chisquare(counts).pvalue > 1e-4
    pairs = (gaps[:, 3] - low) * 8 + (gaps[:, 4] - low)
    assert stats.chisquare(np.bincount(pairs, minlength=64)).pvalue > 1e-4


@pytest.fixture(scope="module", params=VARIANTS)
def grid(request):
    """Indices of every kind, for 16 to 300 frames, every kappa and six keys."""
    variant, frames = request.param, np.arange(16, 301)
    keys = jax.random.split(jax.random.key(7), 6)

    @jax.jit
    def draw(kinds, frames, kappas):
        def one(kind, n, kappa, key):
            return T.temporal_indices(key, kind, n, kappa, variant=variant)

        by_key = jax.vmap(one, (None, None, None, 0))
        by_kappa = jax.vmap(by_key, (None, None, 0, None))
        by_frames = jax.vmap(by_kappa, (None, 0, None, None))
        return jax.vmap(by_frames, (0, None, None, None))(kinds, frames, kappas, keys)

    drawn = draw(jnp.arange(4), jnp.array(frames), jnp.arange(4))
    return variant, frames, np.asarray(drawn)


def test_indices_lie_in_the_video_for_every_length_and_speed(grid) -> None:
    _, frames, drawn = grid
    assert drawn.dtype == np.int32
    assert drawn.shape == (4, 285, 4, 6, 16)
    assert drawn.min() >= 0
    assert (drawn < frames[None, :, None, None, None]).all()


def test_speed_is_a_steady_stride_as_fast_as_fits(grid) -> None:
    variant, frames, drawn = grid
    for i, n in enumerate(frames):
        for kappa in range(4):
            step = 2 ** min(kappa, fastest(n, 16, variant))
            assert (np.diff(drawn[0, i, kappa]) == step).all()


def test_random_is_a_permutation_of_neighbours(grid) -> None:
    ordered = np.sort(grid[2][1], axis=-1)
    assert (np.diff(ordered) == 1).all()
    assert (np.diff(grid[2][1]) != 1).any(axis=-1).all()


def test_periodic_goes_forth_and_back(grid) -> None:
    variant, frames, drawn = grid
    for step in (1, 2, 4, 8):
        if variant == "released":
            clips = [clip for clip, _ in released_there_and_back(step, 16)]
        else:
            clips = [
                there_and_back(turn, step, 16)
                for turn in range(2 * step + 1, 13 * step)
            ]
        allowed = {tuple(np.subtract(clip, min(clip)).tolist()) for clip in clips}
        for kappa in range(4):
            fits = [2 ** min(kappa, fastest(n, 16, variant)) == step for n in frames]
            rows = drawn[2, np.array(fits), kappa].reshape(-1, 16)
            lowest = rows.min(axis=1, keepdims=True)
            assert {tuple(row) for row in (rows - lowest).tolist()} <= allowed
            if variant == "literal":
                assert (lowest == 0).all()


def test_warp_keeps_the_order_and_skips_at_most_seven(grid) -> None:
    variant, frames, drawn = grid
    gaps = np.diff(drawn[3])
    long_enough = frames >= 64 if variant == "released" else frames >= 31
    assert gaps[long_enough].max() == (7 if variant == "literal" else 8)
    if variant == "literal":
        assert gaps.min() == 0
    else:  # Frames never repeat, and a warp is no speed 0 unless there is no choice.
        assert gaps.min() == 1
        assert (gaps[frames > 24].max(axis=-1) > 1).all()
        np.testing.assert_array_equal(gaps[0], 1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_kind_picks_one_of_the_rules_bit_by_bit(variant) -> None:
    @jax.jit
    @jax.vmap
    def both(key, kind, n, kappa):
        own = [
            T.speed_indices(key, n, kappa, variant=variant),
            T.random_indices(key, n, kappa),
            T.periodic_indices(key, n, kappa, variant=variant),
            T.warp_indices(key, n, kappa, variant=variant),
        ]
        picked = T.temporal_indices(key, kind, n, kappa, variant=variant)
        return jnp.stack(own), picked

    kinds = np.tile(np.arange(4), 10)
    rows = jnp.array(kinds), jnp.arange(40) * 5 + 16, jnp.arange(40) // 10
    own, picked = both(jax.random.split(jax.random.key(8), 40), *rows)
    np.testing.assert_array_equal(picked, own[np.arange(40), kinds])
    assert T.KINDS == ("speed", "random", "periodic", "warp")


@pytest.mark.parametrize("variant", VARIANTS)
def test_max_kappa_is_the_largest_that_fits(variant) -> None:
    frames = np.arange(1, 301)
    largest = functools.partial(T.max_kappa, variant=variant)
    got = jax.jit(jax.vmap(largest))(jnp.array(frames))
    np.testing.assert_array_equal(got, [fastest(n, 16, variant) for n in frames])


# --- What does not fit


def test_traced_values_out_of_range_are_moved_into_it() -> None:
    key, n = jax.random.key(9), jnp.array(200)
    indices = jax.jit(T.temporal_indices)
    for kind in range(4):
        slow, fast = (indices(key, kind, n, jnp.array(k)) for k in (0, 3))
        np.testing.assert_array_equal(indices(key, kind, n, jnp.array(-5)), slow)
        np.testing.assert_array_equal(indices(key, kind, n, jnp.array(99)), fast)
    first, last = (indices(key, kind, n, 1) for kind in (0, 3))
    np.testing.assert_array_equal(indices(key, jnp.array(-1), n, 1), first)
    np.testing.assert_array_equal(indices(key, jnp.array(4), n, 1), last)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_traced_video_that_is_too_short_repeats_its_last_frame(variant) -> None:
    indices = jax.jit(functools.partial(T.temporal_indices, variant=variant))
    key = jax.random.key(10)
    for n in range(-1, 16):
        for kind in range(4):
            drawn = np.asarray(indices(key, kind, jnp.array(n), 3))
            assert drawn.min() >= 0
            assert drawn.max() < max(n, 1)
        speed_0 = np.minimum(np.arange(16), max(n, 1) - 1)
        np.testing.assert_array_equal(indices(key, 0, jnp.array(n), 3), speed_0)


# --- Frames


def test_take_frames_is_numpy_indexing() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (2, 7, 4, 5, 3), np.uint8)
    indices = np.array([6, 0, 0, 3])
    taken = T.take_frames(jnp.array(clips), jnp.array(indices))
    assert taken.dtype == jnp.uint8
    np.testing.assert_array_equal(taken, clips[:, indices])
    outside = T.take_frames(jnp.array(clips), jnp.array([-3, 99]))
    np.testing.assert_array_equal(outside, clips[:, [0, 6]])


def test_a_clip_is_gathered_once_in_its_own_dtype() -> None:
    def clip(key, kind, video, num_frames, kappa):
        indices = T.temporal_indices(key, kind, num_frames, kappa)
        return T.take_frames(video, indices).astype(jnp.float32)

    video = jnp.zeros((40, 6, 6, 3), jnp.uint8)
    lowered = jax.jit(clip).lower(jax.random.key(0), 1, video, jnp.array(40), 2)
    gathers = [
        line for line in lowered.as_text().splitlines() if "stablehlo.gather" in line
    ]
    of_pixels = [line for line in gathers if "40x6x6x3" in line]
    assert len(of_pixels) == 1
    assert "16x6x6x3xui8" in of_pixels[0]
