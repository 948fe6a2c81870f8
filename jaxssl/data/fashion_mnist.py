"""The full Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28, ten classes."""

import os
from pathlib import Path

from jaxssl.config import fields
from jaxssl.config.checks import choice
from jaxssl.data import idx
from jaxssl.data.order import epoch_order
from jaxssl.data.paths import show
from jaxssl.data.source import ArraySource, image_source
from jaxssl.errors import UserError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SYSTEM = Path("/usr/share/datasets/fashion-mnist")


def load(
    *,
    split: str,
    data_dir: str | None = None,
    num_train: fields.Count | None = None,
) -> ArraySource:
    """Read the IDX files of one split; grey is repeated over three channels.

    Args:
      split: ``train`` or ``test``.
      data_dir: a folder with the four IDX files (gzipped or raw), or with a folder
        ``fashion-mnist`` that has them. By default ``$JAXSSL_DATA``, then
        ``/usr/share/datasets/fashion-mnist``.
      num_train: images to take of the train split: the first ``num_train`` of
        ``order.epoch_order(0, 0, 60_000)``; by default all, in the order of the file.

    Returns:
      The split, in memory.

    Raises:
      UserError: the files are missing or damaged, or there are less images.
    """
    choice("split", split, idx.FILES)
    images, labels = idx.read_split(find(data_dir), split)
    if labels.max() >= len(CLASS_NAMES):
        raise UserError(
            f"fashion_mnist has a label {labels.max()}; allowed: 0 to 9. "
            "Fetch the files again."
        )
    name = f"fashion_mnist/{split}"
    if num_train is not None and split == "train":
        if not 1 <= num_train <= len(images):
            raise UserError(f"num_train is {num_train}; allowed: 1 to {len(images)}.")
        chosen = epoch_order(0, 0, len(images))[:num_train]
        images, labels, name = images[chosen], labels[chosen], f"{name}[{num_train}]"
    return image_source(images, labels, name=name, class_names=CLASS_NAMES)


def find(data_dir: str | None = None) -> Path:
    """Return the folder that holds the IDX files.

    Args:
      data_dir: see ``load``.

    Raises:
      UserError: none does; says what to install.
    """
    given = data_dir or os.environ.get("JAXSSL_DATA")
    roots = [Path(given), Path(given) / "fashion-mnist"] if given else []
    if data_dir is None:
        roots.append(SYSTEM)
    for root in roots:
        if any(root.glob("train-images-idx3-ubyte*")):
            return root
    raise UserError(
        f"fashion_mnist is not in {' or '.join(map(show, roots))}. "
        "Run: apt-get install dataset-fashion-mnist; or put the four IDX files into a "
        "folder and name it with data_dir or $JAXSSL_DATA."
    )
