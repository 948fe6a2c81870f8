import itertools
import logging

import grain
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxssl.data import ArraySource, image_source, pipeline
from jaxssl.data.order import epoch_order
from jaxssl.data.source import image_spec
from jaxssl.errors import BadRecord, UserError

GRID = [
    (n, hosts, per_host)
    for n in (1, 2, 31, 97, 1000, 1003)
    for hosts in (1, 2, 3, 4)
    for per_host in (1, 4, 7)
    if hosts * per_host <= n
]


def counting(n: int) -> ArraySource:
    """Image i holds the value i in two bytes, label i is i % 7."""
    images = np.zeros((n, 1, 1, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = divmod(np.arange(n), 256)
    return image_source(images, np.arange(n) % 7, name="counting")


class Faulty:
    """A data set on which some records cannot be read."""

    name = "faulty"
    class_names = ()
    spec = image_spec((1, 1, 3))
    fingerprint = "faulty"

    def __init__(self, n: int, bad: set[int]):
        self._inner, self._bad = counting(n), bad

    def __len__(self) -> int:
        return len(self._inner)

    def read(self, index: int, rng):
        if index in self._bad:
            raise BadRecord("broken on purpose")
        return self._inner.read(index, rng)

    def record_name(self, index: int) -> str:
        return f"file-{index}.png"


def take(source, steps: int, **options):
    with pipeline.batches(source, **options) as iterator:
        return list(itertools.islice(iterator, steps))


def ids(batches) -> list[list[int]]:
    return [batch["id"].tolist() for batch in batches]


@pytest.mark.parametrize(("n", "hosts", "per_host"), GRID)
def test_hosts_share_each_epoch_exactly_once(n, hosts, per_host, faults):
    batch_size = hosts * per_host
    steps = n // batch_size
    common = {"batch_size": batch_size, "seed": 3}
    parts = [
        take(counting(n), steps, process_index=h, process_count=hosts, **common)
        for h in range(hosts)
    ]
    whole = ids(take(counting(n), steps, **common))
    joined = [
        list(itertools.chain(*rows)) for rows in zip(*map(ids, parts), strict=True)
    ]
    assert joined == whole
    assert all(len(rows) == per_host for part in parts for rows in ids(part))
    seen = list(itertools.chain(*whole))
    assert len(set(seen)) == len(seen) == steps * batch_size
    if n % batch_size == 0:
        assert sorted(seen) == list(range(n))
    faults.record("F12", injected=1, survived=1)


@pytest.mark.parametrize("n", [1, 2, 31, 97])
def test_starting_at_any_step_continues_the_same_sequence(n, faults):
    batch_size = min(n, 4)
    steps = 2 * (n // batch_size) + 3  # into the third epoch
    common = {"batch_size": batch_size, "seed": 1}
    whole = take(counting(n), steps, **common)
    for start in range(steps):
        rest = take(counting(n), steps - start, start_step=start, **common)
        assert ids(rest) == ids(whole[start:])
    faults.record("F12", injected=steps, survived=steps)


def test_any_start_on_any_host_gives_its_slice_of_the_order(faults):
    tried = []

    @settings(max_examples=120, deadline=None)
    @given(
        n=st.integers(1, 60),
        hosts=st.integers(1, 4),
        per_host=st.integers(1, 6),
        start=st.integers(0, 200),
        seed=st.integers(0, 5),
    )
    def check(n, hosts, per_host, start, seed):
        batch_size = hosts * per_host
        if batch_size > n:
            return
        host = start % hosts
        options = {"process_index": host, "process_count": hosts, "start_step": start}
        (batch,) = take(counting(n), 1, batch_size=batch_size, seed=seed, **options)
        epoch, step = divmod(start, n // batch_size)
        order = epoch_order(seed, epoch, n).tolist()
        first = step * batch_size + host * per_host
        assert batch["id"].tolist() == order[first : first + per_host]
        tried.append((n, hosts, per_host, start, seed))

    check()
    count = len(set(tried))
    faults.record("F12", injected=count, survived=count)


def test_a_batch_holds_the_records_that_its_ids_name():
    for batch in take(counting(1000), 7, batch_size=128, seed=0):
        values = batch["image"][:, 0, 0].astype(int) @ np.array([256, 1, 0])
        np.testing.assert_array_equal(values, batch["id"])
        np.testing.assert_array_equal(batch["label"], batch["id"] % 7)
        assert batch["image"].dtype == np.uint8
        assert batch["label"].dtype == batch["id"].dtype == np.int32


def test_epochs_and_seeds_have_different_orders():
    orders = [
        tuple(epoch_order(seed, epoch, 97)) for seed in (0, 1) for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(97)) for order in orders)


def test_the_order_of_a_seed_never_changes():
    assert epoch_order(0, 0, 10).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]


@pytest.mark.parametrize(
    ("num_workers", "hosts"),
    [
        (2, 1),
        *(pytest.param(*n, marks=pytest.mark.slow) for n in ((1, 1), (1, 4), (2, 4))),
    ],
)
def test_workers_change_nothing(num_workers, hosts, faults):
    common = {"batch_size": 8, "seed": 5, "start_step": 3}
    common |= {"process_index": hosts - 1, "process_count": hosts}
    alone = take(counting(31), 9, num_workers=0, **common)
    helped = take(counting(31), 9, num_workers=num_workers, **common)
    for a, b in zip(alone, helped, strict=True):
        for name in ("image", "label", "id"):
            np.testing.assert_array_equal(a[name], b[name])
            assert b[name].base is None  # not in memory that a worker owns
    faults.record("F12", injected=1, survived=1)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [31, 97, 1000])
def test_hosts_with_workers_read_what_one_host_reads(n, hosts, num_workers, faults):
    """Into the second epoch, and from another step on."""
    common = {"batch_size": n // 7 // hosts * hosts, "seed": 3, "start_step": 2}
    steps = n // common["batch_size"] + 2
    parts = [
        take(
            counting(n),
            steps,
            process_index=host,
            process_count=hosts,
            num_workers=num_workers,
            **common,
        )
        for host in range(hosts)
    ]
    joined = [
        list(itertools.chain(*rows)) for rows in zip(*map(ids, parts), strict=True)
    ]
    assert joined == ids(take(counting(n), steps, **common))
    faults.record("F12", injected=1, survived=1)


def test_the_iterator_counts_steps_and_waiting():
    with pipeline.batches(counting(31), batch_size=4, seed=0, start_step=5) as iterator:
        next(iterator), next(iterator)
        assert iterator.step == 7
        assert iterator.wait_seconds > 0
    with pytest.raises(StopIteration):
        next(iterator)


def test_an_unreadable_record_is_replaced_by_the_next_readable_one(caplog, faults):
    bad = {4, 5, 30}
    good = take(counting(31), 7, batch_size=4, seed=2)
    with caplog.at_level(logging.WARNING):
        with pipeline.batches(Faulty(31, bad), batch_size=4, seed=2) as iterator:
            got = list(itertools.islice(iterator, 7))
            found = dict(iterator.bad_records)
    replaced = {4: 6, 5: 6, 30: 0}
    want = [[replaced.get(i, i) for i in row] for row in ids(good)]
    assert ids(got) == want
    assert set(found) == bad
    assert "file-4.png" in caplog.text
    assert len(caplog.records) == 3
    faults.record("F10", injected=3, survived=3)


def test_a_bad_record_counts_once_over_epochs():
    iterator = pipeline.batches(
        Faulty(8, {1, 3}), batch_size=8, seed=0, max_bad_records=2
    )
    with iterator:
        list(itertools.islice(iterator, 10))
        assert len(iterator.bad_records) == 2


@pytest.mark.parametrize("limit", [0, 2, 5])
def test_too_many_bad_records_stop_with_the_name_of_one(limit, faults):
    source = Faulty(40, set(range(3, 3 + limit + 1)))
    with pytest.raises(UserError, match=r"file-\d+\.png: broken on purpose"):
        take(source, 10, batch_size=4, seed=0, max_bad_records=limit)
    faults.record("F10", injected=limit + 1, survived=limit + 1)


def test_a_data_set_without_any_readable_record_stops(faults):
    with pytest.raises(UserError, match="Too many unreadable"):
        take(Faulty(5, set(range(5))), 1, batch_size=2, seed=0, max_bad_records=100)
    faults.record("F10", injected=5, survived=5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 32}, "batch_size is 32; counting has 31"),
        ({"batch_size": 0}, "allowed: 1 to 31"),
        ({"batch_size": 8, "process_count": 3}, "multiple of the 3 hosts"),
        ({"batch_size": 8, "process_index": 2, "process_count": 2}, "0 to 1"),
        ({"batch_size": 8, "start_step": -1}, "must not be negative"),
    ],
)
def test_impossible_requests_say_what_is_allowed(options, words):
    with pytest.raises(UserError, match=words):
        pipeline.batches(counting(31), seed=0, **options)


