"""Run the rows of a table through the command line and keep what they measured.

A row is a config with overrides, run once a seed in a folder of its own. What a run
measured is kept in ``results/ledger``, one small file a run, so a table may be finished
by the same command later and on another machine: runs in the ledger are not repeated.
"""

import argparse
import ast
import datetime
import hashlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
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
      needs: config key, as ``init_from.classifier``, to the row whose run of the same
        seed gives its value, and the path in that run's folder; "" is the folder.
      thesis: the thesis' numbers by layer, in percent.
      evals: what is measured; of chapter 4 ``linear_probe`` is always among it.
      curves: metrics of which the ledger keeps every value, as ``test/accuracy``.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    untrained: bool = False
    needs: Mapping[str, tuple[str, str]] = {}
    thesis: Mapping[str, float] = {}
    evals: tuple[str, ...] = ("linear_probe", "pretext")
    curves: tuple[str, ...] = ()


Collect = Callable[[Row, Sequence[int], Path], dict[str, Any]]
"""From a row, its seeds and its ledger to what a table shows of it."""


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
    table: str,
    rows: Sequence[Row],
    args: argparse.Namespace,
    collect: Collect | None = None,
) -> dict[str, Any]:
    """Run what is missing, write ``results/<table>_<size>.json`` and return it.

    Args:
      table: name of the table, as in ``table_4_2``.
      rows: its rows.
      args: what ``parse_args`` returned; ``args.rows`` says which of them are run. The
        file holds every row that all seeds have finished, now or earlier.
      collect: what to keep of a row; linear probes by default.

    Returns:
      The results, as written.
    """
    by_name = {row.name: row for row in rows}
    wanted = args.rows.split(",") if args.rows else list(by_name)
    if unknown := [name for name in wanted if name not in by_name]:
        raise SystemExit(f"--rows has {unknown[0]!r}; allowed: {', '.join(by_name)}.")
    name = f"{table}_{args.size}"
    code = {"commit": _git("rev-parse", "HEAD"), "code_sha256": code_hash()}
    bench = Bench(args.runs / name, RESULTS / "ledger" / name, by_name, code)
    for waiting in (False, True):
        # All rows of a seed before the next seed: a cut run leaves whole tables behind.
        # Two rows may read one run ("Random" is another row before its first step).
        jobs: dict[str, tuple[Row, int]] = {}
        for seed in range(args.seeds):
            for row in map(by_name.__getitem__, wanted):
                if bool(row.needs) == waiting:
                    label = _label(row, seed)
                    both = row.untrained or (label in jobs and jobs[label][0].untrained)
                    jobs[label] = row._replace(untrained=both), seed
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: _run(*job, bench), jobs.values()))
    return write(table, rows, args, collect)


def write(
    table: str,
    rows: Sequence[Row],
    args: argparse.Namespace,
    collect: Collect | None = None,
) -> dict[str, Any]:
    """Write ``results/<table>_<size>.json`` from the ledger and return it.

    Args:
      table: name of the table.
      rows: its rows; those that lack one of ``args.seeds`` are left out, those with
        more seeds count with all of them.
      args: says the size and how many seeds a row needs.
      collect: see ``measure``.
    """
    ledger = RESULTS / "ledger" / f"{table}_{args.size}"
    done = {row.name: _seeds_done(row, ledger) for row in rows}
    complete = [row for row in rows if len(done[row.name]) >= args.seeds]
    collect = collect or collect_layers
    found = [collect(row, done[row.name], ledger) for row in complete]
    shared = ("hardware", "date", "commit", "code_sha256")
    result = {
        "table": table,
        "size": args.size,
        **{
            key: ", ".join(sorted({v for row in found for v in row["measured"][key]}))
            for key in shared
        },
        "command": f"python experiments/{table}.py --size {args.size}",
        "rows": found,
    }
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
        cells = [percent(row["linear_probe"].get(tap)) for tap in layers]
        thesis = " ".join(f"{value:.1f}" for value in row["thesis"].values())
        told = percent(row["pretext"]) if row["pretext"] else "-"
        steps = row["steps"]
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {told} | {steps} | {thesis} |"
        )
    return "\n".join(lines)


def percent(pair: Sequence[float] | None) -> str:
    """Write a mean and its standard deviation, in percent."""
    return "not run" if pair is None else f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f}"


class Bench(NamedTuple):
    """Where runs are made, where what they measured is kept, and by which code."""

    runs: Path
    ledger: Path
    by_name: Mapping[str, Row]
    code: Mapping[str, str]


def _label(row: Row, seed: int) -> str:
    words = (row.config, *row.overrides)
    own = hashlib.sha256(" ".join(words).encode()).hexdigest()[:8]
    return f"{Path(row.config.split(':')[0]).stem}-{own}-seed{seed}"


def read_entry(row: Row, seed: int, ledger: Path) -> dict[str, Any]:
    """Return what the ledger holds of one run."""
    return json.loads((ledger / f"{_label(row, seed)}.json").read_text())


