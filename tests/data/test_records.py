"""Batches hold what a source declares and reads, bit for bit, and nothing else."""

import itertools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxssl.data import ArraySource, Source, pipeline
from jaxssl.data.corruption import NoiseConfig, noisy_labels, permuted_pixels
from jaxssl.data.source import label_of, read_record
from jaxssl.data.subset import Part, subset
from jaxssl.errors import BadRecord, UserError
from jaxssl.train import state_init

KINDS = {
    "image": [(np.uint8, (3, 2, 3)), (np.uint8, (1, 1, 1))],
    "clip": [(np.uint8, (2, 3, 2, 3))],
    "num_frames": [(np.int32, ())],
    "pose": [(np.float32, (6,)), (np.float16, (2, 3))],
    "label": [(np.int32, ()), (np.float32, (3,)), (np.int8, (4,)), (np.float32, ())],
    "mask": [(np.bool_, (5,))],
}


class Rows:
    """Arrays that are read one record at a time, as from a disk."""

    name, class_names, fingerprint = "rows", (), "rows"

    def __init__(self, arrays, spec=None):
        self._arrays = arrays
        self.spec = ArraySource(arrays).spec if spec is None else spec

    def __len__(self):
        return len(next(iter(self._arrays.values())))

    def read(self, index, rng):
        return {name: array[index] for name, array in self._arrays.items()}

    def record_name(self, index):
        return f"row {index}"


class Drawing:
    """Each record holds what its generator drew; some records cannot be read."""

    name, class_names, fingerprint = "drawing", (), "drawing"

    def __init__(self, bad=()):
        self.spec = {"drawn": jax.ShapeDtypeStruct((2,), np.uint32)}
        self._bad = bad

    def __len__(self):
        return 10

    def read(self, index, rng):
        if index in self._bad:
            raise BadRecord("broken on purpose")
        return {"drawn": rng.integers(2**32, size=2, dtype=np.uint32)}

    def record_name(self, index):
        return f"drawing {index}"


