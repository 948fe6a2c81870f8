"""A part of a data set, spread evenly over it."""

from typing import Any

import numpy as np

from jaxssl.data import pipeline
from jaxssl.data.fingerprint import derive
from jaxssl.data.source import ArraySource, Source, label_of
from jaxssl.errors import UserError
from jaxssl.types import Record

MAX_BAD = 16


def subset(source: Source, num: int) -> ArraySource:
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
    part = Part(source, num)
    arrays = pipeline.fetch(source, part.indices, MAX_BAD).batch
    return ArraySource(
        {name: arrays[name] for name in source.spec},
        name=part.name,
        class_names=part.class_names,
        fingerprint=part.fingerprint,
    )


class Part:
    """Evenly spaced records of a source, read when they are asked for.

    Attributes:
      indices: where the records are in the source, rising.
      name: that of the source with the number of records.
      class_names: those of the source.
      spec: that of the source.
      fingerprint: of the source and the number.
    """

    def __init__(self, source: Source, num: int) -> None:
        """Choose records.

        Args:
          source: what to choose from.
          num: how many; all of them if the source has fewer.
        """
        count = min(num, len(source))
        self.indices = np.linspace(0, len(source), count, endpoint=False, dtype=int)
        self.name = f"{source.name}[{count}]"
        self.class_names = source.class_names
        self.spec = source.spec
        self.fingerprint = derive(source.fingerprint, str(count))
        self._source = source

    def __len__(self) -> int:
        """Return the number of chosen records."""
        return len(self.indices)

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Read a record; see `jaxssl.data.source.Source`."""
        return self._source.read(int(self.indices[index]), rng)

    def label(self, index: int) -> Any:
        """Return the label of a record, without its image where the source can."""
        return label_of(self._source, int(self.indices[index]))

    def record_name(self, index: int) -> str:
        """Return what the source calls the record."""
        return self._source.record_name(int(self.indices[index]))