def _is_done(row: Row, seed: int, ledger: Path) -> bool:
    if not (ledger / f"{_label(row, seed)}.json").exists():
        return False
    return not row.untrained or read_entry(row, seed, ledger)["untrained"] is not None


def _seeds_done(row: Row, ledger: Path) -> range:
    """Return the seeds from 0 on that the ledger has."""
    is_missing = (seed for seed in itertools.count() if not _is_done(row, seed, ledger))
    return range(next(is_missing))


def _run(row: Row, seed: int, bench: Bench) -> None:
    if _is_done(row, seed, bench.ledger):
        return
    workdir = _train(row, seed, bench)
    both = "--random_init" if row.untrained else "--norandom_init"
    _jaxssl("evaluate", f"--workdir={workdir}", f"--evals={','.join(row.evals)}", both)

    def measured(place):
        files = {name: place / f"{name}.json" for name in row.evals}
        return {n: json.loads(file.read_text())["scalars"] for n, file in files.items()}

    config = json.loads((workdir / "config.json").read_text())["config"]
    entry = {
        "row": row.name,
        "config_file": row.config,
        "overrides": row.overrides,
        "seed": seed,
        "trained": measured(workdir / "evals"),
        "untrained": measured(workdir / "evals/random_init") if row.untrained else None,
        "curves": _curves(workdir / "metrics.jsonl", row.curves),
        "train_seconds": _seconds(workdir / "metrics.jsonl"),
        "hardware": _hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **bench.code,
        "config": config,
    }
    bench.ledger.mkdir(parents=True, exist_ok=True)
    path = bench.ledger / f"{_label(row, seed)}.json"
    path.write_text(json.dumps(entry, indent=1) + "\n")


def _train(row: Row, seed: int, bench: Bench) -> Path:
    """Train, or go on; return the run's folder."""
    workdir = bench.runs / _label(row, seed)
    words = [f"--config.seed={seed}", *row.overrides]
    for key, (other, path) in row.needs.items():
        folder = _train(bench.by_name[other], seed, bench)
        source = folder / path
        if path and not source.exists():
            asked = f"--evals={source.stem}"
            _jaxssl("evaluate", f"--workdir={folder}", asked, "--norandom_init")
        words.append(f"--config.{key}={source}")
    print(f"{row.name}, seed {seed}: {workdir}", flush=True)
    _jaxssl("train", f"--config={row.config}", f"--workdir={workdir}", *words)
    return workdir


def _seconds(log: Path) -> float:
    """Return the time in training steps, added up over restarts."""
    total = last = 0.0
    for line in log.read_text().splitlines():
        now = json.loads(line).get("speed/elapsed_seconds")
        if now is not None:
            total, last = (total + last if now < last else total), now
    return round(total + last, 1)


def _curves(log: Path, names: Sequence[str]) -> dict[str, list[list[float]]]:
    """Return [step, value] of some metrics; a step that was repeated counts once."""
    found: dict[str, dict[int, float]] = {name: {} for name in names}
    for record in map(json.loads, log.read_text().splitlines()):
        for name in found:
            if record.get(name) is not None:
                found[name][record["step"]] = round(record[name], 5)
    return {name: [[*pair] for pair in curve.items()] for name, curve in found.items()}


def _jaxssl(*words: str) -> None:
    command = [sys.executable, "-m", "jaxssl.cli", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")


def collect_layers(row: Row, seeds: Sequence[int], ledger: Path) -> dict[str, Any]:
    """Collect linear probes by layer, and the pretext task, over seeds."""
    entries = [read_entry(row, seed, ledger) for seed in seeds]
    found = [entry["untrained" if row.untrained else "trained"] for entry in entries]
    probes = [evals["linear_probe"] for evals in found]
    pretexts = [evals["pretext"]["accuracy"] for evals in found if "pretext" in evals]
    first = entries[0]
    return {
        "name": row.name,
        "seeds": list(seeds),
        "linear_probe": {tap: mean_sd([p[tap] for p in probes]) for tap in TAPS},
        "each_seed": probes,
        "pretext": None if row.untrained or not pretexts else mean_sd(pretexts),
        "steps": 0 if row.untrained else first["config"]["train"]["num_steps"],
        "train_seconds": None
        if row.untrained
        else [e["train_seconds"] for e in entries],
        **origin(row, entries),
    }


def origin(row: Row, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where the numbers of a row come from, and the thesis' beside them."""
    first = entries[0]
    return {
        "thesis": dict(row.thesis),
        "measured": {
            key: sorted({entry[key] for entry in entries})
            for key in ("hardware", "date", "commit", "code_sha256")
        },
        "config": {
            "file": first["config_file"],
            "overrides": first["overrides"],
            "seed0": first["config"],
        },
    }


def mean_sd(values: Sequence[float]) -> list[float]:
    """Return the mean and the standard deviation over seeds."""
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
