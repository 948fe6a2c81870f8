"""By which code a number was measured, and on what."""

import ast
import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SPARED = ("report", "cli")  # Parts of jaxssl that change no number.


def code_hash() -> str:
    """Return the SHA-256 of the code that defines the numbers, comments left out.

    That is the package without its report and its command line, and all config files.
    """
    files = [*(ROOT / "jaxssl").rglob("*.py"), *(ROOT / "configs").rglob("*.py")]
    spared = tuple(ROOT / "jaxssl" / part for part in SPARED)
    total = hashlib.sha256()
    for path in sorted(files):
        if not any(path.is_relative_to(folder) for folder in spared):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list):
                    node.body = [one for one in body if not _is_docstring(one)]
            total.update(f"{path.relative_to(ROOT)}\n{ast.dump(tree)}".encode())
    return total.hexdigest()


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def hardware(record: Path) -> str:
    """Name the devices of each sitting that the run's ``run.json`` tells of."""
    last = json.loads(record.read_text())
    sittings = [launch["devices"] for launch in (*last["earlier"], last)]
    return " and ".join(dict.fromkeys(map(_devices, sittings)))


def _devices(found: Mapping[str, Any]) -> str:
    if found["platform"] == "cpu":
        return f"{found['cpus']} CPU cores ({platform.machine()})"
    return f"{found['count']} {found['platform'].upper()} ({found['kind']})"


def commit() -> str:
    """Return the commit that is checked out."""
    words = ("git", "rev-parse", "HEAD")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()
