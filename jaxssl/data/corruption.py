"""Data sets made harder on purpose: wrong labels and permuted pixels (chapter 8).

Everything follows from the data set and a seed: no run, device or number of hosts
changes a label or a pixel. The draws are those of `jaxssl.transforms`, because there
is what "exact", "other" and "any" mean, and where it is tested.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import transforms
from jaxssl.config import fields
from jaxssl.config.checks import nearest
from jaxssl.data import npz
from jaxssl.data.fingerprint import derive
from jaxssl.data.labelled import labels_of
from jaxssl.data.labels import NO_LABEL
from jaxssl.data.source import (
    ArraySource,
    Source,
    known_labels,
    label_of,
    require,
)
from jaxssl.data.subset import subset
from jaxssl.errors import UserError
from jaxssl.transforms.labels import COUNTS, REPLACEMENTS
from jaxssl.types import Array, Int, Key, Record, UInt8

KINDS = ("none", "symmetric", "asymmetric", "predicted")

PREDICTED = "predicted"
"""Name of the array in a file of predicted labels."""

CHUNK = 1024
MAX_BYTES = 8 << 30
HEADER_BYTES = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """The section ``noise`` of a config: how the data are made harder.

    Attributes:
      kind: ``none``; ``symmetric``, a random class (thesis section 8.4.3);
        ``asymmetric``, one class each, as in confusions of similar classes (Patrini et
        al. 2017); ``predicted``, what a network took the images for (Table 8.4).
      rate: share of the labels of each class that are drawn to be replaced, 0 to 1.
      replacement: of symmetric noise: ``other`` draws from the other classes, so that
        this share is wrong (the thesis); ``any`` draws from all classes, so that only
        rate * (1 - 1 / classes) are wrong (as many later papers).
      count: ``exact`` replaces floor(rate * n_c) labels of each class, as the released
        code; ``bernoulli`` each label by itself, with probability ``rate``.
      pairs: of asymmetric noise: names of classes (from, to); other classes stay right.
        Empty: each class becomes the next, the last the first
        ("pair flip", Han et al. 2018).
      seed: of the draw, 0 to 2**32 - 1; the released code has 123.
      file: of predicted noise: an ``.npz`` with the integers ``predicted`` (n,), the
        label of each record by its index.
      permuted_pixels: put the pixels of each image, for testing too, into a random
        order of its own, after ``seed`` (Table 8.2).
    """

    kind: str = fields.choice("none", KINDS)
    rate: float = fields.number(0.0, at_least=0, at_most=1)
    replacement: str = fields.choice("other", REPLACEMENTS)
    count: str = fields.choice("exact", COUNTS)
    pairs: tuple[tuple[str, str], ...] = ()
    seed: int = fields.seed(123)
    file: str = ""
    permuted_pixels: bool = False

    def __post_init__(self) -> None:
        """Check the values, also that none is set that the kind does not read."""
        fields.validate(self)
        self._only("rate", "symmetric", "asymmetric")
        self._only("replacement", "symmetric")
        self._only("pairs", "asymmetric")
        self._only("file", "predicted")
        if self.kind == "predicted" and not self.file:
            raise UserError("file is empty; kind 'predicted' needs an .npz of labels.")
        sources = [source for source, _ in self.pairs]
        if len(set(sources)) < len(sources) or any(a == b for a, b in self.pairs):
            raise UserError(
                f"pairs is {self.pairs!r}; each is (from, to) of two classes, and no "
                "class stands twice as from."
            )

    def _only(self, field: str, *kinds: str) -> None:
        """Raise if a field is set, but not read."""
        value = getattr(self, field)
        default = {f.name: f.default for f in dataclasses.fields(self)}[field]
        if self.kind not in kinds and value != default:
            raise UserError(
                f"{field} is {value!r}, but kind is {self.kind!r}; set kind to "
                f"{' or '.join(map(repr, kinds))}, or {field} to {default!r}."
            )


# --- Labels


def noisy_labels(source: Source, config: NoiseConfig) -> Source:
    """Make some labels of a data set wrong; a record without a label gets none.

    Args:
      source: the data set.
      config: how many, and in which way.

    Returns:
      The data set with ``label`` as training sees it and ``true_label``, as it was. In
      memory (sharing the images) if ``source`` is, else images are read when they are
      asked for. The name says which share is wrong.

    Raises:
      UserError: several labels a record, none, or fewer than two class names; a pair
        names no class; a file is missing or does not fit the data.

    References:
      Thesis section 8.4.3.
    """
    if config.kind == "none":
        return _relabel(source, None, name=source.name)
    labels = labels_of(source)
    rows, num_classes = np.flatnonzero(labels != NO_LABEL), len(source.class_names)
    if num_classes < 2 or not len(rows):
        raise UserError(
            f"{source.name} has labels {labels.min()} to {labels.max()} and "
            f"{num_classes} class names; label noise needs labels of two classes, and "
            "a name for each."
        )
    noisy = labels.copy()
    if config.kind == "predicted":
        noisy[rows] = _predicted(source, Path(config.file))[rows]
    else:
        noisy[rows] = _draw(labels[rows], source.class_names, config)
    wrong = (noisy != labels)[rows].mean()
    return _relabel(source, noisy, name=f"{source.name} with {wrong:.1%} wrong labels")


class Relabelled:
    """A data set on disk with other labels; images are read when they are asked for.

    Attributes:
      name: see `jaxssl.data.source.Source`.
      class_names: those of the source.
      spec: that of the source, and ``true_label``.
      fingerprint: of the source and the labels.
    """

    def __init__(
        self, source: Source, labels: Int[np.ndarray, " n"] | None, *, name: str
    ) -> None:
        """Wrap a data set.

        Args:
          source: the data set.
          labels: those that training sees; None leaves them as they are.
          name: what to call the result.
        """
        self.name = name
        self.class_names = source.class_names
        self.spec = {**source.spec, "true_label": require(source, "label")}
        self.fingerprint = _fingerprint(source, labels)
        self._source = source
        self._labels = labels

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._source)

    def read(self, index: int, rng: np.random.Generator) -> Record:
        """Read a record and add ``true_label``."""
        record = self._source.read(index, rng)
        true = record["label"]
        label = true if self._labels is None else self._labels[index]
        return {**record, "label": label, "true_label": true}

    def label(self, index: int) -> Any:
        """Return the label that training sees, without reading the record."""
        if self._labels is None:
            return label_of(self._source, index)
        return self._labels[index]

    @property
    def labels(self) -> Int[np.ndarray, " n"] | None:
        """Return all labels that training sees, where they are in memory."""
        return known_labels(self._source) if self._labels is None else self._labels

    def record_name(self, index: int) -> str:
        """Return what the source calls the record."""
        return self._source.record_name(index)


def _relabel(
    source: Source, labels: Int[np.ndarray, " n"] | None, *, name: str
) -> Source:
    if not isinstance(source, ArraySource):
        return Relabelled(source, labels, name=name)
    require(source, "label")
    true = source.arrays["label"]
    label = true if labels is None else labels
    return ArraySource(
        {**source.arrays, "label": label, "true_label": true},
        name=name,
        class_names=source.class_names,
        fingerprint=_fingerprint(source, labels),
    )


def _fingerprint(source: Source, labels: Int[np.ndarray, " n"] | None) -> str:
    if labels is None:
        return source.fingerprint
    return derive(source.fingerprint, labels.tobytes())


def _draw(
    labels: Int[np.ndarray, " n"], names: tuple[str, ...], config: NoiseConfig
) -> Int[np.ndarray, " n"]:
    """Draw symmetric or asymmetric noise."""
    clean = jnp.asarray(labels)
    params = transforms.label_noise_params(
        _make_key(config.seed),
        clean,
        num_classes=len(names),
        rate=config.rate,
        count=config.count,
        replacement=config.replacement,
    )
    if config.kind == "asymmetric":
        partners = _partners(names, config.pairs)
        params = params._replace(replacement=jnp.asarray(partners[labels]))
    return np.asarray(transforms.label_noise(clean, params))


def _partners(
    names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]
) -> Int[np.ndarray, " k"]:
    """Return what each class becomes."""
    classes = np.arange(len(names), dtype=np.int32)
    if not pairs:
        return np.roll(classes, -1)
    partners = classes.copy()
    for name in (name for pair in pairs for name in pair):
        if name not in names:
            raise UserError(
                f"noise.pairs names {name!r}; the classes are: {', '.join(names)}."
                + nearest(name, names)
            )
    for source, target in pairs:
        partners[names.index(source)] = names.index(target)
    return partners


def _predicted(source: Source, path: Path) -> Int[np.ndarray, " n"]:
    if not path.is_file():
        raise UserError(f"noise.file: there is no regular file {path}.")
    limit = 8 * len(source) + HEADER_BYTES
    labels = npz.read_array(path, PREDICTED, max_bytes=limit)
    if labels.shape != (len(source),) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{path}: {PREDICTED} is {labels.dtype} {labels.shape}; {source.name} "
            f"needs whole numbers of shape ({len(source)},)."
        )
    if labels.min() < 0 or labels.max() >= len(source.class_names):
        raise UserError(
            f"{path}: {PREDICTED} holds {labels.min()} to {labels.max()}; the classes "
            f"of {source.name} are 0 to {len(source.class_names) - 1}."
        )
    return labels.astype(np.int32)


# --- Pixels


def permuted_pixels(source: Source, *, seed: int) -> ArraySource:
    """Put the pixels of each image into a random order of its own, channels together.

    Image i of every data set gets the order that follows from ``seed`` and i.

    Args:
      source: the data set; read into memory if it is not there yet.
      seed: of the orders, 0 to 2**32 - 1.

    Returns:
      The data set, in memory.

    Raises:
      UserError: no image, or the images would take more than 8 GiB.

    References:
      Thesis section 8.4.2 and Table 8.2; Zhang et al. 2017 (thesis reference 216).
    """
    size = len(source) * math.prod(require(source, "image").shape)
    if size > MAX_BYTES:
        raise UserError(
            f"the images of {source.name} take {size / 2**30:.1f} GiB; pixels are "
            f"permuted in memory, at most {MAX_BYTES >> 30} GiB. Take a part of them."
        )
    whole = source if isinstance(source, ArraySource) else subset(source, len(source))
    images = whole.arrays["image"]
    # Grey images that are repeated over three channels are permuted once.
    distinct = images[..., :1] if images.strides[-1] == 0 else images
    permuted = np.broadcast_to(_permute(distinct, _make_key(seed)), images.shape)
    return ArraySource(
        {**whole.arrays, "image": permuted},
        name=f"{source.name} with permuted pixels",
        class_names=source.class_names,
        fingerprint=derive(source.fingerprint, f"permuted pixels {seed}"),
    )


def _permute(
    images: UInt8[np.ndarray, "n h w c"], key: Key[Array, ""]
) -> UInt8[np.ndarray, "n h w c"]:
    permute = jax.jit(transforms.batched(transforms.random_pixel_permutation))
    permuted = np.empty(images.shape, np.uint8)
    chunk = min(CHUNK, len(images))
    for start in range(0, len(images), chunk):
        # One shape, one compilation: the last image fills the last chunk.
        ids = np.minimum(start + np.arange(chunk, dtype=np.int32), len(images) - 1)
        permuted[ids], _ = permute(key, images[ids], jnp.asarray(ids))
    return permuted


def _make_key(seed: int) -> Key[Array, ""]:
    # Named, so that the setting of the default generator changes no data set.
    return jax.random.key(seed, impl="threefry2x32")
