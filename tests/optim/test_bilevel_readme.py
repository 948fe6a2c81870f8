"""The README's script needs jax, NumPy and optax alone: the base install."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def script():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (found,) = [block for block in blocks if "bilevel" in block]
    return found


def test_the_script_runs_without_the_extras():
    assert len([line for line in script().splitlines() if line]) <= 25
    hide = (
        "import sys\nfor name in ('flax', 'jaxtyping', 'ml_collections', 'absl.app'):\n"
    )
    hide += "    sys.modules[name] = None\n"
    end = "\nassert set(info._fields) >= {'weights', 'skipped'}, info\n"
    end += "assert float(abs(params['w']).max()) > 0\n"
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", hide + script() + end],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert found.returncode == 0, found.stderr
