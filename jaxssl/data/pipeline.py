"""Batches from a data set. The position is one integer, the global step.

The order of an epoch follows from (seed, epoch) alone. Step s belongs to epoch
``s // steps_per_epoch``; the remainder of an epoch is dropped. A method that chooses
its own batches gives an `Order` instead, which is a function of the step as well. Each
host reads a contiguous share of every global batch. What a source draws for a record
follows from (seed, step, id) alone. So a run starts at any step, with any number of
hosts, threads and workers, on exactly the samples that an uninterrupted run would see.

A batch holds what the source declares in ``Source.spec``, stacked, with the shapes and
dtypes unchanged, and ``id``.
"""

import dataclasses
import functools
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import grain
import numpy as np
from absl import flags

from jaxssl.data.bad_records import BadRecords
from jaxssl.data.order import Order, checked, epochs
from jaxssl.data.source import ArraySource, Source, check_spec, read_record
from jaxssl.errors import BadRecord, UserError, WorkerLostError
from jaxssl.types import Bool, Int

T = TypeVar("T")

MAX_THREADS = 8
ENDLESS = 1 << 60
ORPHAN_SECONDS = 1.0

KILLED = re.compile(r"terminated unexpectedly with exit code -(\d+)")  # Grain's words.


class Rows(NamedTuple):
    """Some records, and those that could not be read.

    Attributes:
      batch: the records, stacked, and ``id``.
      bad: index to reason.
    """

    batch: dict[str, np.ndarray]
    bad: dict[int, str]


Pipeline = Callable[..., "Batches"]
"""`batches` or a function like it."""


