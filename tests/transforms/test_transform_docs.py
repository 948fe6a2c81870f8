"""The examples in the docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

from jaxssl import transforms

MODULES = tuple(info.name for info in pkgutil.iter_modules(transforms.__path__))


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    imported = importlib.import_module(f"jaxssl.transforms.{module}")
    assert doctest.testmod(imported).failed == 0


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder(recurse=True)
    found = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(f"jaxssl.transforms.{name}"))
        if test.examples
    ]
    assert len(found) >= 5
