"""Mixup, label noise and smoothing: values and distributions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxssl import transforms as T  # noqa: N812

DRAWS = 10_000
SIZES = (7, 0, 50, 1, 143)  # Examples a class.


def _labels() -> np.ndarray:
    labels = np.repeat(np.arange(5), SIZES)
    return np.random.default_rng(0).permutation(labels).astype(np.int32)


# --- Mixup


def test_mixup_mixes_images_and_labels_of_a_batch_alike() -> None:
    rng = np.random.default_rng(1)
    images = rng.uniform(size=(4, 3, 3, 2)).astype(np.float32)
    labels = np.eye(5, dtype=np.float32)[[0, 3, 1, 3]]
    order = [2, 0, 3, 1]
    batch = jnp.array(images), jnp.array(labels)
    partner = jnp.array(images[order]), jnp.array(labels[order])
    mixed, params = T.random_mixup(jax.random.key(2), batch, partner)
    share = float(params.weight)
    assert 0 < share < 1
    for got, one in zip(mixed, (images, labels), strict=True):
        expected = share * one + (1 - share) * one[order]
        np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(mixed[1].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_the_share_is_drawn_from_a_beta_distribution(alpha) -> None:
    keys = jax.random.split(jax.random.key(3), DRAWS)
    draw = jax.jit(jax.vmap(functools.partial(T.mixup_params, alpha=alpha)))
    shares = np.asarray(draw(keys).weight)
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-4


# --- Noise


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.29, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("traced", [False, True])
def test_exactly_the_share_of_each_class_is_wrong(rate, traced) -> None:
    labels = _labels()

    def draw(key, rate):
        return T.random_label_noise(key, jnp.array(labels), num_classes=5, rate=rate)

    key = jax.random.key(4)
    if traced:
        noisy, params = jax.jit(draw)(key, rate)
    else:
        noisy, params = jax.jit(functools.partial(draw, rate=rate))(key)
    noisy = np.asarray(noisy)
    np.testing.assert_array_equal(noisy != labels, params.noisy)
    wrong = np.bincount(labels[noisy != labels], minlength=5)
    # In whole numbers, as 0.29 * 100 is 28.999999999999996 in float64.
    expected = [round(100 * rate) * size // 100 for size in SIZES]
    np.testing.assert_array_equal(wrong, expected)
    assert noisy.min() >= 0
    assert noisy.max() < 5


def test_a_whole_share_is_not_lost_to_rounding() -> None:
    """0.29 of 100 is 29, though 0.29 * 100 is less in float64."""

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.vmap, in_axes=(0, None))
    def count(rate, size):
        labels = jnp.zeros(size, jnp.int32)
        key = jax.random.key(5)
        params = T.label_noise_params(key, labels, num_classes=2, rate=rate)
        return params.noisy.sum()

    percent = np.arange(101)
    for size in (100, 500, 5000):
        marked = count(jnp.array(percent / 100, jnp.float32), size)
        np.testing.assert_array_equal(marked, percent * size // 100)


def _pooled(count, replacement, rate=0.4):
    labels = _labels()
    draw = functools.partial(
        T.label_noise_params,
        labels=jnp.array(labels),
        num_classes=5,
        rate=rate,
        count=count,
        replacement=replacement,
    )
    keys = jax.random.split(jax.random.key(6), DRAWS // 50)
    return labels, jax.jit(jax.vmap(draw))(keys)


@pytest.mark.parametrize("count", ["exact", "bernoulli"])
def test_wrong_labels_are_uniform_over_the_other_classes(count) -> None:
    labels, params = _pooled(count, "other")
    for label in (0, 2, 3, 4):
        drawn = np.asarray(params.replacement[:, labels == label]).ravel()
        counts = np.bincount(drawn, minlength=5)
        assert counts[label] == 0
        assert stats.chisquare(np.delete(counts, label)).pvalue > 1e-4


def test_any_class_includes_the_true_one() -> None:
    labels, params = _pooled("bernoulli", "any")
    counts = np.bincount(np.asarray(params.replacement)[:, labels == 4].ravel())
    assert stats.chisquare(counts).pvalue > 1e-4


def test_every_label_is_as_likely_to_be_marked() -> None:
    labels, params = _pooled("exact", "other")
    noisy = np.asarray(params.noisy)
    for label, size in ((2, 20), (4, 57)):  # floor(0.4 n)
        marks = noisy[:, labels == label].sum(axis=0)
        expected = np.full(len(marks), len(noisy) * size / len(marks))
        # Without replacement the marks vary less than chi-square has it: by 1 - 0.4.
        scaled = ((marks - expected) ** 2 / expected).sum() / (1 - size / len(marks))
        assert stats.chi2(len(marks) - 1).sf(scaled) > 1e-4
        assert stats.chi2(len(marks) - 1).cdf(scaled) > 1e-4


def test_bernoulli_marks_each_label_by_itself() -> None:
    _, params = _pooled("bernoulli", "other", rate=0.3)
    noisy = np.asarray(params.noisy)
    assert stats.binomtest(int(noisy.sum()), noisy.size, 0.3).pvalue > 1e-4
    per_draw = noisy.sum(axis=1)
    wanted = stats.binom(noisy.shape[1], 0.3)
    uniform = wanted.cdf(per_draw - 1) + wanted.pmf(per_draw) * np.random.default_rng(
        7
    ).uniform(size=per_draw.shape)
    assert stats.kstest(uniform, "uniform").pvalue > 1e-4


def test_ids_fix_the_noise_of_a_sample() -> None:
    noise = functools.partial(
        T.random_label_noise, num_classes=5, rate=0.5, count="bernoulli"
    )
    labels, ids = jnp.array(_labels()), jnp.arange(sum(SIZES))
    batch = jax.jit(T.batched(noise))
    everyone, _ = batch(jax.random.key(8), labels, ids)
    some, _ = batch(jax.random.key(8), labels[40:50][::-1], ids[40:50][::-1])
    np.testing.assert_array_equal(some, everyone[40:50][::-1])


# --- Smoothing


def test_smoothing_moves_a_share_to_all_classes() -> None:
    smooth = T.smooth_labels(jax.nn.one_hot(jnp.array([1, 3]), 4), smoothing=0.1)
    expected = np.full((2, 4), 0.025)
    expected[[0, 1], [1, 3]] = 0.925
    np.testing.assert_allclose(smooth, expected, atol=1e-7)
