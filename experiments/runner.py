"""Run the rows of a table through the command line and keep what they measured.

A row is a config with overrides, run once a seed in a folder of its own. Both commands
go on where they stopped, so an interrupted table is finished by the same command.
"""

import argparse
import ast
import datetime
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
TAPS = ("conv1", "conv2", "conv3", "conv4", "conv5")
DEFINING = ("data", "evals", "methods", "models", "ops", "optim", "train", "transforms")


class Row(NamedTuple):
    """One row of a table.

    Attributes:
      name: as the thesis has it.
      config: ``FILE`` or ``FILE:variant``.
      overrides: words such as ``--config.train.num_steps=800``.
      untrained: take the evaluation of the untrained network of that run.
      needs: ``init_from`` player to the name of the row whose run of the same seed
        gives it.
      thesis: the thesis' numbers by layer, in percent.
      evals: what is measured; ``linear_probe`` is always among it.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    untrained: bool = False
    needs: Mapping[str, str] = {}
    thesis: Mapping[str, float] = {}
    evals: tuple[str, ...] = ("linear_probe", "pretext")


def parse_args(doc: str, sizes: Sequence[str]) -> argparse.Namespace:
    """Read the flags that all tables share."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=sizes, default="cpu")
    parser.add_argument("--seeds", type=int, default=3, help="runs a row")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="workdirs")
    parser.add_argument("--rows", help="names, separated by commas; all by default")
    return parser.parse_args()


def measure(
    table: str, rows: Sequence[Row], args: argparse.Namespace
) -> dict[str, Any]:
    """Run what is missing, write ``results/<table>_<size>.json`` and return it.

    Args:
      table: name of the table, as in ``table_4_2``.
      rows: its rows.
      args: what ``parse_args`` returned; ``args.rows`` says which of them are run. The
        file holds every row that all seeds have finished, now or earlier.

    Returns:
      The results, as written.
    """
    by_name = {row.name: row for row in rows}
    wanted = args.rows.split(",") if args.rows else list(by_name)
    if unknown := [name for name in wanted if name not in by_name]:
        raise SystemExit(f"--rows has {unknown[0]!r}; allowed: {', '.join(by_name)}.")
    folder = args.runs / f"{table}_{args.size}"
    code = {"commit": _git("rev-parse", "HEAD"), "code_sha256": code_hash()}
    for waiting in (False, True):
        batch = [
            by_name[name] for name in wanted if bool(by_name[name].needs) == waiting
        ]
        # All rows of a seed before the next seed: a cut run leaves whole tables behind.
        # Two rows may read one run ("Random" is another row before its first step).
        jobs: dict[Path, tuple[Row, int]] = {}
        for seed in range(args.seeds):
            for row in batch:
                place = _workdir(row, seed, folder)
                untrained = row.untrained or (
                    place in jobs and jobs[place][0].untrained
                )
                jobs[place] = row._replace(untrained=untrained), seed
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: _run(*job, by_name, folder), jobs.values()))
    complete = [
        row
        for row in rows
        if all(_is_done(row, seed, folder) for seed in range(args.seeds))
    ]
    result = {
        "table": table,
        "size": args.size,
        "hardware": _hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **code,
        "command": f"python experiments/{table}.py --size {args.size}",
        "rows": [_collect(row, args.seeds, folder) for row in complete],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{table}_{args.size}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def markdown(result: Mapping[str, Any], layers: Sequence[str] = TAPS) -> str:
    """Return the table, ours beside the thesis', labelled as what they are."""
    lines = [
        f"Measured on {result['hardware']}, {result['date']}, size {result['size']}; "
        "accuracy in %, mean ± standard deviation over seeds.",
        "",
        "| row | " + " | ".join(layers) + " | pretext | steps | thesis (STL-10) |",
        "|---|" + "---|" * (len(layers) + 3),
    ]
    for row in result["rows"]:
        cells = [_percent(row["linear_probe"].get(tap)) for tap in layers]
        thesis = " ".join(f"{value:.1f}" for value in row["thesis"].values())
        told = _percent(row["pretext"])
        steps = row["steps"]
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {told} | {steps} | {thesis} |"
        )
    return "\n".join(lines)


def _percent(pair: Sequence[float] | None) -> str:
    return "not run" if pair is None else f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f}"


def _workdir(row: Row, seed: int, folder: Path) -> Path:
    words = (row.config, *row.overrides)
    own = hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
    return folder / f"{Path(row.config.split(':')[0]).stem}-{own}-seed{seed}"


def _is_done(row: Row, seed: int, folder: Path) -> bool:
    evals = _workdir(row, seed, folder) / "evals"
    places = (evals, evals / "random_init") if row.untrained else (evals,)
    return all(
        (place / f"{name}.json").exists() for place in places for name in row.evals
    )


def _run(row: Row, seed: int, by_name: Mapping[str, Row], folder: Path) -> None:
    workdir = _workdir(row, seed, folder)
    if _is_done(row, seed, folder):
        return
    words = [f"--config.seed={seed}", *row.overrides]
    for player, other in row.needs.items():
        source = _workdir(by_name[other], seed, folder)
        words.append(f"--config.init_from.{player}={source}")
    print(f"{row.name}, seed {seed}: {workdir}", flush=True)
    _jaxssl("train", f"--config={row.config}", f"--workdir={workdir}", *words)
    both = "--random_init" if row.untrained else "--norandom_init"
    _jaxssl("evaluate", f"--workdir={workdir}", f"--evals={','.join(row.evals)}", both)


def _jaxssl(*words: str) -> None:
    command = [sys.executable, "-m", "jaxssl.cli", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def _collect(row: Row, seeds: int, folder: Path) -> dict[str, Any]:
    probes, pretexts, times, configs, commits = [], [], [], [], set()
    for seed in range(seeds):
        workdir = _workdir(row, seed, folder)
        evals = workdir / "evals" / ("random_init" if row.untrained else "")
        probes.append(_scalars(evals / "linear_probe.json"))
        if "pretext" in row.evals and not row.untrained:
            pretexts.append(_scalars(evals / "pretext.json")["accuracy"])
        configs.append(json.loads((workdir / "config.json").read_text())["config"])
        launch = json.loads((workdir / "run.json").read_text())
        commits.add((launch["git"] or {}).get("commit", "not a checkout"))
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        elapsed = [json.loads(line).get("speed/elapsed_seconds") for line in lines]
        times.append(max(filter(None, elapsed)))
    return {
        "name": row.name,
        "seeds": list(range(seeds)),
        "linear_probe": {tap: _mean_sd([p[tap] for p in probes]) for tap in TAPS},
        "each_seed": probes,
        "pretext": _mean_sd(pretexts) if pretexts else None,
        "steps": 0 if row.untrained else configs[0]["train"]["num_steps"],
        "train_seconds": None if row.untrained else times,
        "trained_at_commits": sorted(commits),
        "thesis": dict(row.thesis),
        "config": {"file": row.config, "overrides": row.overrides, "seed0": configs[0]},
    }


def _scalars(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())["scalars"]


def _mean_sd(values: Sequence[float]) -> list[float]:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return [round(statistics.fmean(values), 5), round(spread, 5)]


def code_hash() -> str:
    """Return the SHA-256 of the code that defines the numbers, comments left out."""
    total = hashlib.sha256()
    for part in DEFINING:
        for path in sorted((ROOT / "jaxssl" / part).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and body and _is_docstring(body[0]):
                    node.body = body[1:]
            total.update(f"{path.relative_to(ROOT)}\n{ast.dump(tree)}".encode())
    return total.hexdigest()


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _hardware() -> str:
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()
