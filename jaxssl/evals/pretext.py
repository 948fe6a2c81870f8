"""How well a network tells transformations apart, and whether it takes a shortcut."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxssl.config import checks
from jaxssl.data import pipeline
from jaxssl.data.source import Source
from jaxssl.evals.placement import place
from jaxssl.types import Array, Batch, Float, Int, Key, TrainState, UInt8

PretextFn = Callable[[TrainState, Batch, Key[Array, ""]], dict[str, Any]]
"""The predict_fn ``pretext``: ``image`` uint8 (b, k, h, w, 3), ``logits`` (b, k, k)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretextConfig:
    """How the pretext task is examined.

    Attributes:
      batch_size: source images a forward pass; each is seen once in every class.
      num_examples: images kept with all their transformed versions, for the report.
      seed: of the transformations.
    """

    batch_size: int = 100
    num_examples: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        checks.positive(self, "batch_size", "num_examples")


class Pretext(NamedTuple):
    """What the network says about every image in every class.

    Attributes:
      logits: (n, k, k): image, applied transformation, class.
      originals: some untransformed images.
      transformed: the same images, once in every class.
    """

    logits: Float[np.ndarray, "n k k"]
    originals: UInt8[np.ndarray, "g h w c"]
    transformed: UInt8[np.ndarray, "g k s s c"]


def make_pretext(
    pretext_fn: PretextFn, config: PretextConfig
) -> Callable[[TrainState, Source], Pretext]:
    """Return ``pretext(state, source)``, compiled once for all states and sources.

    Args:
      pretext_fn: the predict_fn ``pretext``; its randomness is by the ids of the batch,
        so every batch gets the same key.
      config: batches and examples.

    Returns:
      A function that leaves the state as it is.
    """
    run = jax.jit(
        lambda state, batch: pretext_fn(state, batch, jax.random.key(config.seed))
    )

    def pretext(state: TrainState, source: Source) -> Pretext:
        logits, originals, transformed = [], [], []
        missing = config.num_examples
        for batch, mask in pipeline.epoch(source, batch_size=config.batch_size):
            out = run(state, place(dict(batch), state))
            logits.append(jax.device_get(out["logits"])[mask])
            if missing > 0:
                originals.append(batch["image"][mask][:missing])
                transformed.append(_pixels(out["image"])[mask][:missing])
                missing -= len(originals[-1])
        parts = logits, originals, transformed
        return Pretext(*(np.concatenate(part) for part in parts))

    return pretext


def _pixels(images: Array) -> np.ndarray:
    if images.dtype != np.uint8:
        raise TypeError(
            f"The predict_fn 'pretext' returned images of {images.dtype}; it must return "
            "uint8 pixels, so that they can be shown."
        )
    return jax.device_get(images)


def confusion(logits: Float[np.ndarray, "n k k"]) -> Int[np.ndarray, "k k"]:
    """Count answers: row = applied transformation, column = the network's choice.

    Args:
      logits: (image, applied transformation, class).

    Returns:
      Counts; every row sums to the number of images.
    """
    num_classes = logits.shape[-1]
    chosen = logits.argmax(axis=-1)  # n k
    flat = np.arange(num_classes)[None] * num_classes + chosen
    counts = np.bincount(flat.ravel(), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def restricted_accuracy(
    logits: Float[np.ndarray, "n k k"], classes: Sequence[int]
) -> float:
    """Return the accuracy where both truth and choice are among ``classes``.

    With the four rotations it asks which way up an image is, whatever else the network
    was trained to tell; chance is one in ``len(classes)``.

    Args:
      logits: (image, applied transformation, class).
      classes: indices into the classes.

    Returns:
      A number in [0, 1].
    """
    chosen = logits[:, classes][:, :, classes].argmax(axis=-1)
    return float((chosen == np.arange(len(classes))[None]).mean())
