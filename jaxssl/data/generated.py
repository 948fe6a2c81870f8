"""Smooth random images in the shape of a real data set that is not at hand.

For checks that ask about shapes and not about pictures: does a config run, what does
its step need on a machine one does not own, is its resume exact. Nothing can be learnt
from these images, and their name says what they are.
"""

from typing import Annotated, NamedTuple

import numpy as np

from jaxssl.config import fields
from jaxssl.config.checks import choice
from jaxssl.data.source import Source, digest, image_spec
from jaxssl.errors import UserError
from jaxssl.types import Int, Record, UInt8

CELL = 8
"""Side of the squares of one colour, in pixels."""


class Form(NamedTuple):
    """What is known of a data set without its files.

    Attributes:
      shape: (h, w) of all images; None where they differ and are scaled when loaded.
      num_classes: number of classes, or of attributes.
      attributes: whether a label is a vector of 0 and 1.
      label_keys: features of TFDS that can be the label.
    """

    shape: tuple[int, int] | None
    num_classes: int
    attributes: bool = False
    label_keys: tuple[str, ...] = ("label",)


FORMS = {
    "stl10": Form((96, 96), 10),
    "cifar10": Form((32, 32), 10),
    "cifar100": Form((32, 32), 100),
    "imagenet2012": Form(None, 1000),
    "places365_small": Form((256, 256), 365),
    "celeb_a": Form((218, 178), 40, True, ("attributes",)),
    "voc/2007": Form(None, 20, True, ("labels", "labels_no_difficult")),
}


class GeneratedSource:
    """Records that are computed when they are asked for.

    Attributes:
      name: see ``Source``.
      class_names: ``class 0`` and so on.
      spec: ``image`` and ``label``.
      fingerprint: see ``Source``.
    """

    def __init__(
        self, form: Form, shape: tuple[int, int], *, name: str, num_records: int
    ):
        """Take the place of one split; see ``load``."""
        self.name = name
        self.class_names = tuple(f"class {i}" for i in range(form.num_classes))
        label = (form.num_classes,) if form.attributes else ()
        self.spec = image_spec((*shape, 3), label)
        self.fingerprint = digest(f"generated 1 {name} {shape} {num_records}")
        self._attributes = form.attributes
        self._num_records = num_records
        self._seed = int(self.fingerprint, 16)

    def __len__(self) -> int:
        return self._num_records

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Return an image, which follows from its index alone, and its label."""
        del rng
        return {"image": self._image(index), "label": self.label(index)}

    def label(self, index: int) -> Int[np.ndarray, "*k"]:
        """Return the class, each in its turn, or random attributes."""
        count = len(self.class_names)
        if not self._attributes:
            return np.array(index % count, np.int32)
        bits = self._stream(index, "label").random_raw(count) >> np.uint64(63)
        return bits.astype(np.int32)

    def record_name(self, index: int) -> str:
        """Return the position in the split."""
        return f"{self.name}[{index}]"

    def _image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        height, width, _ = self.spec["image"].shape
        rows, columns = -(-height // CELL), -(-width // CELL)
        raw = self._stream(index, "image").random_raw(rows * columns * 3)
        cells = (raw >> np.uint64(56)).astype(np.uint8).reshape(rows, columns, 3)
        image = cells.repeat(CELL, axis=0).repeat(CELL, axis=1)
        return image[:height, :width]

    def _stream(self, index: int, what: str) -> np.random.PCG64:
        """Return numbers of a record's own; NumPy never changes the raw stream."""
        entropy = [self._seed, index, what == "label"]
        return np.random.PCG64(np.random.SeedSequence(entropy))


@fields.checked
def load(
    name: str,
    *,
    split: str,
    load_size: fields.Pixels | None = None,
    label_key: str | None = None,
    num_records: Annotated[int, fields.Range(at_least=1, at_most=10**8)] = 16_384,
) -> Source:
    """Stand in for one split of a TFDS data set.

    Args:
      name: as TFDS has it: one of ``FORMS``.
      split: any; each has images of its own.
      load_size: side of the images; needed where the real ones have many sizes.
      label_key: as for ``tfds:``; all keys of one set have labels of the same form.
      num_records: number of images; as many as a batch has, or more.

    Returns:
      The split, which takes no memory.

    Raises:
      UserError: another name or key, or a number that is out of range.
    """
    choice("generated:", name, FORMS)
    form = FORMS[name]
    if label_key is not None:
        choice("label_key", label_key, form.label_keys)
    shape = (load_size, load_size) if load_size else form.shape
    if shape is None:
        raise UserError(f"{name} has images of many sizes; set load_size.")
    where = f"generated:{name}/{split}"
    return GeneratedSource(form, shape, name=where, num_records=num_records)
