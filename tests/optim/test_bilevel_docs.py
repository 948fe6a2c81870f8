"""The examples in the docstrings are run."""

import doctest
import importlib
import pkgutil

import pytest

from jaxssl.optim import bilevel

MODULES = tuple(info.name for info in pkgutil.iter_modules(bilevel.__path__))


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    imported = importlib.import_module(f"jaxssl.optim.bilevel.{module}")
    assert doctest.testmod(imported).failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    found = [
        test
        for name in MODULES
        for test in finder.find(importlib.import_module(f"jaxssl.optim.bilevel.{name}"))
        if test.examples
    ]
    assert found
