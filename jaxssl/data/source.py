"""What a data set is: random access to records whose shapes and dtypes it declares."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxssl.data import labels as labels_lib
from jaxssl.data.labels import NO_LABEL as NO_LABEL
from jaxssl.errors import UserError
from jaxssl.types import Int, Record, Shaped, Spec, UInt8

DTYPES = (
    *("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"),
    *("float16", "bfloat16", "float32", "complex64"),
)
"""What devices hold as it is; JAX would store 64 bits in 32, without a word."""


@runtime_checkable
class Source(Protocol):
    """A data set with random access; all records have the same names and shapes.

    Two more members are optional. A method ``label(index)`` returns the label of a
    record without the rest. An array ``labels`` (n,) holds all of them, where no file
    has to be read for that.

    Attributes:
      name: what it is called in logs and reports, split included.
      class_names: one a class, or one an attribute; empty without labels.
      spec: name to shape and dtype of one record, without a batch axis and without
        ``id``, which the pipeline adds. `jaxssl.types.Record` lists the conventions.
      fingerprint: changes when the data or the options that made them change.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def spec(self) -> Spec: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def __len__(self) -> int: ...

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Return one record, with the names, shapes and dtypes of ``spec``.

        Args:
          index: 0 to ``len(self) - 1``.
          rng: for what the host must draw, such as the part of a long video to decode;
            see `record_rng`. Most sources draw nothing.

        Raises:
          BadRecord: the record cannot be decoded.
        """
        ...

    def record_name(self, index: int) -> str:
        """Return what a person needs to find the record: a path or a position."""
        ...


class ArraySource:
    """A data set in memory: any arrays with one row a record.

    Attributes:
      arrays: name to array (n, ...).
      name: see `Source`.
      class_names: see `Source`.
      spec: see `Source`.
    """

    def __init__(
        self,
        arrays: Mapping[str, Shaped[np.ndarray, "..."]],
        *,
        name: str = "arrays",
        class_names: Sequence[str] = (),
        fingerprint: str | None = None,
    ):
        """Wrap arrays without copying them; see `image_source` for pictures.

        Args:
          arrays: name to array, each with the same number of rows.
          name: see `Source`.
          class_names: see `Source`.
          fingerprint: see `Source`; by default a hash of the arrays.

        Raises:
          UserError: no array, no row, arrays with different numbers of rows, or a
            ``label`` that is none of the classes or attributes that have names.
        """
        self.arrays = dict(arrays)
        self.name = name
        self.class_names = tuple(class_names)
        self._fingerprint = fingerprint
        rows = {key: len(x) if x.ndim else 0 for key, x in self.arrays.items()}
        if len(set(rows.values())) != 1 or 0 in rows.values():
            counts = [f"{key} {count}" for key, count in rows.items()]
            raise UserError(
                f"{name}: the numbers of rows are: {', '.join(counts) or 'none'}; "
                "every array needs one row for each record, and there must be one."
            )
        if "label" in self.arrays and self.class_names:
            self.arrays["label"] = labels_lib.in_memory(
                self.arrays["label"], name=name, class_names=self.class_names
            )
        self.spec = {
            key: jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
            for key, array in self.arrays.items()
        }

    @property
    def fingerprint(self) -> str:
        """Return a hash of the content, or the one given at construction."""
        if self._fingerprint is None:
            self._fingerprint = digest(*(x.tobytes() for x in self.arrays.values()))
        return self._fingerprint

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Return one row of each array; nothing is drawn."""
        del rng
        return {name: array[index] for name, array in self.arrays.items()}

    def take(self, indices: Int[np.ndarray, " b"]) -> dict[str, Any]:
        """Return many records at once, which is far faster than one by one.

        Args:
          indices: which records, in order.

        Returns:
          Name to array (b, ...), all copies.
        """
        return {name: array[indices] for name, array in self.arrays.items()}

    def record_name(self, index: int) -> str:
        """Return the position in the arrays."""
        return f"{self.name}[{index}]"


def image_source(
    images: Shaped[np.ndarray, "..."],
    labels: Shaped[np.ndarray, "..."] | None = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] = (),
    fingerprint: str | None = None,
    extras: Mapping[str, Shaped[np.ndarray, "n ..."]] | None = None,
) -> ArraySource:
    """Make a data set of pictures in memory without copying them.

    Args:
      images: uint8 (n, h, w, 3), or grey as (n, h, w) or (n, h, w, 1), which becomes
        colour as a view; 0 to 255.
      labels: integers (n,) or (n, 1), -1 where there is no label; or (n, k) of 0 and 1
        for k attributes. They become int32.
      name: see `Source`.
      class_names: see `Source`.
      fingerprint: see `Source`; by default a hash of the arrays.
      extras: what else the records hold, such as ``true_label``.

    Returns:
      The data set; its records hold ``image``, ``label`` if there are labels, and the
      extras.

    Raises:
      UserError: other shapes, dtypes or labels, or arrays with different numbers of
        rows.
    """
    arrays = {"image": _colour(images, name)}
    if labels is not None:
        arrays["label"] = _integers(labels, name, class_names)
    return ArraySource(
        {**arrays, **(extras or {})},
        name=name,
        class_names=class_names,
        fingerprint=fingerprint,
    )


def image_spec(
    image: tuple[int, int, int], label: tuple[int, ...] = ()
) -> dict[str, jax.ShapeDtypeStruct]:
    """Return the spec of a labelled picture.

    Args:
      image: its shape (h, w, 3).
      label: () for a class, (k,) for k attributes.
    """
    return {
        "image": jax.ShapeDtypeStruct(image, np.uint8),
        "label": jax.ShapeDtypeStruct(label, np.int32),
    }


