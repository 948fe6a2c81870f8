"""What a label may be, checked once where data enters.

A class is an integer from 0 to the number of classes less one, and `NO_LABEL` stands
for a record without a class. An attribute is 0 or 1. Labels of floats, or of more axes,
mean something that only their method knows; they are not checked.
"""

from collections.abc import Callable, Sequence

import numpy as np

from jaxssl.errors import UserError
from jaxssl.types import Bool, Shaped

NO_LABEL = -1
"""The label of a record without a label, where other records of its kind have one."""

# Without names of classes, labels lie below this or below the number of records,
# whichever is more. ImageNet-21k has 21,841 classes. One label of 2**31 - 1 would make
# two thousand million classes of a file of 1 kB.
MAX_CLASSES = 2**16

INTEGERS = "iub"
"""Kinds of dtypes, after NumPy, that a class or an attribute may have."""


def in_memory(
    labels: Shaped[np.ndarray, "n ..."], *, name: str, class_names: Sequence[str] = ()
) -> Shaped[np.ndarray, "n ..."]:
    """Return the labels of a data set as its records hold them.

    Args:
      labels: classes (n,), or (n, 1) as those of MedMNIST; attributes (n, k).
      name: of the data set.
      class_names: one a class, or one an attribute; empty if they have no names. With
        one name (n, 1) is one attribute.

    Returns:
      The labels, dtype unchanged; (n,) for one class a record.

    Raises:
      UserError: a class or an attribute is not allowed; names the first such record.
    """
    one_column = labels.ndim == 2 and labels.shape[1] == 1 and len(class_names) != 1
    if labels.dtype.kind in INTEGERS and one_column:
        labels = labels[:, 0]
    check(
        labels,
        lambda row: f"{name}[{row}]",
        num_classes=count_classes(class_names, len(labels)),
    )
    return labels


def check_shape(shape: tuple[int, ...], dtype: np.dtype, *, name: str) -> None:
    """Raise unless an array has the shape and dtype of classes or of attributes.

    Args:
      shape: (n,) or (n, k).
      dtype: an integer's or a boolean's.
      name: of the data set.

    Raises:
      UserError: it has not.
    """
    if dtype.kind not in INTEGERS or len(shape) not in (1, 2):
        raise UserError(
            f"{name}: labels are {dtype} {shape}; they must be integers (n,) or (n, k)."
        )
    if len(shape) == 2 and shape[1] > MAX_CLASSES:
        raise UserError(
            f"{name}: labels have the shape {shape}; allowed: (n,) for classes, (n, k) "
            f"for k attributes, k at most {MAX_CLASSES}."
        )


def count_classes(class_names: Sequence[str], num_records: int) -> int:
    """Return the number that classes lie below."""
    return len(class_names) or max(MAX_CLASSES, num_records)


def check(
    labels: Shaped[np.ndarray, "n ..."],
    record_name: Callable[[int], str],
    *,
    num_classes: int,
) -> None:
    """Raise unless labels are classes (n,) or attributes (n, k) that are allowed.

    Args:
      labels: integers; others, and those of more axes, are not checked.
      record_name: from a row of ``labels`` to what a person calls the record.
      num_classes: classes lie below it.

    Raises:
      UserError: names the first record whose label is not allowed, and their number.
    """
    if labels.dtype.kind not in INTEGERS or labels.ndim > 2:
        return
    if labels.ndim == 2:
        check_attributes(labels, record_name)
        return
    # An unsigned or a boolean array has no value below 0 to be compared with.
    refused = labels >= num_classes if labels.dtype.kind != "b" else np.zeros(1, bool)
    if labels.dtype.kind == "i":
        refused |= labels < NO_LABEL
    if refused.any():
        row = int(np.flatnonzero(refused)[0])
        raise UserError(
            f"{record_name(row)} has the label {labels[row]}{_more(refused)}; allowed: "
            f"0 to {num_classes - 1} for a class, and {NO_LABEL} for no label. Number "
            "the classes from 0."
        )


def check_attributes(
    labels: Shaped[np.ndarray, "n k"], record_name: Callable[[int], str]
) -> None:
    """Raise unless all attributes are 0 or 1.

    Args:
      labels: attributes of any dtype.
      record_name: see `check`.

    Raises:
      UserError: names the first record with another attribute, and their number.
    """
    wrong = ~np.isin(labels, (0, 1))
    refused = np.asarray(wrong.any(axis=1))
    if refused.any():
        row = int(np.flatnonzero(refused)[0])
        attribute = labels[row][wrong[row]][0]
        raise UserError(
            f"{record_name(row)} has the attribute {attribute}{_more(refused)}; "
            "several labels a record are attributes, each 0 or 1. One class a record "
            "has the shape (n,)."
        )


def _more(refused: Bool[np.ndarray, " n"]) -> str:
    count = int(refused.sum()) - 1
    return f", and {count} more records are like it" if count else ""
