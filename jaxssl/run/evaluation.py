"""Run evaluations on a state, check that they left it alone, write their results."""

import io
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxssl import atomic_write, safe_files, text, trees
from jaxssl.distributed import mesh as meshes
from jaxssl.errors import UserError
from jaxssl.run import metrics
from jaxssl.types import Eval, EvalResult, Metric, TrainState

FOLDER = "evals"
RANDOM_INIT = "random_init"


def run(
    evals: Mapping[str, Eval],
    state: TrainState,
    folder: Path,
    say: text.Say,
    *,
    changed: Sequence[str] = (),
) -> dict[str, EvalResult]:
    """Evaluate a state; write ``<name>.json`` and ``<name>.npz`` for each evaluation.

    Args:
      evals: evaluations by name.
      state: what to evaluate.
      folder: where the results go; made if it is missing.
      say: called with a line of the metrics of each evaluation.
      changed: settings that differ from the run's config; kept with the results.

    Returns:
      The results by name. An evaluation that the data or the network do not allow has
      none: ``say`` hears why, and the others are run.

    Raises:
      RuntimeError: an evaluation changed a leaf of the state.
    """
    _make_room(folder, say, folder_wanted=True)
    folder.mkdir(parents=True, exist_ok=True)
    state = meshes.local(state)
    before = jax.tree.map(lambda leaf: np.array(leaf), state)
    results = {}
    for name, evaluate in evals.items():
        started = time.monotonic()
        try:
            result = evaluate(state)
        except UserError as error:
            say(f"{name}: NOT MEASURED: {error}")
            continue
        seconds = time.monotonic() - started
        check_untouched(before, state, name)
        about: dict[str, Any] = {"step": int(state.step), "seconds": round(seconds, 3)}
        if changed:
            about["changed"] = [*changed]
        for suffix in (".npz", ".json"):
            _make_room(folder / f"{name}{suffix}", say, folder_wanted=False)
        write(folder, name, result, about)
        say(f"{name}: {describe(name, result)}  ({text.format_seconds(seconds)})")
        results[name] = result
    return results


def _make_room(path: Path, say: text.Say, *, folder_wanted: bool) -> None:
    """Rename a file where a folder belongs, or a folder where a file belongs."""
    if os.path.lexists(path) and path.is_dir() != folder_wanted:
        kind = "folder" if folder_wanted else "file"
        say(f"{path} is no {kind}: SET ASIDE as {safe_files.set_aside(path).name}.")


def check_untouched(before: TrainState, state: TrainState, name: str) -> None:
    """Raise unless every leaf has the bits it had before the evaluation ``name``.

    Raises:
      RuntimeError: names the first leaf that was deleted or changed.
    """
    leaves = zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True)
    for path, (old, new) in zip(trees.describe(before), leaves, strict=True):
        if new.is_deleted() or old.tobytes() != np.asarray(new).tobytes():
            raise RuntimeError(f"the evaluation {name!r} changed {path} of the state")


def describe(name: str, result: EvalResult) -> str:
    """Return the metrics and the notes of an evaluation in one line.

    Notes are arrays of one string. Where there is neither, the line names the arrays.
    """
    notes = [f"{n} {x}" for n, x in result.arrays.items() if x.shape == ()]
    shown = [metrics.format_metrics(result.metrics)] if result.metrics else []
    return "  ".join(shown + notes) or f"{', '.join(result.arrays)} in {name}.npz"


def write(
    folder: Path, name: str, result: EvalResult, about: Mapping[str, Any]
) -> None:
    """Write ``<name>.npz`` and, last, ``<name>.json``, which vouches for the arrays.

    Args:
      folder: an existing folder.
      name: of the evaluation.
      result: its metrics and arrays.
      about: what else the JSON holds, such as the step.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = dict(result.arrays)
    np.savez_compressed(buffer, **arrays)
    atomic_write.write(folder / f"{name}.npz", buffer.getvalue())
    values = {name: to_json(metric) for name, metric in result.metrics.items()}
    body = json.dumps({**about, "metrics": values}, indent=2) + "\n"
    atomic_write.write(folder / f"{name}.json", body.encode())


def to_json(metric: Metric) -> dict[str, Any]:
    """Return the fields of a metric that have a value."""
    return {name: x for name, x in metric._asdict().items() if x is not None}


def make_table(
    trained: Mapping[str, EvalResult], untrained: Mapping[str, EvalResult]
) -> str:
    """Return every metric of the trained state beside that of the untrained one."""
    rows = [("", "trained", "untrained" if untrained else "")]
    for name, result in trained.items():
        others = untrained[name].metrics if name in untrained else {}
        for key, metric in result.metrics.items():
            other = metrics.format_metric(others[key]) if key in others else ""
            rows.append((f"{name}/{key}", metrics.format_metric(metric), other))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join(
        text.printable(
            f"{name:<{widths[0]}}  {a:>{widths[1]}}  {b:>{widths[2]}}"
        ).rstrip()
        for name, a, b in rows
    )
