"""The house's limits: file and function length, unread settings, import circles."""

import ast
import dataclasses
import graphlib
import importlib
import pkgutil
from pathlib import Path

import pytest

import jaxssl

PACKAGE = Path(jaxssl.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LONGER_FUNCTIONS = {("train/loop.py", "train"): 120}

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


def _module_name(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def _imported_modules(path, modules):
    """Return the modules of jaxssl that a file imports anywhere, also for types only.

    ``from jaxssl.a import b`` imports the module ``jaxssl.a.b``, or a name of
    ``jaxssl.a``. That Python loads the packages above a module first is not counted.
    """
    for node in ast.walk(_parse(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                whole
                if (whole := f"{node.module}.{alias.name}") in modules
                else node.module
                for alias in node.names
            ]
        yield from (name for name in names if name in modules)


def test_no_import_circle():
    modules = {_module_name(path): path for path in FILES}
    graph = {
        name: {*_imported_modules(path, modules)} - {name}
        for name, path in modules.items()
    }
    assert "jaxssl.types" in graph["jaxssl.checkpoint.store"]
    graphlib.TopologicalSorter(graph).prepare()  # Raises CycleError with the circle.