class Batches(Iterator[dict[str, np.ndarray]]):
    """Endless batches; call ``close`` or leave the ``with`` block to end its threads.

    Attributes:
      step: the step that the next batch belongs to.
      ids: global step -> indices of the records of its global batch, over all hosts, as
        the order says; nothing is read for it.
      wait_seconds: time spent so far in waiting for batches.
      bad_records: index of each unreadable record to the reason; each was replaced by
        the next readable one.
    """

    def __init__(
        self,
        rows: "grain.DatasetIterator[Rows]",
        *,
        step: int,
        ids: Order,
        bad: BadRecords,
        in_shared_memory: bool,
    ):
        """Wrap a Grain iterator that stands at ``step``.

        Args:
          rows: the iterator.
          step: of its next element.
          ids: see ``Batches``.
          bad: counts unreadable records.
          in_shared_memory: the arrays live in memory that workers own; they are copied.
        """
        self.step = step
        self.ids = ids
        self.wait_seconds = 0.0
        self._rows: Iterator[Rows] = rows
        self._bad = bad
        self._in_shared_memory = in_shared_memory
        # Grain's own clean-up is noisy when the interpreter ends first.
        self._finalizer = weakref.finalize(self, rows.close)

    @property
    def bad_records(self) -> dict[int, str]:
        """Return index to reason of the unreadable records so far."""
        return self._bad.reasons

    def __next__(self) -> dict[str, np.ndarray]:
        """Return the batch of ``step`` and advance.

        Raises:
          UserError: more than ``max_bad_records`` records cannot be read.
          WorkerLostError: one of ``num_workers`` processes was killed.
        """
        start = time.perf_counter()
        try:
            rows = next(self._rows)
        except RuntimeError as error:
            if not (killed := KILLED.search(str(error))):
                raise
            raise WorkerLostError(
                f"a process that reads data was ended by signal {killed[1]}; if memory "
                "ran out, take fewer train.num_workers. Repeat the same command."
            ) from error
        self.wait_seconds += time.perf_counter() - start
        self._bad.add(rows.bad)
        self.step += 1
        if self._in_shared_memory:
            return {name: np.array(value) for name, value in rows.batch.items()}
        return rows.batch

    def close(self) -> None:
        """Stop the threads and worker processes."""
        self._finalizer()
        self._rows = iter(())

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class _Pages:
    """Random access to batches, as Grain asks of a source.

    Attributes:
      count: number of batches.
      read: reads the batch of an index.
    """

    count: int
    read: Callable[[int], Rows]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Rows:
        return self.read(index)


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    max_bad_records: int = 10,
    order: Order | None = None,
) -> Batches:
    """Return this host's share of the global batches from ``start_step`` on, for ever.

    Args:
      source: the data set.
      batch_size: of the global batch, over all hosts.
      seed: of what sources draw for a record, and of the order of the epochs unless
        ``order`` is given.
      start_step: the global step of the first batch.
      process_index: which host this is; it gets contiguous rows of each batch.
      process_count: number of hosts; it divides ``batch_size``.
      num_workers: processes that read; 0 reads in threads, best for small hosts.
      max_bad_records: how many distinct unreadable records are replaced, each by the
        next readable one, before the run stops.
      order: which records make up each step; by default every record once an epoch.

    Returns:
      An iterator of batches: for each name of ``source.spec`` an array (b, ...) of the
      declared dtype, and ``id`` int32 (b,), the index of each record.

    Raises:
      UserError: a batch larger than the data set, or not divisible by the hosts; an
        order that gives another number of records or one that is not there; a spec
        that batches cannot hold.
    """
    check_spec(source)
    if order is None:
        order = epochs(source, batch_size=batch_size, seed=seed)
    _check_share(batch_size, process_index, process_count)
    if not min(start_step, seed, num_workers, max_bad_records) >= 0:
        raise UserError(
            "start_step, seed, num_workers and max_bad_records must not be negative; "
            f"got {start_step}, {seed}, {num_workers} and {max_bad_records}."
        )
    share = batch_size // process_count
    own = slice(process_index * share, (process_index + 1) * share)

    # A wrong order is refused here, before a thread or worker meets it.
    ids = functools.partial(checked, order, source=source, batch_size=batch_size)
    ids(start_step)
    read = functools.partial(
        _read_step,
        *(source, ids, own, max_bad_records),
        seed=seed,
        start_step=start_step,
    )
    return Batches(
        _iterate(_Pages(ENDLESS, read), source, num_workers),
        step=start_step,
        ids=ids,
        bad=BadRecords(source, max_bad_records),
        in_shared_memory=num_workers > 0,
    )


def _read_step(
    source: Source,
    order: Order,
    own: slice,
    max_bad: int,
    index: int,
    *,
    seed: int,
    start_step: int,
) -> Rows:
    """Read this host's rows of the step that comes ``index`` steps after the first."""
    step = start_step + index
    return fetch(source, order(step)[own], max_bad, seed=seed, step=step)


def _check_share(batch_size: int, process_index: int, process_count: int) -> None:
    if not batch_size >= 1:
        raise UserError(f"batch_size is {batch_size}; it must be above 0.")
    if batch_size % process_count:
        raise UserError(
            f"batch_size is {batch_size}; it must be a multiple of the "
            f"{process_count} hosts."
        )
    if not 0 <= process_index < process_count:
        raise UserError(
            f"process_index is {process_index}; allowed: 0 to {process_count - 1}."
        )


