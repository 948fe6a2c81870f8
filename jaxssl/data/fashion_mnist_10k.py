"""A balanced part of Fashion-MNIST that is embedded: 10,000 + 2,000 grey images.

The garments of Fashion-on-Photos as they are, without photos. Small enough for label
noise and overfitting on two cores; its numbers compare with no one's Fashion-MNIST.
"""

from jaxssl.config import fields
from jaxssl.config.checks import choice
from jaxssl.data.fashion_mnist import CLASS_NAMES
from jaxssl.data.fashion_on_photos import PHOTOS, PRESETS, asset, garments
from jaxssl.data.source import ArraySource, digest, image_source
from jaxssl.errors import UserError


def load(
    *, split: str, preset: str = "demo", num_train: fields.Count | None = None
) -> ArraySource:
    """Decode one split; grey is repeated over three channels.

    Args:
      split: ``train`` or ``test``, parts of those of Fashion-MNIST.
      preset: ``demo`` (10,000 + 2,000 images) or ``tiny`` (4,000 + 2,000, the first of
        ``demo``).
      num_train: how many of the training images, the first ones; all that the
        preset has by default.

    Returns:
      The split, in memory, 28 x 28 pixels; every ten images hold every class once.

    Raises:
      UserError: a value other than these.
    """
    choice("split", split, PHOTOS)
    choice("preset", preset, PRESETS)
    count = PRESETS[preset][split == "test"]
    if num_train is not None and not 1 <= num_train <= PRESETS[preset][0]:
        raise UserError(
            f"num_train is {num_train}; allowed: 1 to {PRESETS[preset][0]}."
        )
    if num_train is not None and split == "train":
        count = num_train
    images, labels = garments(split)
    return image_source(
        images[:count],
        labels[:count],
        name=f"fashion_mnist_10k/{split}",
        class_names=CLASS_NAMES,
        fingerprint=digest(f"fashion_mnist_10k 1 {split} {count}", asset("SHA256SUMS")),
    )
