"""Wrong labels and permuted pixels: what changes, what stays, and for how long."""

import itertools
import os

import jax
import numpy as np
import pytest
from scipy import stats

from jaxssl.config import section
from jaxssl.data import ArraySource, corruption, image_source, images, load, pipeline
from jaxssl.data.corruption import (
    NoiseConfig,
    labels_of,
    noisy_labels,
    permuted_pixels,
)
from jaxssl.data.source import read_record
from jaxssl.data.subset import Part, subset
from jaxssl.errors import BadRecord, UserError

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
PAIRS = (  # Patrini et al. 2017.
    ("truck", "automobile"),
    ("bird", "airplane"),
    ("deer", "horse"),
    ("cat", "dog"),
    ("dog", "cat"),
)
COUNTS = (301, 40, 7, 120, 120, 99, 100, 64, 1, 1000)


def classes(counts=COUNTS, names=CIFAR10, side=2) -> ArraySource:
    """So many records of each class, shuffled."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(0).permutation(labels)
    shape = (len(labels), side, side, 3)
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    return image_source(pixels, labels, name="classes", class_names=names)


class OnDisk:
    """The records of another source, one at a time; some cannot be read."""

    def __init__(self, source, bad=()):
        self._source, self._bad = source, bad
        self.name, self.class_names = "disk", source.class_names
        self.spec, self.fingerprint = source.spec, source.fingerprint

    def __len__(self):
        return len(self._source)

    def read(self, index, rng):
        if index in self._bad:
            raise BadRecord("broken on purpose")
        return self._source.read(index, rng)

    def record_name(self, index):
        return f"disk-{index}"


def symmetric(**changes) -> NoiseConfig:
    return NoiseConfig(**{"kind": "symmetric", "rate": 0.4, **changes})


# --- Which labels, and what they become


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.5, 0.9, 1.0])
def test_exactly_this_share_of_each_class_gets_another_class(rate):
    source = classes()
    noisy = noisy_labels(source, symmetric(rate=rate))
    wrong = noisy.arrays["label"] != source.arrays["label"]
    expected = [int(count * round(100 * rate)) // 100 for count in COUNTS]
    assert np.bincount(source.arrays["label"][wrong], minlength=10).tolist() == expected
    np.testing.assert_array_equal(noisy.arrays["true_label"], source.arrays["label"])
    assert noisy.name == f"classes with {wrong.mean():.1%} wrong labels"


def test_every_other_class_is_as_likely():
    source = classes((20_000, 0, 20_000, 0, 0, 0, 0, 0, 0, 0))
    labels = noisy_labels(source, symmetric(rate=0.9)).arrays["label"]
    for true in (0, 2):
        drawn = np.bincount(labels[source.arrays["label"] == true], minlength=10)
        assert drawn[true] == 2000
        assert stats.chisquare(np.delete(drawn, true)).pvalue > 1e-3


def test_any_draws_the_true_class_too():
    source = classes((20_000, 20_000), CIFAR10[:2])
    labels = noisy_labels(source, symmetric(rate=0.5, replacement="any")).arrays[
        "label"
    ]
    wrong = (labels != source.arrays["label"]).mean()
    assert abs(wrong - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 40_000)


def test_bernoulli_marks_each_label_by_itself():
    source = classes((30_000, 10_000), CIFAR10[:2])
    labels = noisy_labels(source, symmetric(rate=0.3, count="bernoulli")).arrays[
        "label"
    ]
    wrong = np.bincount(source.arrays["label"][labels != source.arrays["label"]])
    for found, count in zip(wrong, (30_000, 10_000), strict=True):
        assert found != 0.3 * count
        assert abs(found - 0.3 * count) < 5 * np.sqrt(count * 0.3 * 0.7)


@pytest.mark.parametrize("pairs", [PAIRS, ()])
def test_asymmetric_noise_turns_each_class_into_one(pairs):
    source = classes()
    config = NoiseConfig(kind="asymmetric", rate=0.3, pairs=pairs)
    labels = noisy_labels(source, config).arrays["label"]
    circle = zip(CIFAR10, [*CIFAR10[1:], CIFAR10[0]], strict=True)
    partner = dict(pairs or circle)
    for k, name in enumerate(CIFAR10):
        found = np.bincount(labels[source.arrays["label"] == k], minlength=10)
        expected = np.zeros(10, int)
        moved = COUNTS[k] * 3 // 10 if name in partner else 0
        expected[k] = COUNTS[k] - moved
        expected[CIFAR10.index(partner.get(name, name))] += moved
        np.testing.assert_array_equal(found, expected)


def test_predicted_labels_come_from_a_file(tmp_path):
    source = classes()
    guess = np.random.default_rng(5).integers(0, 10, len(source))
    np.savez_compressed(tmp_path / "alexnet.npz", predicted=guess, accuracy=0.1)
    file = str(tmp_path / "alexnet.npz")
    noisy = noisy_labels(source, NoiseConfig(kind="predicted", file=file))
    np.testing.assert_array_equal(noisy.arrays["label"], guess)
    assert noisy.arrays["label"].dtype == np.int32
    np.testing.assert_array_equal(noisy.arrays["true_label"], source.arrays["label"])


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.zeros(9, int)}, "no array 'predicted'; it has: labels"),
        ({"predicted": np.zeros(8, int)}, r"is int64 \(8,\); .* of shape \(9,\)"),
        ({"predicted": np.zeros((9, 1), int)}, r"is int64 \(9, 1\)"),
        ({"predicted": np.zeros(9)}, r"is float64 \(9,\)"),
        ({"predicted": np.arange(9)}, "holds 0 to 8; the classes of classes are 0 to"),
        ({"predicted": np.arange(9) - 9}, "holds -9 to -1"),
        ({"predicted": np.array([{}] * 9)}, "pickled objects; not read"),
        ({"predicted": np.zeros(10**6, int)}, "has 8000128 bytes; allowed: 4168"),
    ],
)
def test_predicted_labels_that_do_not_fit_are_refused(tmp_path, arrays, words):
    np.savez_compressed(tmp_path / "bad.npz", **arrays)
    config = NoiseConfig(kind="predicted", file=str(tmp_path / "bad.npz"))
    with pytest.raises(UserError, match=words) as caught:
        noisy_labels(classes((4, 5), CIFAR10[:2]), config)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["none.npz", "/dev/zero", "fifo.npz", "/"])
def test_a_missing_file_is_named(file, tmp_path):
    os.mkfifo(tmp_path / "fifo.npz")
    config = NoiseConfig(kind="predicted", file=str(tmp_path / file))
    with pytest.raises(UserError, match=f"noise.file: .* no regular file .*{file}"):
        noisy_labels(classes(), config)


def test_without_noise_the_true_label_is_the_label():
    several = image_source(np.zeros((3, 2, 2, 3), np.uint8), np.eye(3, dtype=int))
    for source in (classes(), several):
        for given in (source, OnDisk(source)):
            same = noisy_labels(given, NoiseConfig())
            assert same.fingerprint == source.fingerprint
            assert same.name == given.name
            record = read_record(same, 2)
            for name in ("label", "true_label"):
                np.testing.assert_array_equal(record[name], source.arrays["label"][2])


# --- How long it stays


def test_the_noise_of_a_seed_never_changes():
    source = classes((6, 6, 6), CIFAR10[:3])
    noisy = noisy_labels(source, symmetric(rate=0.5))
    golden = [1, 0, 2, 1, 0, 1, 0, 0, 0, 2, 2, 1, 1, 1, 0, 0, 0, 2]
    assert noisy.arrays["label"].tolist() == golden
    with jax.default_prng_impl("rbg"):
        again = noisy_labels(source, symmetric(rate=0.5))
    assert again.arrays["label"].tolist() == golden


def test_the_fingerprint_follows_the_labels():
    source = classes()
    configs = [
        NoiseConfig(),
        symmetric(),
        symmetric(seed=1),
        symmetric(rate=0.5),
        symmetric(replacement="any"),
        NoiseConfig(kind="asymmetric", rate=0.4),
    ]
    found = [noisy_labels(source, config).fingerprint for config in configs]
    assert len(set(found)) == len(configs)
    assert found == [noisy_labels(source, config).fingerprint for config in configs]


def test_noise_shares_the_images_and_reaches_batches():
    source = classes()
    noisy = noisy_labels(source, symmetric())
    assert np.shares_memory(noisy.arrays["image"], source.arrays["image"])
    for given in (noisy, noisy_labels(OnDisk(source), symmetric())):
        with pipeline.batches(given, batch_size=64, seed=0) as rows:
            for batch in itertools.islice(rows, 3):
                ids = batch["id"]
                np.testing.assert_array_equal(
                    batch["image"], source.arrays["image"][ids]
                )
                np.testing.assert_array_equal(
                    batch["label"], noisy.arrays["label"][ids]
                )
                np.testing.assert_array_equal(
                    batch["true_label"], source.arrays["label"][ids]
                )
                assert batch["label"].dtype == batch["true_label"].dtype == np.int32
        part = subset(given, 9)
        chosen = Part(given, 9).indices
        np.testing.assert_array_equal(
            part.arrays["label"], noisy.arrays["label"][chosen]
        )
        np.testing.assert_array_equal(
            part.arrays["true_label"], source.arrays["label"][chosen]
        )


# --- Labels without images


def test_labels_are_read_without_decoding_an_image(class_folder, monkeypatch):
    source = load("folder", split="train", data_dir=str(class_folder))
    noisy = noisy_labels(source, symmetric(rate=0.5))
    monkeypatch.setattr(images, "decode", lambda *_, **__: pytest.fail("decoded"))
    assert labels_of(source).tolist() == [0] * 6 + [1] * 6
    assert labels_of(Part(source, 4)).tolist() == [0, 0, 1, 1]
    flipped = labels_of(noisy) != labels_of(source)
    assert [flipped[:6].sum(), flipped[6:].sum()] == [3, 3]
    assert labels_of(noisy_labels(source, NoiseConfig())).tolist() == [0] * 6 + [1] * 6
    assert labels_of(Part(noisy, 4)).tolist() == labels_of(noisy)[[0, 3, 6, 9]].tolist()
    assert noisy.record_name(3) == source.record_name(3)


def test_a_damaged_record_has_the_label_of_its_stand_in():
    source = classes((20, 20, 20), CIFAR10[:3])
    expected = source.arrays["label"].copy()
    expected[[4, 5, 59]] = source.arrays["label"][[6, 6, 0]]
    found = labels_of(OnDisk(source, bad={4, 5, 59}))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int32
    with pytest.raises(UserError, match=r"row \(17\); the last is disk-26: broken"):
        labels_of(OnDisk(source, bad=set(range(10, 40))))


def test_records_without_a_label_get_no_wrong_one(tmp_path):
    source = classes((20, 20, 20), CIFAR10[:3])
    given = source.arrays["label"].copy()
    given[::4] = -1
    known = given >= 0
    some = image_source(source.arrays["image"], given, class_names=CIFAR10[:3])
    part = image_source(
        source.arrays["image"][known], given[known], class_names=CIFAR10[:3]
    )
    np.savez(tmp_path / "predicted.npz", predicted=(source.arrays["label"] + 1) % 3)
    configs = [
        symmetric(),
        NoiseConfig(kind="asymmetric", rate=0.5),
        NoiseConfig(kind="predicted", file=str(tmp_path / "predicted.npz")),
    ]
    for config in configs:
        noisy = noisy_labels(some, config)
        labels = noisy.arrays["label"]
        assert (labels[~known] == -1).all()
        if config.kind == "predicted":
            np.testing.assert_array_equal(labels[known], (given[known] + 1) % 3)
        else:
            want = noisy_labels(part, config).arrays["label"]
            np.testing.assert_array_equal(labels[known], want)
        wrong = (labels != given)[known].mean()
        assert noisy.name.endswith(f"with {wrong:.1%} wrong labels")


def test_labels_of_arrays_are_a_copy():
    source = classes()
    labels_of(source)[:] = 7
    assert set(source.arrays["label"]) == set(range(10))


# --- What is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "symetric"}, "noise.kind is 'symetric'; .*Did you mean 'symmetric'"),
        ({"rate": 0.4}, "noise.rate is 0.4, but kind is 'none'; set kind to 'symm"),
        (
            {"kind": "symmetric", "rate": 40.0},
            "noise.rate is 40.0; it must be at",
        ),
        ({"kind": "symmetric", "rate": -0.1}, "noise.rate is -0.1"),
        ({"kind": "symmetric", "replacement": "all"}, "noise.replacement is 'all'"),
        ({"kind": "symmetric", "count": "some"}, "noise.count is 'some'"),
        ({"kind": "asymmetric", "replacement": "any"}, "noise.replacement is 'any', b"),
        ({"kind": "symmetric", "pairs": (("a", "b"),)}, "noise.pairs is .*, but kind"),
        ({"kind": "asymmetric", "pairs": (("a", "a"),)}, "noise.pairs is .*two cl"),
        (
            {"kind": "asymmetric", "pairs": (("a", "b"), ("a", "c"))},
            "no class stands twice",
        ),
        ({"kind": "asymmetric", "pairs": (("a",),)}, "noise.pairs.0. is .*2 values"),
        ({"kind": "predicted"}, "noise.file is empty"),
        ({"kind": "predicted", "file": "a", "rate": 0.4}, "but kind is 'predicted'"),
        ({"kind": "symmetric", "file": "a.npz"}, "noise.file is 'a.npz', but kind is"),
        ({"seed": -1}, "noise.seed is -1"),
    ],
)
def test_impossible_settings_are_named(values, words):
    with pytest.raises(UserError, match=words) as caught:
        section.read(NoiseConfig, {"noise": values}, "noise")
    assert "\n" not in str(caught.value)


def test_data_without_one_known_label_a_record_are_refused():
    pixels = np.zeros((3, 2, 2, 3), np.uint8)
    several = image_source(pixels, np.eye(3, dtype=int), name="voc", class_names="abc")
    for given in (several, OnDisk(several)):
        with pytest.raises(
            UserError, match=rf"^{given.name} has labels int32 \(3,\); label"
        ):
            noisy_labels(given, symmetric())
    for labels, names in (([-1, -1, -1], "abc"), ([0, 0, 0], "a")):
        source = image_source(pixels, np.array(labels), name="x", class_names=names)
        with pytest.raises(UserError, match=r"^x has labels .* and \d class names"):
            noisy_labels(source, symmetric())
    config = NoiseConfig(kind="asymmetric", rate=0.1, pairs=(("dog", "car"),))
    with pytest.raises(UserError, match=r"pairs names 'car'; .*Did you mean 'cat'"):
        noisy_labels(classes(), config)


# --- Pixels


def test_each_image_has_its_pixels_in_an_order_of_its_own(monkeypatch):
    monkeypatch.setattr(corruption, "CHUNK", 16)
    source = classes((20, 21), CIFAR10[:2], side=5)
    permuted = permuted_pixels(source, seed=3)
    key = jax.random.key(3)
    for i, (image, found) in enumerate(
        zip(source.arrays["image"], permuted.arrays["image"], strict=True)
    ):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, i), 25))
        expected = np.empty_like(image)
        for place, pixel in enumerate(order):
            expected[divmod(place, 5)] = image[divmod(int(pixel), 5)]
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(permuted.arrays["label"], source.arrays["label"])
    assert permuted.name == "classes with permuted pixels"


def test_the_orders_follow_from_the_seed_and_the_index():
    index = np.arange(36, dtype=np.uint8).reshape(1, 6, 6)
    grey = image_source(np.repeat(index, 30, axis=0), np.zeros(30, int))
    one, same = permuted_pixels(grey, seed=0), permuted_pixels(grey, seed=0)
    other = permuted_pixels(grey, seed=1)
    np.testing.assert_array_equal(one.arrays["image"], same.arrays["image"])
    np.testing.assert_array_equal(
        one.arrays["image"][..., 0], one.arrays["image"][..., 2]
    )
    orders = [tuple(x[..., 0].ravel()) for s in (one, other) for x in s.arrays["image"]]
    assert len(set(orders)) == 60
    assert all(sorted(order) == list(range(36)) for order in orders)
    assert one.fingerprint == same.fingerprint
    assert len({s.fingerprint for s in (one, other, grey)}) == 3
    few = image_source(grey.arrays["image"][:7], np.zeros(7, int))
    np.testing.assert_array_equal(
        permuted_pixels(few, seed=0).arrays["image"], one.arrays["image"][:7]
    )


def test_permuted_pixels_keep_noise_and_read_images_from_disk(monkeypatch):
    source = classes((20, 21), CIFAR10[:2])
    noisy = noisy_labels(source, symmetric())
    expected = permuted_pixels(source, seed=0)
    for given in (noisy, noisy_labels(OnDisk(source), symmetric())):
        found = permuted_pixels(given, seed=0)
        np.testing.assert_array_equal(found.arrays["image"], expected.arrays["image"])
        np.testing.assert_array_equal(found.arrays["label"], noisy.arrays["label"])
        np.testing.assert_array_equal(
            found.arrays["true_label"], source.arrays["label"]
        )
    monkeypatch.setattr(corruption, "MAX_BYTES", 2 * 2 * 3 * 41 - 1)
    with pytest.raises(UserError, match="in memory, at most 0 GiB"):
        permuted_pixels(source, seed=0)
