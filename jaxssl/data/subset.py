"""A part of a data set: chosen records, or some that are spread evenly over it."""

from typing import Any

import numpy as np

from jaxssl.data import pipeline
from jaxssl.data.fingerprint import derive
from jaxssl.data.source import ArraySource, Source, digest, known_labels, label_of
from jaxssl.errors import UserError
from jaxssl.types import Int, Record

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
    """Some records of a source, read when they are asked for.

    Attributes:
      indices: where the records are in the source.
      name: that of the source with the number of records.
      class_names: those of the source.
      spec: that of the source.
      fingerprint: of the source and the choice.
    """

    def __init__(self, source: Source, chosen: int | Int[np.ndarray, " n"]) -> None:
        """Choose records.

        Args:
          source: what to choose from.
          chosen: indices of the records, or a number of evenly spaced ones; all of them
            if the source has fewer.
        """
        if isinstance(chosen, np.ndarray):
            self.indices, choice = chosen, digest(chosen.astype(np.int64).tobytes())
        else:
            count = min(chosen, len(source))
            self.indices = np.linspace(0, len(source), count, endpoint=False, dtype=int)
            choice = str(count)
        self.name = f"{source.name}[{len(self.indices)}]"
        self.class_names = source.class_names
        self.spec = source.spec
        self.fingerprint = derive(source.fingerprint, choice)
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

    @property
    def labels(self) -> Int[np.ndarray, " n"] | None:
        """Return all labels where the source has them in memory, else None."""
        labels = known_labels(self._source)
        return None if labels is None else labels[self.indices]

    def record_name(self, index: int) -> str:
        """Return what the source calls the record."""
        return self._source.record_name(int(self.indices[index]))