def record_rng(index: int, *, seed: int = 0, step: int = 0) -> np.random.Generator:
    """Return the generator of what a host draws for one record.

    Neither the number of hosts, threads or workers nor the other records change what it
    draws. Evaluations use the seed and step 0.

    Args:
      index: of the record in its data set.
      seed: of the run.
      step: the global step, counted from 0.
    """
    entropy = np.random.SeedSequence([seed, step, index])
    return np.random.Generator(np.random.PCG64(entropy))


def read_record(
    source: Source, index: int, *, seed: int = 0, step: int = 0
) -> dict[str, np.ndarray]:
    """Read a record and compare it with the source's spec.

    Args:
      source: the data set.
      index: of the record.
      seed: see `record_rng`.
      step: see `record_rng`.

    Returns:
      What ``source.read`` returned.

    Raises:
      BadRecord: the record cannot be decoded.
      UserError: the record has other names, shapes or dtypes than the spec, or a label
        that is not allowed (`jaxssl.data.labels`).
    """
    record = source.read(index, record_rng(index, seed=seed, step=step))
    arrays = {name: np.asarray(value) for name, value in record.items()}
    if describe(arrays) != describe(source.spec):
        raise UserError(
            f"record {source.record_name(index)} holds {describe(arrays)}; the spec of "
            f"{source.name} declares {describe(source.spec)}. Let read() return what "
            "spec declares."
        )
    if "label" in arrays:
        check_label(source, index, arrays["label"])
    return arrays


def describe(spec: Mapping[str, Any]) -> str:
    """Return names, dtypes and shapes in one line, sorted by name."""
    parts = [f"{name} {x.dtype} {x.shape}" for name, x in sorted(spec.items())]
    return ", ".join(parts) or "nothing"


def check_spec(source: Source) -> None:
    """Raise unless batches can hold the records of a source as they are.

    Raises:
      UserError: an empty spec, a dtype that is not in `DTYPES` or not in this machine's
        byte order, or an array that is called ``id``.
    """
    refused = {
        name: x
        for name, x in source.spec.items()
        if x.dtype.name not in DTYPES or not x.dtype.isnative
    }
    if refused:
        raise UserError(
            f"{source.name} declares {describe(refused)}; devices compute in 32 bits. "
            f"Store float32 or int32; allowed, in native byte order: "
            f"{', '.join(DTYPES)}."
        )
    if "id" in source.spec or not source.spec:
        raise UserError(
            f"{source.name} declares {describe(source.spec)}; it must declare at least "
            "one array, and none that is called id: batches hold the record's index "
            "under this name."
        )


def require(source: Source, name: str) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of an array that the caller cannot do without.

    Args:
      source: the data set.
      name: of the array, such as ``image``.

    Raises:
      UserError: the records hold no such array.
    """
    if name not in source.spec:
        raise UserError(
            f"{source.name} has no {name!r}; its records hold: "
            f"{', '.join(sorted(source.spec))}. Choose other data, or leave out what "
            f"needs a {name!r}."
        )
    return source.spec[name]


def label_of(source: Source, index: int) -> Any:
    """Return the label of a record, without the rest where the source can.

    A source that can has a method ``label(index)``.

    Raises:
      BadRecord: the record cannot be read.
      UserError: the records have no label, or this one's is not allowed.
    """
    require(source, "label")
    read_label = getattr(source, "label", None)
    if read_label is None:
        return read_record(source, index)["label"]
    label = read_label(index)
    check_label(source, index, np.asarray(label))
    return label


def has_classes(source: Source) -> bool:
    """Return whether records declare one class each; some may still have none."""
    spec = source.spec.get("label")
    return spec is not None and not spec.shape and spec.dtype.kind in "iu"


def known_labels(source: Source) -> Int[np.ndarray, " n"] | None:
    """Return all labels where no file has to be read for them, else None.

    Raises:
      UserError: a label is none of those that have names.
    """
    if not has_classes(source):
        return None
    if isinstance(source, ArraySource):
        labels = source.arrays["label"]
    else:
        labels = getattr(source, "labels", None)
    if not isinstance(labels, np.ndarray) or labels.shape != (len(source),):
        return None
    if names := source.class_names:
        labels_lib.check(labels, source.record_name, num_classes=len(names))
    return labels


def check_label(source: Source, index: int, label: np.ndarray) -> None:
    """Raise a UserError unless a label is one of those that have names.

    Without names nobody said that an integer is a class.
    """
    if not source.class_names:
        return
    labels_lib.check(
        label[None],
        lambda _: source.record_name(index),
        num_classes=len(source.class_names),
    )


def digest(*parts: bytes | str) -> str:
    """Return a short SHA-256 of parts, each closed off from the next."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()[:16]


def _colour(images: Shaped[np.ndarray, "..."], name: str) -> UInt8[np.ndarray, "..."]:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UserError(
            f"{name}: images are {images.dtype} {images.shape}; they must be uint8 "
            "(n, h, w), (n, h, w, 1) or (n, h, w, 3)."
        )
    if 0 in images.shape:
        raise UserError(f"{name}: images of shape {images.shape} hold nothing.")
    # Grey becomes colour as a view: the copy is made for one batch at a time.
    return np.broadcast_to(images, (*images.shape[:3], 3))


def _integers(
    labels: Shaped[np.ndarray, "..."], name: str, class_names: Sequence[str]
) -> Int[np.ndarray, "..."]:
    labels_lib.check_shape(labels.shape, labels.dtype, name=name)
    checked = labels_lib.in_memory(labels, name=name, class_names=class_names)
    return checked.astype(np.int32)
