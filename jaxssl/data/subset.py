"""A part of a data set, spread evenly over it."""

import numpy as np

from jaxssl.data.sources import ArraySource, Source, digest
from jaxssl.types import UserError


def subset(source: Source, num: int) -> Source:
    """Load evenly spaced records of a source into memory.

    Args:
      source: what to choose from.
      num: how many; all of them if the source has fewer.

    Returns:
      The records, in their order.

    Raises:
      UserError: ``num`` is below one.
      BadRecord: one of them cannot be decoded.
    """
    if num < 1:
        raise UserError(f"a subset of {num} records was asked for; use 1 or more.")
    count = min(num, len(source))
    indices = np.linspace(0, len(source), count, endpoint=False, dtype=int)
    records = [source[int(i)] for i in indices]
    return ArraySource(
        np.stack([record["image"] for record in records]),
        np.stack([record["label"] for record in records]),
        name=f"{source.name}[{count}]",
        class_names=source.class_names,
        fingerprint=digest(source.fingerprint, str(count)),
    )
