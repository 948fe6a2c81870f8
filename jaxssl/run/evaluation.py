"""Run evaluations on a state, prove that they left it alone, keep what they found."""

import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxssl import atomic_write, text, trees
from jaxssl.distributed import mesh as meshes
from jaxssl.run import metrics
from jaxssl.types import Eval, EvalResult, TrainState

FOLDER = "evals"
RANDOM_INIT = "random_init"


def run(
    evals: Mapping[str, Eval],
    state: TrainState,
    folder: Path,
    say: text.Say,
    *,
    words: Sequence[str] = (),
) -> dict[str, EvalResult]:
    """Evaluate a state; write ``<name>.json`` and ``<name>.npz`` for each evaluation.

    Args:
      evals: evaluations by name.
      state: what to evaluate.
      folder: where the results go; made if it is missing.
      say: hears the scalars of each evaluation.
      words: settings that differ from the run's config; kept with the results.

    Returns:
      The results by name.

    Raises:
      RuntimeError: an evaluation changed a leaf of the state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = meshes.local(state)
    before = jax.tree.map(lambda leaf: np.array(leaf), state)
    results = {}
    for name, evaluate in evals.items():
        started = time.monotonic()
        result = evaluate(state)
        seconds = time.monotonic() - started
        check_untouched(before, state, name)
        told = {"step": int(state.step), "seconds": round(seconds, 3)}
        write(folder, name, result, told | ({"changed": [*words]} if words else {}))
        found = metrics.format_scalars(result.scalars)
        found = found or f"{', '.join(result.arrays)} in {name}.npz"
        say(f"{name}: {found}  ({text.format_seconds(seconds)})")
        results[name] = result
    return results


def check_untouched(before: TrainState, state: TrainState, name: str) -> None:
    """Raise unless every leaf has the bits it had before the evaluation ``name``.

    Raises:
      RuntimeError: names the first leaf that was deleted or changed.
    """
    leaves = zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True)
    for path, (old, new) in zip(trees.describe(before), leaves, strict=True):
        if new.is_deleted() or old.tobytes() != np.asarray(new).tobytes():
            raise RuntimeError(f"the evaluation {name!r} changed {path} of the state")


def write(folder: Path, name: str, result: EvalResult, told: Mapping[str, Any]) -> None:
    """Write what an evaluation found; numbers last, so they vouch for the arrays."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(result.arrays)
    np.savez_compressed(buffer, **arrays)
    atomic_write.write(folder / f"{name}.npz", buffer.getvalue())
    scalars = {key: float(value) for key, value in result.scalars.items()}
    body = {**told, "scalars": scalars}
    text = json.dumps(body, indent=2) + "\n"
    atomic_write.write(folder / f"{name}.json", text.encode())


def make_table(
    trained: Mapping[str, EvalResult], untrained: Mapping[str, EvalResult]
) -> str:
    """Return every scalar of the trained state beside that of the untrained one."""
    rows = [("", "trained", "untrained" if untrained else "")]
    for name, result in trained.items():
        other = untrained[name].scalars if name in untrained else {}
        beside = metrics.format_values(other)
        for key, value in metrics.format_values(result.scalars).items():
            rows.append((f"{name}/{key}", value, beside.get(key, "")))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}".rstrip()
        for name, a, b in rows
    )
