"""The label-matched sampler: its laws at ordinary and at odd sizes."""

import inspect

import numpy as np
import pytest

from jaxssl.optim import bilevel


def make_labels(counts, seed=0):
    labels = np.repeat(list(counts), list(counts.values()))
    return np.random.default_rng(seed).permutation(labels)


def unchecked(*args, **settings):
    """Build a sampler as users do, without the shape checks of pytest."""
    sampler = object.__new__(bilevel.LabelMatchedSampler)
    inspect.unwrap(bilevel.LabelMatchedSampler.__init__)(sampler, *args, **settings)
    return sampler


ORDINARY = {0: 40, 3: 25, 7: 33}
CASES = {
    "ordinary": (ORDINARY, 4, 5),
    "one label a step": (ORDINARY, 4, 1),
    "two mini-batches": (ORDINARY, 2, 8),
    "k x B larger than a class": ({0: 9, 1: 300}, 8, 16),
    "B larger than a class": ({0: 4, 1: 60}, 4, 32),
    "class of k images": ({-2: 4, 5: 4}, 4, 3),
    "one class": ({2: 12}, 3, 12),
}


@pytest.mark.parametrize(("counts", "k", "b"), CASES.values(), ids=CASES)
def test_mini_batches_have_the_same_labels_and_classes_pass_whole(counts, k, b):
    labels = make_labels(counts)
    sampler = bilevel.LabelMatchedSampler(labels, k=k, per_minibatch=b, seed=1)
    steps = len(labels) // b + 6  # More than one shuffle of the labels.
    drawn = {label: [] for label in counts}
    vectors = []
    for step in range(steps):
        indices = sampler(step)
        assert indices.shape == (k, b)
        matched = labels[indices]
        assert (matched == matched[0]).all()
        vectors.append(matched[0])
        # Place by place, mini-batch by mini-batch: the order of the queues.
        for image in indices.T.ravel():
            drawn[int(labels[image])].append(int(image))
    for label, images in drawn.items():
        members = np.flatnonzero(labels == label)
        assert len(images) > len(members)
        for start in range(0, len(images), len(members)):
            turn = images[start : start + len(members)]
            assert len(set(turn)) == len(turn)
            if len(turn) == len(members):
                assert sorted(turn) == members.tolist()
    # The label vectors are shuffles of the whole set's labels, one after the other.
    stream = np.concatenate(vectors)
    whole = len(stream) // len(labels)
    assert whole >= 1
    for part in stream[: whole * len(labels)].reshape(whole, -1):
        assert sorted(part) == sorted(labels)


def test_images_do_not_repeat_within_an_ordinary_step():
    """In 100 classes of 64 no pass ends early."""
    labels = make_labels(dict.fromkeys(range(100), 64))
    sampler = bilevel.LabelMatchedSampler(labels)
    different = [len(set(sampler(step).ravel())) == 64 for step in range(60)]
    assert all(different[:40])
    assert sampler.steps_per_epoch == 100


def test_any_step_can_come_first():
    labels = make_labels(ORDINARY)
    settings = {"k": 4, "per_minibatch": 5, "seed": 3}
    whole = bilevel.LabelMatchedSampler(labels, **settings)
    expected = [whole(step) for step in range(120)]
    for step in (119, 0, 57, 58, 3, 119):
        fresh = bilevel.LabelMatchedSampler(labels, **settings)
        np.testing.assert_array_equal(fresh(step), expected[step])
        np.testing.assert_array_equal(whole(step), expected[step])


def test_seeds_and_passes_differ():
    labels = make_labels(ORDINARY)
    one, other = (
        bilevel.LabelMatchedSampler(labels, seed=seed, k=4) for seed in (0, 1)
    )
    assert (one(0) != other(0)).any()
    single = bilevel.LabelMatchedSampler(make_labels({0: 40}), k=2, per_minibatch=20)
    assert (single(0) != single(1)).any()
    # Every pass is a shuffle: over many, each image is first about equally often.
    tiny = bilevel.LabelMatchedSampler(make_labels({0: 4}), k=2, per_minibatch=2)
    first = np.bincount([tiny(step)[0, 0] for step in range(400)], minlength=4)
    assert first.min() > 70


def test_images_for_validation_alone_are_in_mini_batch_0_alone():
    labels = make_labels(ORDINARY)
    val = np.concatenate([np.flatnonzero(labels == c)[:5] for c in ORDINARY])
    sampler = bilevel.LabelMatchedSampler(labels, k=4, per_minibatch=6, val_indices=val)
    assert sampler.steps_per_epoch == (len(labels) - 15) // 18
    seen_val, seen_train = set(), set()
    for step in range(30):
        indices = sampler(step)
        assert (labels[indices] == labels[indices[0]]).all()
        seen_val |= set(indices[0])
        seen_train |= set(indices[1:].ravel())
    assert seen_val == set(val)
    assert seen_train == set(range(len(labels))) - set(val)


def test_small_classes_are_refused_or_repeat():
    labels = make_labels({0: 20, 1: 1, 2: 3})
    with pytest.raises(ValueError, match=r"at least 4 images .* got less of \[1, 2\]"):
        bilevel.LabelMatchedSampler(labels, k=4)
    sampler = bilevel.LabelMatchedSampler(labels, k=4, small_classes="repeat")
    lonely = np.flatnonzero(labels == 1)[0]
    columns = np.concatenate([sampler(step) for step in range(9)], axis=1)
    of_lonely = columns[:, labels[columns[0]] == 1]
    assert of_lonely.shape[1] >= 3
    assert (of_lonely == lonely).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"labels": np.zeros((4, 2), int)}, ValueError, r"one axis .*\(4, 2\)"),
        ({"labels": np.zeros(0, int)}, ValueError, r"not be empty; got shape \(0,\)"),
        ({"labels": np.zeros(9)}, TypeError, "labels must be whole numbers; got float"),
        ({"k": 1}, ValueError, "k must be at least 2; got 1"),
        ({"k": 2.5}, TypeError, "k must be a whole number; got 2.5"),
        ({"per_minibatch": 0}, ValueError, "per_minibatch must be at least 1"),
        ({"per_minibatch": 17}, ValueError, "at most the 16 images .*; got 17"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"val_indices": np.array([16])}, ValueError, "between 0 and 15; got 16 to 16"),
        ({"val_indices": np.array([0])}, ValueError, r"every class; got none of \[1\]"),
        ({"small_classes": "drop"}, ValueError, "one of 'error', 'repeat'; got 'drop'"),
    ],
)
def test_impossible_settings_are_refused(change, error, words):
    settings = {"labels": np.arange(16) % 2, "k": 4, "per_minibatch": 4, **change}
    with pytest.raises(error, match=words):
        unchecked(settings.pop("labels"), **settings)


@pytest.mark.parametrize(("step", "error"), [(-1, ValueError), (1.5, TypeError)])
def test_a_step_is_a_natural_number(step, error):
    sampler = bilevel.LabelMatchedSampler(np.arange(16) % 2, k=4)
    call = inspect.unwrap(type(sampler).__call__)
    with pytest.raises(error, match="step must be"):
        call(sampler, step)
