"""A part of a data set, spread evenly over it."""

import numpy as np

from jaxssl.data import pipeline
from jaxssl.data.sources import ArraySource, Source, digest
from jaxssl.types import UserError

MAX_BAD = 16


def subset(source: Source, num: int) -> Source:
    """Load evenly spaced records of a source into memory.

    Args:
      source: what to choose from.
      num: how many; all of them if the source has fewer.

    Returns:
      The records, in their order; one that cannot be decoded is replaced by the next
      readable one.

    Raises:
      UserError: ``num`` is below one, or too many records in a row are damaged.
    """
    if num < 1:
        raise UserError(f"a subset of {num} records was asked for; use 1 or more.")
    count = min(num, len(source))
    indices = np.linspace(0, len(source), count, endpoint=False, dtype=int)
    records = pipeline.fetch(source, indices, MAX_BAD).batch
    return ArraySource(
        records["image"],
        records["label"],
        name=f"{source.name}[{count}]",
        class_names=source.class_names,
        fingerprint=digest(source.fingerprint, str(count)),
    )
