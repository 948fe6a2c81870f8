"""Which records of a data set have a label, and what leaves out those without one."""

import functools
import logging
from typing import NamedTuple

import numpy as np

from jaxssl.data import pipeline
from jaxssl.data.labels import NO_LABEL
from jaxssl.data.source import (
    ArraySource,
    Source,
    has_classes,
    known_labels,
    label_of,
    require,
)
from jaxssl.data.subset import MAX_BAD, Part
from jaxssl.errors import BadRecord, UserError
from jaxssl.types import Int

logger = logging.getLogger(__name__)

# Where labels are not in memory, so many evenly spaced records are looked at before a
# run or an evaluation begins; the second number is for sources that read a whole record
# for its label. The others are looked at when they are read.
LOOKED_AT = 512
READ = 64


class Look(NamedTuple):
    """What is known of the classes of a data set before all of it is read.

    Attributes:
      labels: those that were looked at, `NO_LABEL` where there is none.
      whole: all labels were looked at.
    """

    labels: Int[np.ndarray, " n"]
    whole: bool

    @property
    def num_unlabelled(self) -> int:
        """Return the number of records without a label."""
        return int((self.labels == NO_LABEL).sum())


def look(source: Source) -> Look:
    """Look at the classes of a data set, at a part of them where that takes long.

    Args:
      source: records that declare one class each (`has_classes`).

    Returns:
      The labels that were looked at, without those of records that cannot be read.

    Raises:
      UserError: a label is none of those that have names.
    """
    labels = known_labels(source)
    if labels is not None:
        return Look(labels, True)
    part = Part(source, LOOKED_AT if hasattr(source, "label") else READ)
    seen = []
    for index in part.indices.tolist():
        try:
            seen.append(int(label_of(source, index)))
        except BadRecord:  # The pipeline counts the record when it is read.
            continue
    return Look(np.array(seen, np.int64), len(seen) == len(source))


def any_labelled(source: Source) -> bool:
    """Return whether a record has a label, of those that `look` looks at."""
    if not has_classes(source):
        return "label" in source.spec
    seen = look(source)
    return seen.num_unlabelled < len(seen.labels)


def describe_unlabelled(source: Source) -> str:
    """Return ``'12 of 300 records have no label'``; nothing if all of them have one."""
    if not has_classes(source):
        return ""
    seen = look(source)
    if not seen.num_unlabelled:
        return ""
    looked_at = "" if seen.whole else " that were looked at"
    return (
        f"{seen.num_unlabelled:,} of {len(seen.labels):,} records{looked_at} have no "
        "label"
    )


def tell_unlabelled(*sources: Source) -> None:
    """Log how many records of each source have no label, if there are any."""
    for source in sources:
        if text := describe_unlabelled(source):
            message = "%s: %s; what needs labels leaves them out"
            logger.warning(message, source.name, text)


def labels_of(source: Source) -> Int[np.ndarray, " n"]:
    """Return the label of every record.

    Images are not decoded where the source knows its labels without. A record that
    cannot be read has the label of the one that stands in for it in batches.

    Args:
      source: a data set with one label a record.

    Returns:
      int32, -1 where there is none; a copy.

    Raises:
      UserError: records have no label or several, or too many in a row cannot be read.
    """
    spec = require(source, "label")
    if spec.shape or spec.dtype != np.int32:
        raise UserError(
            f"{source.name} has labels {spec.dtype} {spec.shape}; label noise and "
            "label-matched mini-batches need one int32 a record. Leave them out."
        )
    known = known_labels(source)
    if known is not None:
        return known.astype(np.int32)
    read, limit = functools.partial(label_of, source), f"in a row ({MAX_BAD + 1})"
    labels = [
        pipeline.first_readable(source, read, i, MAX_BAD, {}, limit)[1]
        for i in range(len(source))
    ]
    return np.stack(labels)


def labelled(source: Source) -> Source:
    """Leave out the records without a label.

    Args:
      source: a data set. Where only a part of its labels can be looked at, and all of
        this part have one, it is taken to have labels throughout.

    Returns:
      The records with a label, in memory if ``source`` is; ``source`` itself if all
      have one, or if records do not declare one class each.

    Raises:
      UserError: no record has a label.
    """
    if not has_classes(source):
        return source
    seen = look(source)
    if not seen.num_unlabelled:
        return source
    labels = seen.labels if seen.whole else labels_of(source)
    rows = np.flatnonzero(labels != NO_LABEL)
    if not len(rows):
        raise UserError(
            f"{source.name} has no record with a label, and labels are needed here. "
            "Give labelled data: a folder of one sub-folder a class, or an array of "
            "labels."
        )
    return take_rows(source, rows)


def take_rows(source: Source, rows: Int[np.ndarray, " n"]) -> Source:
    """Return some records of a data set, in memory if the data set is."""
    part = Part(source, rows)
    if not isinstance(source, ArraySource):
        return part
    return ArraySource(
        source.take(rows),
        name=part.name,
        class_names=part.class_names,
        fingerprint=part.fingerprint,
    )


def check_trained_classes(train: Source, test: Source) -> None:
    """Raise where all labels are known and a class is tested that is not trained.

    Raises:
      UserError: names the first such class.
    """
    labels, test_labels = known_labels(train), known_labels(test)
    if labels is None or test_labels is None or (labels == NO_LABEL).all():
        return
    names = train.name, test.name
    check_taught(labels, test_labels, class_names=test.class_names, names=names)


def check_taught(
    labels: Int[np.ndarray, " n"],
    test_labels: Int[np.ndarray, " m"],
    *,
    class_names: tuple[str, ...] = (),
    names: tuple[str, str] = ("the training set", "the test set"),
) -> None:
    """Raise where a test record has a class that no training record has.

    Args:
      labels: of training; `NO_LABEL` counts as none.
      test_labels: of testing.
      class_names: names of the classes, for the message.
      names: what the message calls the two sets.

    Raises:
      UserError: names the first such class.
    """
    lacking = np.setdiff1d(test_labels[test_labels != NO_LABEL], labels)
    if not len(lacking):
        return
    first, count = int(lacking[0]), int(np.isin(test_labels, lacking).sum())
    shown = f"{first} ({class_names[first]!r})" if class_names else str(first)
    others = f" and of {len(lacking) - 1} more classes" if len(lacking) > 1 else ""
    raise UserError(
        f"records of the class {shown}{others}: {count} in {names[1]}, none in "
        f"{names[0]}; they can only be taken for another class. Add such records to "
        "the latter, or take them out of the former."
    )
