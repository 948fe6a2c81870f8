"""By which code a number was measured, and on what.

The code behind a run is the import closure of its config: every module that an import
leads to. A new chapter is outside of that closure, so its files leave the hashes of old
tables alone. docs/decisions/0009-provenance-by-import-closure.md has the reasons.
"""

import ast
import functools
import hashlib
import importlib.util
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxssl.data import registry

ROOT = Path(__file__).parent.parent
SCHEME = "imports"
"""What the hash covers. Version 0.1 hashed the whole package (scheme "package")."""

ALWAYS = ("jaxssl.train.loop", "jaxssl.run.evaluation")
"""Modules that train and evaluate every run; no config imports them."""

UNCOUNTED = ("jaxssl/report", "jaxssl/cli")
"""Folders that change no number."""


def code_hash(config_files: Iterable[str], data_names: Iterable[str] = ()) -> str:
    """Return the SHA-256 of the code that defines a run's numbers.

    Comments, docstrings and the layout of the code are left out, and so is what the
    versions of Python write differently into a syntax tree.

    Args:
      config_files: paths below the repository's root: the run's config, and those of
        the runs that it starts from.
      data_names: their ``data.name``. The registry imports data sets by name, which no
        import statement shows.
    """
    total = hashlib.sha256()
    for path in closure(config_files, data_names):
        name, code = path.relative_to(ROOT).as_posix(), _plain_code(path.read_text())
        total.update(f"{name}\n{code}\n".encode())
    return total.hexdigest()


def closure(config_files: Iterable[str], data_names: Iterable[str] = ()) -> list[Path]:
    """Return the files that ``code_hash`` covers, sorted.

    Raises:
      FileNotFoundError: a config or a module that every run needs is missing.
    """
    modules = [*ALWAYS, *(f"jaxssl.data.{_data_module(name)}" for name in data_names)]
    waiting = [ROOT / file for file in config_files]
    for module in modules:
        path = _module_file(module, ROOT)
        if path is None:
            raise FileNotFoundError(f"{module} is no module below {ROOT}.")
        waiting.append(path)
    covered: set[Path] = set()
    while waiting:
        path = waiting.pop()
        name = path.relative_to(ROOT).as_posix()
        if path not in covered and not name.startswith(UNCOUNTED):
            covered.add(path)
            waiting += _imported_files(path)
    return sorted(covered)


def _data_module(name: str) -> str:
    family, _, _ = name.partition(":")
    return registry.FAMILIES.get(family, name)


def _imported_files(path: Path) -> set[Path]:
    """Return the files of this repository that a file's imports name."""
    tree, folder = _parse(path.read_text()), path.parent
    files: set[Path | None] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            files |= {_module_file(alias.name, folder) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, path)
            for alias in node.names:
                file = _name_file(module, alias.name, folder)
                attributes = set()
                if file and file.name == "__init__.py":
                    attributes = _attributes(tree, alias.asname or alias.name)
                    package = ".".join(file.parent.relative_to(ROOT).parts)
                    files |= {_name_file(package, one, folder) for one in attributes}
                if not attributes:
                    files.add(file)
    return {file for file in files if file}


def _attributes(tree: ast.Module, name: str) -> set[str]:
    """Return what a file reads from a name, as ``warp`` in ``T.warp``.

    The set is empty where the name is used in any other way, and where it is not used:
    then it may lead to everything in it.
    """
    nodes = list(ast.walk(tree))
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
    reads = [
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == name
    ]
    return set(reads) if len(reads) == len(uses) else set()


def _absolute(node: ast.ImportFrom, path: Path) -> str:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    dots = "." * node.level
    return importlib.util.resolve_name(f"{dots}{node.module or ''}", package)


def _module_file(module: str, folder: Path) -> Path | None:
    """Return a module's file; None for one of another library.

    Args:
      module: its absolute name.
      folder: that of the importing file. A config imports its neighbours by their bare
        names.
    """
    base = ROOT if module.partition(".")[0] == "jaxssl" else folder
    path = base.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.exists():
            return file
    return None


def _name_file(module: str, name: str, folder: Path) -> Path | None:
    """Return the file to which ``from module import name`` leads.

    Where a package only passes a name on, that is the file which the package took it
    from: the package's other imports have nothing to do with the name.
    """
    if submodule := _module_file(f"{module}.{name}", folder):
        return submodule
    file = _module_file(module, folder)
    if file is None or file.name != "__init__.py":
        return file
    for node in ast.walk(_parse(file.read_text())):
        for alias in node.names if isinstance(node, ast.ImportFrom) else ():
            if (alias.asname or alias.name) == name:
                return _name_file(_absolute(node, file), alias.name, file.parent)
    return file


@functools.cache
def _parse(code: str) -> ast.Module:
    return ast.parse(code)


@functools.cache
def _plain_code(code: str) -> str:
    return repr(_plain(_parse(code)))


def _plain(node: Any) -> Any:
    """Turn a syntax tree into tuples, without docstrings and empty fields.

    Other versions of Python have more fields, which are empty in code that the oldest
    one reads.
    """
    if isinstance(node, list):
        return tuple(_plain(item) for item in node if not _is_docstring(item))
    if not isinstance(node, ast.AST):
        return node
    fields = {name: _plain(value) for name, value in ast.iter_fields(node)}
    kept = [(name, value) for name, value in fields.items() if value not in (None, ())]
    return type(node).__name__, *kept


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def hardware(record: Path) -> str:
    """Name the devices of each start that the run's ``run.json`` lists."""
    last = json.loads(record.read_text())
    launches = [launch["devices"] for launch in (*last["earlier"], last)]
    return " and ".join(dict.fromkeys(map(_devices, launches)))


def _devices(devices: Mapping[str, Any]) -> str:
    if devices["platform"] == "cpu":
        return f"{devices['cpus']} CPU cores ({platform.machine()})"
    return f"{devices['count']} {devices['platform'].upper()} ({devices['kind']})"


def commit() -> str:
    """Return the commit that is checked out."""
    command = ("git", "rev-parse", "HEAD")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()
