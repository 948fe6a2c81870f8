"""The house's limits: file and function length, and no setting that nobody reads."""

import ast
import dataclasses
import importlib
import pkgutil
from pathlib import Path

import pytest

import jaxssl

PACKAGE = Path(jaxssl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGER_FUNCTIONS = {("train/loop.py", "train"): 100}

LONGER_FILES = {"methods/transformations.py": 700, "methods/classify.py": 600}
"""One paper is one file (docs/decisions/0004)."""


def _parse(path):
    return ast.parse(path.read_text())


def _body_lines(function):
    """Count the lines of a function's body, without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_short(path):
    name = path.relative_to(PACKAGE).as_posix()
    longest = LONGER_FILES.get(name, 400)
    assert len(path.read_text().splitlines()) <= longest
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.FunctionDef):
            limit = LONGER_FUNCTIONS.get((name, node.name), 40)
            assert _body_lines(node) <= limit, f"{name}:{node.name}"


def _settings_classes():
    """Every dataclass of jaxssl whose name ends in Config."""
    for info in pkgutil.walk_packages([str(PACKAGE)], "jaxssl."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and dataclasses.is_dataclass(value)
                and value.__name__.endswith("Config")
                and value.__module__ == info.name
            ):
                yield value


def _attributes_read():
    reads = set()
    for path in FILES:
        for node in ast.walk(_parse(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                reads.add(node.attr)
    return reads


def test_no_setting_without_a_reader():
    reads = _attributes_read()
    classes = list(_settings_classes())
    assert len(classes) >= 5
    dead = [
        f"{cls.__module__}.{cls.__name__}.{field.name}"
        for cls in classes
        for field in dataclasses.fields(cls)
        if field.name not in reads
    ]
    assert dead == []
