"""Data sets by name."""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from jaxssl.config.checks import nearest
from jaxssl.data.source import Source
from jaxssl.errors import UserError

NAMES = ("fashion_on_photos", "fashion_mnist_10k", "fashion_mnist", "folder", "npz")
"""Data sets by name."""

FAMILIES = {"tfds": "tfds_source", "generated": "generated"}
"""Modules of data sets that are called ``family:name``."""

TFDS_NAMES = (
    "stl10",
    "cifar10",
    "cifar100",
    "imagenet2012",
    "places365_small",
    "celeb_a",
    "voc/2007",
    "svhn_cropped",
)
"""What the thesis and its neighbours use of TFDS; any other name works as well."""

WAY_OUT = (
    " Leave it out. In a config made for another data set replace the whole section "
    "data, as docs/configuration.md shows under 'Your own images'."
)


def load(
    name: str, *, split: str, data_dir: str | None = None, **options: Any
) -> Source:
    """Open a data set by name.

    Args:
      name: ``fashion_on_photos`` or ``fashion_mnist_10k`` (both embedded),
        ``fashion_mnist``, ``folder``, ``npz``, ``tfds:<name>`` or
        ``generated:<name>``.
      split: ``train`` or ``test``; TFDS knows more.
      data_dir: where the files are; each data set says what it looks for.
      **options: the data set's own; see the ``load`` of its module.

    Returns:
      The data set.

    Raises:
      UserError: an unknown name or option, missing or unreadable files, with what to
        run or where to put them.
    """
    loader = find_loader(name)
    if data_dir is not None:
        options["data_dir"] = data_dir
    allowed = [p for p in inspect.signature(loader).parameters if p != "split"]
    if unknown := [option for option in options if option not in allowed]:
        raise UserError(
            f"{name} has no option {', '.join(map(repr, unknown))}; allowed: "
            f"{', '.join(allowed)}." + (nearest(unknown[0], allowed) or WAY_OUT)
        )
    return loader(split=split, **options)


def check_name(name: str) -> None:
    """Raise unless ``name`` is one that ``load`` takes.

    Raises:
      UserError: names what is allowed and the nearest name.
    """
    family, _, rest = name.partition(":")
    if name not in NAMES and not (family in FAMILIES and rest):
        families = [f"{known}:<name>" for known in FAMILIES]
        raise UserError(
            f"{name!r} is no data set; allowed: {', '.join([*NAMES, *families])}."
            + nearest(name, [*NAMES, *(f"tfds:{n}" for n in TFDS_NAMES)])
        )


def find_loader(name: str) -> Callable[..., Source]:
    """Return the ``load`` of a data set's module.

    Raises:
      UserError: there is no such data set, or a package is missing that it needs.
    """
    check_name(name)
    family, _, rest = name.partition(":")
    module = FAMILIES[family] if rest else name
    try:
        found = importlib.import_module(f"jaxssl.data.{module}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} needs {error.name}; run: pip install 'jaxssl[train]'"
        ) from None
    return functools.partial(found.load, rest) if rest else found.load