@pytest.mark.parametrize("batch_size", [1, 4, 31, 40])
def test_epoch_gives_every_record_once_in_order(batch_size):
    source = counting(31)
    pages = list(pipeline.epoch(source, batch_size=batch_size))
    assert all(batch["image"].shape == (batch_size, 1, 1, 3) for batch, _ in pages)
    counted = np.concatenate([batch["id"][mask] for batch, mask in pages])
    np.testing.assert_array_equal(counted, np.arange(31))
    assert sum(mask.sum() for _, mask in pages) == 31


def test_epoch_does_not_count_unreadable_records():
    pages = list(pipeline.epoch(Faulty(10, {2, 9}), batch_size=4))
    counted = np.concatenate([batch["id"][mask] for batch, mask in pages])
    assert counted.tolist() == [0, 1, 3, 4, 5, 6, 7, 8]
    with pytest.raises(UserError, match="file-"):
        list(pipeline.epoch(Faulty(10, {2, 9}), batch_size=4, max_bad_records=1))
    with pytest.raises(UserError, match="batch_size"):
        next(pipeline.epoch(counting(3), batch_size=0))


def test_many_labels_a_record_stay_a_vector():
    source = image_source(np.zeros((6, 2, 2, 3), np.uint8), np.eye(6, dtype=np.int64))
    (batch,) = take(source, 1, batch_size=6, seed=0)
    np.testing.assert_array_equal(batch["label"].argmax(1), batch["id"])
    assert batch["label"].dtype == np.int32


def test_grain_reads_the_steps():
    with pipeline.batches(counting(8), batch_size=2, seed=0) as iterator:
        assert isinstance(iterator._rows, grain.DatasetIterator)
