"""The count of records that cannot be read."""

import logging
from collections.abc import Mapping

from jaxssl.data.source import Source
from jaxssl.errors import UserError
from jaxssl.text import printable

logger = logging.getLogger(__name__)


class BadRecords:
    """Counts distinct unreadable records and stops at a limit.

    Attributes:
      reasons: index of the record to the reason.
    """

    def __init__(self, source: Source, limit: int):
        """Count records of ``source``; more than ``limit`` are too many."""
        self.reasons: dict[int, str] = {}
        self._source = source
        self._limit = limit

    def add(self, bad: Mapping[int, str]) -> None:
        """Log the records that are new.

        Raises:
          UserError: names the record that is one too many.
        """
        for index, reason in bad.items():
            if index in self.reasons:
                continue
            self.reasons[index] = reason
            name = printable(self._source.record_name(index))
            if len(self.reasons) > self._limit:
                raise UserError(
                    f"Too many unreadable records (max_bad_records={self._limit}); the "
                    f"last is {name}: {reason}. Run: jaxssl data doctor"
                )
            logger.warning("Unreadable record %s replaced: %s", name, reason)