def epoch(
    source: Source, *, batch_size: int, max_bad_records: int = 10
) -> Iterator[tuple[dict[str, np.ndarray], Bool[np.ndarray, " b"]]]:
    """Yield every record once, in order, for evaluation.

    What a source draws for a record is the same in each evaluation: it follows from
    the seed 0, the step 0 and the record's ``id``.

    Args:
      source: the data set.
      batch_size: of every batch; the last one is padded with copies of the last record.
      max_bad_records: as for ``batches``.

    Yields:
      A batch as ``batches`` gives it, and which of its rows count: not the padding, and
      not the stand-ins of unreadable records.

    Raises:
      UserError: more than ``max_bad_records`` records cannot be read, or a spec that
        batches cannot hold.
    """
    check_spec(source)
    if not batch_size >= 1:
        raise UserError(f"batch_size is {batch_size}; it must be above 0.")

    def read(page: int) -> Rows:
        ids = page * batch_size + np.arange(batch_size)
        return fetch(source, np.minimum(ids, len(source) - 1), max_bad_records)

    pages = _Pages(-(-len(source) // batch_size), read)
    bad = BadRecords(source, max_bad_records)
    rows = _iterate(pages, source, num_workers=0)
    try:
        for page, (batch, unread) in enumerate(rows):
            bad.add(unread)
            wanted = page * batch_size + np.arange(batch_size)
            yield batch, batch["id"] == wanted
    finally:
        rows.close()


def _iterate(
    pages: _Pages, source: Source, num_workers: int
) -> "grain.DatasetIterator[Rows]":
    in_memory = isinstance(source, ArraySource)
    threads = 1 if in_memory else max(1, min(MAX_THREADS, os.cpu_count() or 1))
    reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2)
    dataset = grain.MapDataset.source(pages).to_iter_dataset(reading)
    if num_workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers read absl flags.
        options = grain.MultiprocessingOptions(num_workers)
        end = functools.partial(_end_with, os.getpid())
        dataset = dataset.mp_prefetch(options, worker_init_fn=end)
    return iter(dataset)


def _end_with(parent: int, worker: int, count: int) -> None:
    """Let a worker end soon after the process that it reads for, however that ended.

    Grain stops its workers when it is closed. A trainer that was killed closes nothing,
    and its workers would stay for ever.
    """
    del worker, count

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def fetch(
    source: Source,
    ids: Int[np.ndarray, " b"],
    max_bad: int,
    *,
    seed: int = 0,
    step: int = 0,
) -> Rows:
    """Read records; one that cannot be decoded is replaced by the next readable one.

    Args:
      source: the data set.
      ids: which records, in order.
      max_bad: how many neighbours in a row may be unreadable.
      seed: of the run; with ``step`` and its id it decides what is drawn for a record.
      step: the global step.

    Returns:
      The records as ``batches`` gives them.

    Raises:
      UserError: more than ``max_bad`` in a row cannot be decoded; names the last. Or a
        record does not have the shapes and dtypes of ``source.spec``.
    """
    if isinstance(source, ArraySource):
        return Rows({**source.take(ids), "id": ids.astype(np.int32)}, {})
    bad: dict[int, str] = {}
    read = functools.partial(read_record, source, seed=seed, step=step)
    limit = f"(max_bad_records={max_bad})"
    pairs = [first_readable(source, read, int(i), max_bad, bad, limit) for i in ids]
    indices, records = zip(*pairs, strict=True)
    batch = {n: np.stack([record[n] for record in records]) for n in records[0]}
    return Rows({**batch, "id": np.array(indices, np.int32)}, bad)


def first_readable(
    source: Source,
    read: Callable[[int], T],
    index: int,
    max_bad: int,
    bad: dict[int, str],
    limit: str,
) -> tuple[int, T]:
    """Read the first record from ``index`` on that can be read.

    Args:
      source: the data set.
      read: reads a record, or a part of it.
      index: of the record; after the last one comes the first.
      max_bad: how many in a row may be unreadable.
      bad: gets the reason of each that is.
      limit: what the error says of the limit.

    Returns:
      The index of this record, and what ``read`` returned.

    Raises:
      UserError: more than ``max_bad`` in a row cannot be read; names the last.
    """
    reason = ""
    for candidate in range(index, index + min(max_bad + 1, len(source))):
        candidate %= len(source)
        try:
            return candidate, read(candidate)
        except BadRecord as error:
            bad[candidate] = str(error)
            reason = f"{source.record_name(candidate)}: {error}"
    raise UserError(
        f"Too many unreadable records {limit}; the last is {reason}. "
        "Run: jaxssl data doctor"
    )
