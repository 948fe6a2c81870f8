"""Batches in an order that a method gives: a function of the global step."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxssl.data import ArraySource, image_source, pipeline
from jaxssl.data.order import epochs
from jaxssl.errors import UserError
from jaxssl.optim.bilevel import LabelMatchedSampler

LABELS = np.random.default_rng(0).integers(0, 3, 40)
SAMPLER = LabelMatchedSampler(LABELS, k=4, per_minibatch=2, seed=1)


def matched(step: int) -> np.ndarray:
    """Mini-batch after mini-batch, so that a host gets whole ones."""
    return SAMPLER(step).reshape(-1)


def numbered() -> ArraySource:
    images = np.broadcast_to(np.arange(40, dtype=np.uint8)[:, None, None, None], SHAPE)
    return image_source(images, LABELS, name="numbered")


SHAPE = (40, 2, 2, 3)


def take(steps: int, *, order=matched, source=None, **options) -> list[dict]:
    options = {"batch_size": 8, "seed": 0} | options
    rows = pipeline.batches(source or numbered(), order=order, **options)
    with rows as iterator:
        return list(itertools.islice(iterator, steps))


def test_each_step_holds_the_records_of_the_order():
    for step, batch in enumerate(take(30)):
        np.testing.assert_array_equal(batch["id"], matched(step))
        np.testing.assert_array_equal(batch["label"], LABELS[matched(step)])
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], matched(step))
        rows = batch["label"].reshape(4, 2)
        assert (rows == rows[0]).all()


@settings(max_examples=40, deadline=None)
@given(start=st.integers(0, 10_000), hosts=st.sampled_from([1, 2, 4, 8]))
def test_hosts_share_any_step_in_contiguous_rows(start, hosts):
    parts = [
        take(1, start_step=start, process_index=h, process_count=hosts)[0]["id"]
        for h in range(hosts)
    ]
    assert all(len(part) == 8 // hosts for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), matched(start))


def test_the_order_of_epochs_is_the_one_without_order():
    source = numbered()
    given_ = take(17, order=epochs(source, batch_size=8, seed=5), seed=0)
    usual = take(17, order=None, seed=5)
    for a, b in zip(given_, usual, strict=True):
        np.testing.assert_array_equal(a["id"], b["id"])


@pytest.mark.parametrize(
    "order",
    [
        matched,
        pytest.param(lambda step: SAMPLER(step).reshape(-1), marks=pytest.mark.slow),
    ],
)
def test_workers_change_nothing(order):
    alone = take(7, order=order, start_step=3)
    helped = take(7, order=order, start_step=3, num_workers=2)
    for a, b in zip(alone, helped, strict=True):
        np.testing.assert_array_equal(a["id"], b["id"])
        np.testing.assert_array_equal(a["image"], b["image"])


def test_a_step_may_hold_more_records_than_there_are():
    (batch,) = take(1, order=lambda step: np.arange(80) % 40, batch_size=80)
    assert batch["id"].tolist() == [*range(40), *range(40)]
    with pytest.raises(UserError, match="batch_size is 0; it must be above 0"):
        take(1, batch_size=0)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (lambda step: np.arange(7), r"order gives int64 \(7,\) for step 2; .* \(8,\)"),
        (lambda step: SAMPLER(step), r"order gives int64 \(4, 2\) for step 2"),
        (lambda step: np.arange(8.0), r"order gives float64 \(8,\) for step 2"),
        (lambda step: np.arange(8) + 33, "indices 33 to 40 for step 2; numbered has 0"),
        (lambda step: np.arange(8) - 1, "indices -1 to 6 for step 2; .* 0 to 39"),
    ],
)
def test_a_wrong_order_is_told_before_anything_is_read(order, words):
    with pytest.raises(UserError, match=words):
        pipeline.batches(numbered(), batch_size=8, seed=0, order=order, start_step=2)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_order_that_goes_wrong_later_stops_at_that_step(num_workers):
    order = functools.partial(np.add, np.arange(8) + 30)  # Step 3 asks for record 40.
    rows = pipeline.batches(
        numbered(), batch_size=8, seed=0, order=order, num_workers=num_workers
    )
    with rows as iterator:
        assert [next(iterator)["id"].max() for _ in range(3)] == [37, 38, 39]
        with pytest.raises(UserError, match="indices 33 to 40 for step 3"):
            next(iterator)
