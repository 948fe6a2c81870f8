"""Which records make up each step: a function of the global step alone."""

import functools
from collections.abc import Callable

import numpy as np

from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.types import Int

Order = Callable[[int], Int[np.ndarray, " b"]]
"""Global step -> indices of the records of that step's global batch, over all hosts.

A host gets contiguous rows of it, so rows that belong together should stand together.
A pure function: it is asked by several threads, for steps in any order, and again after
a resume. With workers it is pickled (by cloudpickle, so a closure will do): it may hold
NumPy arrays, but no open file, lock or array on a device.
"""


def epochs(source: Source, *, batch_size: int, seed: int) -> Order:
    """Return the order that takes every record once an epoch.

    Args:
      source: the data set.
      batch_size: of the global batch; what does not fill one is dropped until the next
        epoch.
      seed: of the order of each epoch.

    Returns:
      The order.

    Raises:
      UserError: there is no whole batch, or ``batch_size`` is below one.
    """
    if not 1 <= batch_size <= len(source):
        raise UserError(
            f"batch_size is {batch_size}; {source.name} has {len(source)} records, so "
            f"allowed: 1 to {len(source)}."
        )
    return functools.partial(
        _epoch_rows, count=len(source), batch_size=batch_size, seed=seed
    )


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> Int[np.ndarray, " n"]:
    """Return the order of the records in one epoch.

    The raw stream of PCG64 is sorted because NumPy promises that it never changes.

    Args:
      seed: of the run.
      epoch: number of the epoch.
      count: number of records.

    Returns:
      A permutation of 0 to ``count - 1``.
    """
    stream = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    order = np.argsort(stream.random_raw(count), kind="stable")
    order.flags.writeable = False
    return order


def checked(
    order: Order, step: int, *, source: Source, batch_size: int
) -> Int[np.ndarray, " b"]:
    """Ask an order for a step and check what it says.

    Args:
      order: the order.
      step: the global step.
      source: the data set that it goes through.
      batch_size: of the global batch.

    Returns:
      The indices.

    Raises:
      UserError: another number of them, no whole numbers, or one outside the data set.
    """
    ids = np.asarray(order(step))
    if ids.shape != (batch_size,) or ids.dtype.kind not in "iu":
        raise UserError(
            f"order gives {ids.dtype} {ids.shape} for step {step}; it must give whole "
            f"numbers of shape ({batch_size},), as batch_size says."
        )
    if ids.min() < 0 or ids.max() >= len(source):
        raise UserError(
            f"order gives the indices {ids.min()} to {ids.max()} for step {step}; "
            f"{source.name} has 0 to {len(source) - 1}."
        )
    return ids


def _epoch_rows(
    step: int, *, count: int, batch_size: int, seed: int
) -> Int[np.ndarray, " b"]:
    epoch, turn = divmod(step, count // batch_size)
    start = turn * batch_size
    return epoch_order(seed, epoch, count)[start : start + batch_size]
