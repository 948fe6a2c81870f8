"""Draw k mini-batches with the same labels; the position is one integer."""

import numbers
from typing import Any

import numpy as np

from jaxssl.transforms import checks
from jaxssl.types import Int

SMALL_CLASSES = ("error", "repeat")

NO_LABEL = -1
"""The label of an image without a label, which is never drawn."""

_LABEL_STREAM, _CLASS_ORDER, _VALIDATION_ORDER = range(3)
"""First word after the seed, so that no two shuffles share their random bits."""


class LabelMatchedSampler:
    """Indices of k mini-batches whose label vectors are the same, place by place.

    Without it the method does not work (ablation c of thesis table 8.1, Remark 1): the
    gradients of mini-batches with other labels disagree for that reason alone.

    As in the released code: the labels of the whole set are shuffled; a step takes the
    next ``per_minibatch`` of them; for each label, mini-batch after mini-batch gets the
    next image of this class from a queue. The queue is one shuffle of the class after
    the other, so every image comes once in each pass of its class. An image comes twice
    in a step only where a pass ends in it.

    The sampler holds no position: ``sampler(step)`` is a function of the seed and the
    step, so a resumed run goes on exactly, from any step. Steps may be asked for in any
    order; those of one pass over the labels are fast.

    Attributes:
      k: mini-batches a step.
      per_minibatch: images in each of them.
      seed: what decides all shuffles.
      num_labels: length of the stream of labels until it is shuffled anew.
      steps_per_epoch: steps in which as many images are drawn as there are (not counted
        those that are for validation alone).

    Example:
      >>> import numpy as np
      >>> labels = np.array([0, 1, 0, 1, 1, 0, 1, 0])
      >>> sampler = LabelMatchedSampler(labels, k=2, per_minibatch=2)
      >>> indices = sampler(5)
      >>> indices.shape, bool((labels[indices][0] == labels[indices][1]).all())
      ((2, 2), True)
    """

    def __init__(
        self,
        labels: Int[np.ndarray, " n"],
        *,
        k: int = 8,
        per_minibatch: int = 8,
        seed: int = 0,
        val_indices: Int[np.ndarray, " v"] | None = None,
        small_classes: str = "error",
    ):
        """Sort the images by class.

        Args:
          labels: whole numbers, the (noisy) labels that training sees, -1 for an image
            without a label. Neither such images nor classes without images are drawn.
          k: mini-batches a step, at least 2.
          per_minibatch: B, images in each. The "mini-batches of 64" of the released
            code are 8 of 8.
          seed: decides all shuffles.
          val_indices: images for mini-batch 0 alone (the thesis' validation ratio);
            None lets every image play both parts over time.
          small_classes: what to do with a class of less than k images, which then meet
            themselves in one place of several mini-batches, so that the validation
            gradient agrees with them for the wrong reason. "error" refuses, "repeat"
            accepts.

        Raises:
          TypeError: labels or indices are not whole, or a count is no Python integer.
          ValueError: a shape or count is impossible, or a class is too small.
        """
        self._labels = _whole(labels, "labels")
        _check_count(k, "k", 2)
        _check_count(per_minibatch, "per_minibatch", 1)
        _check_count(seed, "seed", 0)
        self.k, self.per_minibatch, self.seed = int(k), int(per_minibatch), int(seed)
        labelled = self._labels != NO_LABEL
        train = labelled.copy()
        if val_indices is not None:
            train[_checked_indices(val_indices, len(self._labels))] = False
        self._stream = self._labels[train]
        # How many mini-batches draw from the same queue, and what is in the queues.
        self._takers = self.k - (val_indices is not None)
        self._train = _by_class(self._labels, train)
        self._val = _by_class(self._labels, labelled & ~train)
        self._check_classes(small_classes)
        self.num_labels = len(self._stream)
        if self.num_labels < self.per_minibatch:
            raise ValueError(
                f"per_minibatch must be at most the {self.num_labels} images there "
                f"are; got {self.per_minibatch}."
            )
        self.steps_per_epoch = self.num_labels // (self._takers * self.per_minibatch)
        self._orders: dict[tuple[int, int, int], np.ndarray] = {}
        self._epoch: tuple[int, np.ndarray, np.ndarray] | None = None

    def __call__(self, step: int) -> Int[np.ndarray, "k b"]:
        """Return the images of a step.

        Args:
          step: the global step, at least 0.

        Returns:
          int64 indices into the labels; row 0 is for validation.

        Raises:
          TypeError: ``step`` is no whole number.
          ValueError: it is below 0.
        """
        _check_count(step, "step", 0)
        indices = np.empty((self.k, self.per_minibatch), np.int64)
        for place in range(self.per_minibatch):
            at = int(step) * self.per_minibatch + place
            epoch, row = divmod(at, self.num_labels)
            stream, ranks = self._shuffled_labels(epoch)
            label, members = int(stream[row]), self._train[int(stream[row])]
            drawn = epoch * len(members) + int(ranks[row])  # Of this class, before.
            first = self.k - self._takers
            for i in range(first, self.k):
                position = drawn * self._takers + i - first
                indices[i, place] = self._image(_CLASS_ORDER, label, position)
            if first:
                indices[0, place] = self._image(_VALIDATION_ORDER, label, drawn)
        return indices

    def _shuffled_labels(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the stream of labels, and how often each came in it before."""
        cached = self._epoch
        if cached is None or cached[0] != epoch:
            shuffled = _permutation([self.seed, _LABEL_STREAM, epoch], self.num_labels)
            stream = self._stream[shuffled]
            order = np.argsort(stream, kind="stable")
            _, starts, counts = np.unique(
                stream[order], return_index=True, return_counts=True
            )
            ranks = np.empty(len(stream), np.int64)
            ranks[order] = np.arange(len(stream)) - np.repeat(starts, counts)
            cached = self._epoch = (epoch, stream, ranks)
        return cached[1], cached[2]

    def _image(self, queue: int, label: int, position: int) -> int:
        """Return what stands at a position of a class' endless queue."""
        members = (self._train if queue == _CLASS_ORDER else self._val)[label]
        turn, offset = divmod(position, len(members))
        name = queue, label, turn
        order = self._orders.get(name)
        if order is None:
            # A class is in one or two passes at a time; older ones are drawn again
            # if they are ever asked for.
            if len(self._orders) >= 8 * len(self._train):
                self._orders.clear()
            words = [self.seed, queue, _natural(label), turn]
            order = members[_permutation(words, len(members))]
            self._orders[name] = order
        return int(order[offset])

    def _check_classes(self, small_classes: str) -> None:
        checks.choice(small_classes, SMALL_CLASSES, "small_classes")
        without = sorted(set(self._train) - set(self._val))
        if without and self._takers < self.k:
            raise ValueError(
                f"val_indices must hold images of every class; got none of {without}. "
                "Draw them class by class, or leave those classes out of labels."
            )
        small = [c for c, m in self._train.items() if len(m) < self._takers]
        if small and small_classes == "error":
            raise ValueError(
                f"labels must have at least {self._takers} images of each class, one "
                f"for each mini-batch; got less of {sorted(small)}. Take a smaller k, "
                "leave those classes out, or accept images that meet themselves with "
                "small_classes='repeat'."
            )


def _permutation(words: list[int], count: int) -> np.ndarray:
    """Return an order that follows from the words alone.

    The raw stream of PCG64 is sorted because NumPy promises that it never changes;
    ``Generator.permutation`` may, and a resumed run would go on with other images.
    """
    stream = np.random.PCG64(np.random.SeedSequence(words))
    return np.argsort(stream.random_raw(count), kind="stable")


def _by_class(labels: np.ndarray, chosen: np.ndarray) -> dict[int, np.ndarray]:
    """Return the chosen images of each class."""
    indices = np.flatnonzero(chosen)
    order = indices[np.argsort(labels[indices], kind="stable")]
    classes, starts = np.unique(labels[order], return_index=True)
    parts = np.split(order, starts[1:]) if len(order) else []
    return {int(c): part for c, part in zip(classes, parts, strict=True)}


def _natural(label: int) -> int:
    """Number all integers, as seeds are not negative."""
    return 2 * label if label >= 0 else -2 * label - 1


def _whole(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{name} must be whole numbers; got {array.dtype}.")
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} must have one axis and not be empty; got shape {array.shape}. "
            "Multi-label data has no label vectors to match."
        )
    return array.astype(np.int64)


def _checked_indices(values: Any, length: int) -> np.ndarray:
    indices = _whole(values, "val_indices")
    if indices.min() < 0 or indices.max() >= length:
        raise ValueError(
            f"val_indices must lie between 0 and {length - 1}; got {indices.min()} to "
            f"{indices.max()}."
        )
    return indices


def _check_count(value: Any, name: str, least: int) -> None:
    if not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} must be a whole number; got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}; got {value}.")
