"""What a data set is: random access to decoded images, labels and record names."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxssl.errors import UserError
from jaxssl.types import Int, Shaped, UInt8

NO_LABEL = -1
"""The label of a record whose data set has none."""


@runtime_checkable
class Source(Protocol):
    """A data set with random access; every image has the same static shape.

    Attributes:
      name: what it is called in logs and reports, split included.
      class_names: one a class, or one an attribute; empty where there are no labels.
      image_shape: (h, w, 3).
      fingerprint: changes when the data or the options that made them change.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def image_shape(self) -> tuple[int, int, int]: ...  # noqa: D102

    @property
    def fingerprint(self) -> str: ...  # noqa: D102

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return ``image`` uint8 (h, w, 3), ``label`` int32 () or (k,), maybe others.

        Raises:
          BadRecord: the record cannot be decoded.
        """
        ...

    def record_name(self, index: int) -> str:
        """Return what a person needs to find the record: a path or a position."""
        ...


class ArraySource:
    """A data set in memory.

    Attributes:
      images: uint8 (n, h, w, 3), 0 to 255.
      labels: int32 (n,), or (n, k) for k attributes.
      name: see ``Source``.
      class_names: see ``Source``.
      extras: what else the records hold, by name.
    """

    def __init__(
        self,
        images: Shaped[np.ndarray, "..."],
        labels: Shaped[np.ndarray, "..."],
        *,
        name: str = "arrays",
        class_names: Sequence[str] = (),
        fingerprint: str | None = None,
        extras: Mapping[str, Shaped[np.ndarray, "n ..."]] | None = None,
    ):
        """Wrap arrays without copying the images.

        Args:
          images: uint8 (n, h, w, 3), or grey as (n, h, w) or (n, h, w, 1).
          labels: integers (n,) or (n, k).
          name: see ``Source``.
          class_names: see ``Source``.
          fingerprint: see ``Source``; by default a hash of both arrays.
          extras: name to array, with a row for each image, such as ``true_label``.

        Raises:
          UserError: shapes or types other than these, or no image at all.
        """
        self.images = _colour(images, name)
        self.labels = _integers(labels, len(images), name)
        self.name = name
        self.class_names = tuple(class_names)
        self.extras = dict(extras or {})
        for key, rows in self.extras.items():
            if len(rows) != len(images):
                raise UserError(f"{name}: {len(images)} images but {len(rows)} {key}.")
        self._fingerprint = fingerprint

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return (h, w, 3)."""
        _, h, w, c = self.images.shape
        return h, w, c

    @property
    def fingerprint(self) -> str:
        """Return a hash of the content, or the one given at construction."""
        if self._fingerprint is None:
            self._fingerprint = digest(self.images.tobytes(), self.labels.tobytes())
        return self._fingerprint

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one image, its label and its extras."""
        return self._rows(index)

    def take(self, indices: Int[np.ndarray, " b"]) -> dict[str, Any]:
        """Return many records at once, which is far faster than one by one.

        Args:
          indices: which records, in order.

        Returns:
          ``image`` uint8 (b, h, w, 3), ``label`` int32 (b,) or (b, k) and the extras,
          all copies.
        """
        return self._rows(indices)

    def record_name(self, index: int) -> str:
        """Return the position in the arrays."""
        return f"{self.name}[{index}]"

    def _rows(self, index: Any) -> dict[str, Any]:
        arrays = {"image": self.images, "label": self.labels, **self.extras}
        return {name: array[index] for name, array in arrays.items()}


def label_of(source: Source, index: int) -> Any:
    """Return the label of a record, without its image where the source can.

    A source that can has a method ``label(index)``.

    Raises:
      BadRecord: the record cannot be read.
    """
    read = getattr(source, "label", None)
    return source[index]["label"] if read is None else read(index)


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
    labels: Shaped[np.ndarray, "..."], count: int, name: str
) -> Int[np.ndarray, "..."]:
    if labels.dtype.kind not in "iub" or labels.ndim not in (1, 2):
        raise UserError(
            f"{name}: labels are {labels.dtype} {labels.shape}; they must be integers "
            "(n,) or (n, k)."
        )
    if len(labels) != count:
        raise UserError(f"{name}: {count} images but {len(labels)} labels.")
    return labels.astype(np.int32)
