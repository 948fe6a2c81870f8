"""A part of a data set, spread evenly over it."""

from typing import Any

import numpy as np

from jaxssl.data.sources import Source, digest
from jaxssl.types import UserError


class Subset:
    """Evenly spaced records of another source; attributes as in ``Source``."""

    def __init__(self, source: Source, num: int):
        """Choose ``num`` records of ``source``.

        Args:
          source: what to choose from.
          num: how many; all of them if the source has fewer.

        Raises:
          UserError: ``num`` is below one.
        """
        if num < 1:
            raise UserError(f"a subset of {num} records was asked for; use 1 or more.")
        self.source = source
        self.indices = np.linspace(
            0, len(source), min(num, len(source)), False, dtype=int
        )
        self.name = f"{source.name}[{len(self.indices)}]"
        self.class_names = source.class_names
        self.image_shape = source.image_shape
        self.fingerprint = digest(source.fingerprint, str(len(self.indices)))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one record of the source."""
        return self.source[int(self.indices[index])]

    def record_name(self, index: int) -> str:
        """Return the record's name in the source."""
        return self.source.record_name(int(self.indices[index]))
