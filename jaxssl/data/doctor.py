"""``jaxssl data list|prepare|doctor``: what there is, how to get it, is it sound."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxssl.data import fashion_mnist, images, registry
from jaxssl.data import source as source_lib
from jaxssl.data.generated import FORMS
from jaxssl.data.listing import LeftOut
from jaxssl.data.source import Source
from jaxssl.errors import BadRecord, UserError
from jaxssl.text import printable
from jaxssl.types import Spec

SHOWN = 20
"""Corrupt records and sizes that the text names; the rest is counted."""


class Report(NamedTuple):
    """What a full pass over a data set found.

    Attributes:
      name: of the data set.
      count: number of records.
      readable: number of those that can be decoded.
      spec: shape and dtype of each array of a record.
      sizes: of pictures: (h, w, mode) as stored, to count.
      classes: class (or attribute) name to count; ``unlabelled`` for the label -1.
      corrupt: (record, reason).
      duplicates: pairs of records that are equal but for the label, and whether the
        labels agree.
      remarks: what is read of pictures otherwise than it is stored, to count.
    """

    name: str
    count: int
    readable: int
    spec: Spec
    sizes: dict[tuple[int, int, str], int]
    classes: dict[str, int]
    corrupt: list[tuple[str, str]]
    duplicates: list[tuple[str, str, bool]]
    remarks: Mapping[str, int] = {}


def doctor(source: Source) -> Report:
    """Read every record and count what is in it.

    Args:
      source: any data set.

    Returns:
      The report; its ``corrupt`` names each record that cannot be decoded.
    """
    sizes: Counter[tuple[int, int, str]] = Counter()
    classes = Counter(dict.fromkeys(source.class_names, 0))
    remarks: Counter[str] = Counter()
    corrupt, duplicates = [], []
    first_with: dict[bytes, tuple[int, bytes]] = {}
    for index in range(len(source)):
        try:
            record = source_lib.read_record(source, index)
            sizes.update(_stored(source, index))
            remarks.update(_remarks(source, index))
        except BadRecord as error:
            corrupt.append((source.record_name(index), str(error)))
            continue
        label = record.pop("label", np.zeros(0))
        classes.update(_names(source, label))
        content = hashlib.sha1(usedforsecurity=False)
        for name in sorted(record):
            content.update(record[name].tobytes())
        first, same = first_with.setdefault(content.digest(), (index, label.tobytes()))
        if first != index:
            pair = source.record_name(first), source.record_name(index)
            duplicates.append((*pair, same == label.tobytes()))
    return Report(
        name=source.name,
        count=len(source),
        readable=len(source) - len(corrupt),
        spec=source.spec,
        sizes=dict(sizes.most_common()),
        classes=dict(classes),
        corrupt=corrupt,
        duplicates=duplicates,
        remarks=remarks,
    )


def render(report: Report) -> str:
    """Return the report as text for a terminal."""
    sizes = [f"{h} x {w} {m}: {n}" for (h, w, m), n in report.sizes.items()]
    classes = [f"{name}: {n}" for name, n in report.classes.items()]
    clash = sum(not same for *_, same in report.duplicates)
    lines = [
        f"{report.name}: {report.readable} of {report.count} records readable",
        f"each record holds: {source_lib.describe(report.spec)}",
        *([f"stored sizes (h x w mode): {_some(sizes)}"] if sizes else []),
        *(f"{note}: {number} records" for note, number in report.remarks.items()),
        f"classes: {_some(classes, 2 * SHOWN)}",
        f"duplicates: {len(report.duplicates)}, of them {clash} with another label",
        *(f"  {a} = {b}" for a, b, _ in report.duplicates[:5]),
        f"unreadable: {len(report.corrupt)}",
        *(f"  {name}: {reason}" for name, reason in report.corrupt[:SHOWN]),
    ]
    if len(report.corrupt) > SHOWN:
        lines.append(f"  and {len(report.corrupt) - SHOWN} more")
    return "\n".join(lines)


def render_left_out(left_out: Sequence[LeftOut]) -> str:
    """Return every file and folder that no record comes from, one a line."""
    lines = [f"  {printable(path)}: {reason}" for path, reason in left_out]
    return "\n".join([f"left out: {len(left_out)} files and folders", *lines])


def list_text(*, data_dir: str | None = None) -> str:
    """Return a table of the data sets that jaxssl knows and where each one is.

    Args:
      data_dir: where to look for them; see ``where``.
    """
    rows = [("name", "images", "licence", "where")]
    for name, size, licence in registry.CATALOGUE:
        rows.append((name, size, licence, where(name, data_dir=data_dir)))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    return "\n".join(
        [
            *("  ".join(map(str.ljust, row, [*widths, 0])) for row in rows),
            "Any other data set of tensorflow-datasets works as tfds:<name>.",
            f"generated:<name> is random images in the shape of {', '.join(FORMS)}.",
        ]
    )


def where(name: str, *, data_dir: str | None = None) -> str:
    """Return the place of a data set, or what is needed to get it.

    Args:
      name: see ``registry.load``.
      data_dir: see ``registry.load``.
    """
    if name in ("fashion_on_photos", "fashion_mnist_10k"):
        return "embedded"
    if name.startswith("generated:"):
        return "computed when asked for"
    if name in ("folder", "npz"):
        return "wherever --data_dir says"
    if name == "fashion_mnist":
        try:
            return str(fashion_mnist.find(data_dir))
        except UserError:
            return "missing; apt-get install dataset-fashion-mnist"
    try:
        builder = _tfds().open_builder(name.removeprefix("tfds:"), data_dir)
    except UserError as error:
        return f"missing; {error}"
    if builder.info.splits:
        return str(builder.data_path)
    return f"missing; jaxssl data prepare {name}"


def prepare(name: str, *, data_dir: str | None = None) -> str:
    """Get a data set ready: TFDS ones are downloaded and stored as array_record.

    Args:
      name: see ``registry.load``.
      data_dir: where TFDS is to put it; see ``tfds_source.load``.

    Returns:
      One line that says where it is.

    Raises:
      UserError: unknown, not there, or TFDS cannot prepare it, with what to do.
    """
    family, _, rest = name.partition(":")
    if family != "tfds" or not rest:
        if name == "fashion_mnist":
            return f"{name} is in {fashion_mnist.find(data_dir)}"
        registry.check_name(name)
        return f"{name} needs no preparation: {where(name)}"
    if data_dir:
        os.makedirs(data_dir, exist_ok=True)
    return f"{name} is in {_tfds().download(rest, data_dir)}"


def _tfds() -> Any:
    try:
        from jaxssl.data import tfds_source
    except ModuleNotFoundError as error:
        raise UserError(
            f"tensorflow-datasets needs {error.name}; run: pip install 'jaxssl[train]'"
        ) from None
    return tfds_source


def _stored(source: Source, index: int) -> list[tuple[int, int, str]]:
    """Return the size of a record's picture as stored; nothing if it has no picture."""
    if raw := getattr(source, "raw", None):
        return [images.header(raw(index))]
    if "image" not in source.spec:
        return []
    h, w, _ = source.spec["image"].shape
    return [(h, w, "array")]


def _remarks(source: Source, index: int) -> list[str]:
    raw = getattr(source, "raw", None)
    return images.remarks(raw(index)) if raw else []


def _names(source: Source, label: np.ndarray) -> list[str]:
    if label.dtype != np.int32 or label.ndim > 1:
        return []
    if label.ndim:
        names = source.class_names or [f"label {k}" for k in range(label.size)]
        return [name for name, on in zip(names, label, strict=True) if on > 0]
    if 0 <= label < len(source.class_names):
        return [source.class_names[int(label)]]
    return ["unlabelled" if label == source_lib.NO_LABEL else f"label {int(label)}"]


def _some(items: list[str], limit: int = SHOWN) -> str:
    more = f", and {len(items) - limit} more" if len(items) > limit else ""
    return (", ".join(items[:limit]) or "none") + more
