"""Data sets by name."""

import contextlib
import contextvars
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from jaxssl.config import fields
from jaxssl.config.checks import nearest
from jaxssl.data.paths import check_split
from jaxssl.data.source import Source
from jaxssl.errors import UserError

NAMES = ("fashion_on_photos", "fashion_mnist_10k", "fashion_mnist", "folder", "npz")
"""Data sets by name."""

FAMILIES = {"tfds": "tfds_source", "generated": "generated"}
"""Modules of data sets that are called ``family:name``."""

CATALOGUE = (
    ("fashion_on_photos", "10,000 + 2,000, 40 px", "MIT, CC-BY-4.0, CC0-1.0"),
    ("fashion_mnist_10k", "10,000 + 2,000, 28 px, grey", "MIT"),
    ("fashion_mnist", "60,000 + 10,000, 28 px, grey", "MIT"),
    ("tfds:stl10", "100,000 + 5,000 + 8,000, 96 px", "non-commercial research"),
    ("tfds:cifar10", "50,000 + 10,000, 32 px", "see its page"),
    ("tfds:cifar100", "50,000 + 10,000, 32 px", "see its page"),
    ("tfds:imagenet2012", "1,281,167 + 50,000", "non-commercial research"),
    ("tfds:places365_small", "1,803,460 + 36,500, 256 px", "see its page"),
    ("tfds:celeb_a", "162,770 + 19,867 + 19,962", "non-commercial research"),
    ("tfds:voc/2007", "2,501 + 2,510 + 4,952", "see its page"),
    ("folder", "JPEG, PNG and WebP, one sub-folder a class", "yours"),
    ("npz", "arrays image and label", "yours"),
)
"""Name, number and size of the images, and licence of what users may look for."""

WAY_OUT = (
    " Leave it out. In a config made for another data set replace the whole section "
    "data, as docs/configuration.md shows under 'Your own images'."
)

_opened: contextvars.ContextVar[dict[str, Source] | None] = contextvars.ContextVar(
    "opened", default=None
)


@contextlib.contextmanager
def opened() -> Iterator[dict[str, Source]]:
    """Collect the data sets that `load` opens in the block.

    Yields:
      Data set and split to source, as ``folder train``; a second one of the same data
      set and split, with other options, is ``folder train (2)``. Filled while the block
      runs.
    """
    sources: dict[str, Source] = {}
    token = _opened.set(sources)
    try:
        yield sources
    finally:
        _opened.reset(token)


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
      UserError: an unknown name or option, a split that is no name, missing or
        unreadable files, with what to run or where to put them.
    """
    loader = find_loader(name)
    check_split(split)
    hints = fields.hints(loader)
    options = {
        option: fields.convert(value, hints.get(option, Any), f"data.{option}")
        for option, value in options.items()
    }
    if data_dir is not None:
        options["data_dir"] = data_dir
    allowed = [p for p in inspect.signature(loader).parameters if p != "split"]
    if unknown := [option for option in options if option not in allowed]:
        raise UserError(
            f"{name} has no option {', '.join(map(repr, unknown))}; allowed: "
            f"{', '.join(allowed)}." + (nearest(unknown[0], allowed) or WAY_OUT)
        )
    source = loader(split=split, **options)
    if (sources := _opened.get()) is not None:
        key, number = f"{name} {split}", 1
        while key in sources:
            number += 1
            key = f"{name} {split} ({number})"
        sources[key] = source
    return source


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
            + nearest(name, [known for known, *_ in CATALOGUE])
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
        loaded = importlib.import_module(f"jaxssl.data.{module}")
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name} needs {error.name}; run: pip install 'jaxssl[train]'"
        ) from None
    return functools.partial(loaded.load, rest) if rest else loaded.load