def bits(dtype, shape, seed):
    """Random bits, so that floats are of all kinds, also not a number."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


@st.composite
def records(draw):
    """Arrays of some of the kinds, with as many rows."""
    count = draw(st.integers(2, 9))
    names = draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, unique=True))
    kinds = {name: draw(st.sampled_from(KINDS[name])) for name in names}
    return {
        name: bits(dtype, (count, *shape), seed)
        for seed, (name, (dtype, shape)) in enumerate(kinds.items())
    }


def check_batch(batch, arrays):
    assert batch.keys() == {*arrays, "id"}
    assert batch["id"].dtype == np.int32
    for name, array in arrays.items():
        assert batch[name].dtype == array.dtype
        assert batch[name].shape == (len(batch["id"]), *array.shape[1:])
        assert batch[name].tobytes() == array[batch["id"]].tobytes()


def take(source, steps, **options):
    with pipeline.batches(source, **options) as rows:
        return list(itertools.islice(rows, steps))


@settings(max_examples=30, deadline=None)
@given(
    arrays=records(),
    kind=st.sampled_from([Rows, ArraySource]),
    hosts=st.sampled_from([1, 2]),
    start=st.integers(0, 7),
)
def test_a_record_reaches_batches_bit_for_bit(arrays, kind, hosts, start):
    source = kind(arrays)
    assert isinstance(source, Source)
    options = {"batch_size": 2, "seed": 1, "start_step": start}
    for host in range(hosts):
        share = {"process_index": host, "process_count": hosts}
        for batch in take(source, 3, **options, **share):
            assert len(batch["id"]) == 2 // hosts
            check_batch(batch, arrays)
    ids = []
    for batch, mask in pipeline.epoch(source, batch_size=4):
        check_batch(batch, arrays)
        ids += batch["id"][mask].tolist()
    assert ids == list(range(len(source)))
    spec = state_init.make_spec(source, batch_size=4, max_bad_records=0)
    shapes = {name: (x.shape, x.dtype) for name, x in batch.items()}
    assert {name: (x.shape, x.dtype) for name, x in spec.items()} == shapes
    for part in (subset(source, 2), Part(source, 2)):
        half = {name: array[[0, len(source) // 2]] for name, array in arrays.items()}
        check_batch(next(pipeline.epoch(part, batch_size=2))[0], half)


@pytest.mark.parametrize("kind", [Rows, ArraySource])
def test_a_record_reaches_batches_bit_for_bit_through_workers(kind):
    arrays = {n: bits(k[0][0], (9, *k[0][1]), 0) for n, k in KINDS.items()}
    for batch in take(kind(arrays), 4, batch_size=4, seed=1, num_workers=1):
        check_batch(batch, arrays)


def test_a_label_of_floats_stays_what_it_is():
    labels = np.array([[0.25, -1.75, 3.9]] * 4, np.float32)
    (batch,) = take(Rows({"label": labels}), 1, batch_size=4, seed=0)
    assert batch["label"].dtype == np.float32
    np.testing.assert_array_equal(batch["label"], labels)


# --- What the host draws


def literal(seed, step, index):
    entropy = np.random.SeedSequence([seed, step, index])
    rng = np.random.Generator(np.random.PCG64(entropy))
    return rng.integers(2**32, size=2, dtype=np.uint32).tolist()


@pytest.mark.parametrize(
    ("hosts", "workers", "start"),
    [
        *((1, 0, 0), (2, 0, 3), (4, 0, 1), (1, 1, 2)),
        pytest.param(2, 2, 5, marks=pytest.mark.slow),
    ],
)
def test_what_is_drawn_follows_from_seed_step_and_id(hosts, workers, start):
    options = {"batch_size": 4, "seed": 6, "start_step": start, "num_workers": workers}
    drawn = []
    for host in range(hosts):
        share = {"process_index": host, "process_count": hosts}
        for step, batch in enumerate(take(Drawing(), 4, **options, **share), start):
            for index, row in zip(batch["id"], batch["drawn"], strict=True):
                assert row.tolist() == literal(6, step, int(index))
                drawn.append(tuple(row.tolist()))
    assert len(set(drawn)) == len(drawn) == 16


def test_a_stand_in_has_the_draw_of_its_own_id():
    (batch,) = take(Drawing(bad={3, 4}), 1, batch_size=10, seed=6)
    assert sorted(batch["id"].tolist()) == [0, 1, 2, 5, 5, 5, 6, 7, 8, 9]
    for index, row in zip(batch["id"], batch["drawn"], strict=True):
        assert row.tolist() == literal(6, 0, int(index))


def test_each_evaluation_draws_the_same():
    for _ in range(2):
        for batch, _ in pipeline.epoch(Drawing(), batch_size=4):
            for index, row in zip(batch["id"], batch["drawn"], strict=True):
                assert row.tolist() == literal(0, 0, int(index))
    assert read_record(Drawing(), 7)["drawn"].tolist() == literal(0, 0, 7)


# --- What is refused


PAIR = {"image": np.zeros((4, 2, 2, 3), np.uint8), "label": np.zeros(4, np.int32)}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"image": PAIR["image"]}, r"holds image uint8 \(2, 2, 3\); the spec of rows"),
        ({**PAIR, "pose": np.zeros((4, 6), np.float32)}, r"pose float32 \(6,\); the"),
        ({**PAIR, "image": np.zeros((4, 2, 3, 3), np.uint8)}, r"image uint8 \(2, 3, 3"),
        ({**PAIR, "label": np.zeros(4, np.float32)}, r"label float32 \(\); the spec"),
        ({**PAIR, "label": [0, 1, 2, 3]}, r"label int64 \(\); the spec"),
    ],
)
def test_a_record_that_differs_from_the_spec_is_refused(record, message):
    class Lists(Rows):
        def read(self, index, rng):
            return {name: rows[index] for name, rows in self._arrays.items()}

    source = Lists(record, spec=ArraySource(PAIR).spec)
    declared = r"declares image uint8 \(2, 2, 3\), label int32 \(\)"
    for read in (
        lambda: take(source, 1, batch_size=2, seed=0),
        lambda: list(pipeline.epoch(source, batch_size=2)),
        lambda: state_init.make_spec(source, batch_size=2, max_bad_records=0),
    ):
        with pytest.raises(UserError, match=f"record row .*{message}.*{declared}") as e:
            read()
        assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pose": np.zeros((4, 6))}, r"pose float64 \(6,\).*Store float32 or int32"),
        ({"label": np.zeros(4, int)}, r"declares label int64 \(\); devices"),
        ({"x": np.zeros(4, np.uint64)}, "x uint64"),
        ({"x": np.zeros(4, np.complex128)}, "x complex128"),
        (
            {"word": np.array(["a", "b", "c", "d"])},
            r"word <U1 \(\); .*allowed, in native",
        ),
        ({"part": np.full(4, None)}, r"part object \(\); "),
        ({"day": np.zeros(4, "datetime64[D]")}, r"day datetime64\[D\] \(\); "),
        ({"pose": np.zeros(4, ">f4")}, r"pose >f4 \(\); .* native byte order: bool"),
        ({"id": np.zeros(4, np.int32)}, "none that is called id"),
    ],
)
@pytest.mark.parametrize("kind", [Rows, ArraySource])
def test_what_batches_cannot_hold_is_refused(kind, arrays, message):
    source = kind(arrays)
    for read in (
        lambda: pipeline.batches(source, batch_size=2, seed=0),
        lambda: next(pipeline.epoch(source, batch_size=2)),
        lambda: state_init.make_spec(source, batch_size=2, max_bad_records=0),
    ):
        with pytest.raises(UserError, match=message) as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays", [{}, {"pose": np.zeros((0, 2))}, {"pose": np.array(1.0)}]
)
def test_arrays_without_rows_are_refused(arrays):
    with pytest.raises(UserError, match="rows"):
        ArraySource(arrays)


def test_what_needs_a_label_or_a_picture_says_so():
    poses = {"pose": np.zeros((4, 6), np.float32)}
    noise = NoiseConfig(kind="symmetric", rate=0.4)
    for source in (Rows(poses), ArraySource(poses, name="rows")):
        for settings_ in (noise, NoiseConfig()):
            with pytest.raises(UserError, match=r"rows has no 'label'; .* hold: pose"):
                noisy_labels(source, settings_)
        with pytest.raises(UserError, match=r"rows has no 'image'; .* hold: pose"):
            permuted_pixels(source, seed=0)
        for given_ in (source, Part(source, 2)):
            with pytest.raises(UserError, match="has no 'label'"):
                label_of(given_, 0)
