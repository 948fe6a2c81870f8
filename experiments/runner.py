"""Run the rows of a table through the command line and keep what they measured.

A row is a config with overrides, run once a seed in a folder of its own. What a run
measured is kept in ``results/ledger``, one small file a run, so a table may be finished
by the same command later and on another machine: runs in the ledger are not repeated.

Nor is an entry that other code has made: it is kept as it is. The commit and the hash
of that code stand in it, and tables mark a row as stale whose code has changed since.
To measure anew, remove the entry and the folder of its run.
"""

import argparse
import datetime
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import provenance

from jaxssl.run import config_file

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
ENDPOINTS = ("conv1", "conv2", "conv3", "conv4", "conv5")
ORIGIN = ("hardware", "date", "commit", "code_scheme", "code_sha256")
"""What an entry of the ledger says of where its numbers come from."""


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
    bench = Bench(
        runs=args.runs / name,
        ledger=RESULTS / "ledger" / name,
        by_name=by_name,
        commit=provenance.commit(),
        code=code_hashes(rows),
    )
    asked = [(by_name[row], seed) for seed in range(args.seeds) for row in wanted]
    for phase in _phases(asked, bench):
        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(lambda job: _run(job, bench), phase))
    return write(table, rows, args, collect)


def code_hashes(rows: Sequence[Row]) -> dict[str, str]:
    """Return the hash of the code that defines each row of a table, as it is now.

    The code of the rows that a row needs counts as its own.

    Returns:
      Row name to SHA-256.
    """
    by_name = {row.name: row for row in rows}
    known: dict[frozenset[tuple[str, str]], str] = {}
    hashes = {}
    for row in rows:
        chain = [row]
        for link in chain:
            chain += [by_name[name] for name, _ in link.needs.values()]
        sources = frozenset(map(_source, chain))
        if sources not in known:
            files, data_names = zip(*sources, strict=True)
            known[sources] = provenance.code_hash(files, data_names)
        hashes[row.name] = known[sources]
    return hashes


def _source(row: Row) -> tuple[str, str]:
    """Return a row's config file and the name of its data set."""
    config = config_file.load(str(ROOT / row.config), row.overrides).config
    return row.config.partition(":")[0], config.data.name


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
    result = {
        "table": table,
        "size": args.size,
        **{
            key: ", ".join(sorted({v for row in found for v in row["measured"][key]}))
            for key in ORIGIN
        },
        "command": f"python experiments/{table}.py --size {args.size}",
        "rows": found,
    }
    path = RESULTS / f"{table}_{args.size}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


def markdown(result: Mapping[str, Any], layers: Sequence[str] = ENDPOINTS) -> str:
    """Return the table, ours beside the thesis', labelled as what they are."""
    lines = [
        f"Measured on {result['hardware']}, {result['date']}, size {result['size']}; "
        "accuracy in %, mean ± standard deviation over seeds.",
        "",
        "| row | " + " | ".join(layers) + " | pretext | steps | thesis (STL-10) |",
        "|---|" + "---|" * (len(layers) + 3),
    ]
    for row in result["rows"]:
        cells = [percent(row["linear_probe"].get(endpoint)) for endpoint in layers]
        thesis = " ".join(f"{value:.1f}" for value in row["thesis"].values())
        pretext = percent(row["pretext"]) if row["pretext"] else "-"
        steps = row["steps"]
        lines.append(
            f"| {row['name']} | {' | '.join(cells)} | {pretext} | {steps} | {thesis} |"
        )
    return "\n".join(lines)


def percent(pair: Sequence[float] | None) -> str:
    """Write a mean and its standard deviation, in percent."""
    return "not run" if pair is None else f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f}"


class Bench(NamedTuple):
    """Where runs are made and what is kept of them.

    Attributes:
      runs: folder of the runs' folders.
      ledger: folder of what they measured.
      by_name: all rows of the table.
      commit: checked out when the command began.
      code: row name to the hash of its code when the command began.
    """

    runs: Path
    ledger: Path
    by_name: Mapping[str, Row]
    commit: str
    code: Mapping[str, str]


class Job(NamedTuple):
    """One run, and the paths in its folder that runs of a later phase need."""

    row: Row
    seed: int
    supplies: frozenset[str]


def _phases(wanted: Sequence[tuple[Row, int]], bench: Bench) -> list[list[Job]]:
    """Put runs in an order in which none waits for another one of its phase.

    What a run needs belongs to an earlier phase, asked for or not: within a phase, two
    runs at a time would make the same folder.
    """
    jobs: dict[str, Job] = {}

    def ask(row: Row, seed: int, *supplies: str) -> None:
        label = _label(row, seed)
        known = jobs.get(label, Job(row, seed, frozenset()))
        # Two rows may read one run ("Random" is another row before its first step).
        row = row._replace(untrained=row.untrained or known.row.untrained)
        jobs[label] = Job(row, seed, known.supplies.union(supplies))
        for other, path in row.needs.values():
            ask(bench.by_name[other], seed, path)

    # All rows of a seed before the next seed: a cut run leaves whole tables behind.
    for row, seed in wanted:
        if not _is_done(row, seed, bench.ledger):
            ask(row, seed)
    phases: dict[int, list[Job]] = {}
    for job in jobs.values():
        phases.setdefault(_depth(job.row, bench), []).append(job)
    return [phases[depth] for depth in sorted(phases)]


def _depth(row: Row, bench: Bench) -> int:
    """Count the runs that are to be made one after the other before a row's."""
    others = (bench.by_name[other] for other, _ in row.needs.values())
    return max((1 + _depth(other, bench) for other in others), default=0)


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


def _run(job: Job, bench: Bench) -> None:
    """Make a run and what others need of it; measure it if the ledger lacks it."""
    row, seed, supplies = job
    workdir = _train(row, seed, bench)
    for path in sorted(supplies):
        if path and not (workdir / path).exists():
            asked = f"--evals={Path(path).stem}"
            _jaxssl("evaluate", f"--workdir={workdir}", asked, "--norandom_init")
    if not _is_done(row, seed, bench.ledger):
        _measure(row, seed, workdir, bench)


def _values(path: Path) -> dict[str, float]:
    """Return the numbers of an evaluation; version 0.1 wrote them as ``scalars``."""
    body = json.loads(path.read_text())
    if "metrics" not in body:
        return body["scalars"]
    return {name: metric["value"] for name, metric in body["metrics"].items()}


def _measure(row: Row, seed: int, workdir: Path, bench: Bench) -> None:
    """Evaluate a finished run and enter it in the ledger."""
    both = "--random_init" if row.untrained else "--norandom_init"
    _jaxssl("evaluate", f"--workdir={workdir}", f"--evals={','.join(row.evals)}", both)

    def measured(folder):
        return {name: _values(folder / f"{name}.json") for name in row.evals}

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
        "hardware": provenance.hardware(workdir / "run.json"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": bench.commit,
        "code_scheme": provenance.SCHEME,
        "code_sha256": bench.code[row.name],
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
        folder = bench.runs / _label(bench.by_name[other], seed)
        words.append(f"--config.{key}={folder / path}")
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
        "linear_probe": {
            endpoint: mean_sd([p[endpoint] for p in probes]) for endpoint in ENDPOINTS
        },
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
        "measured": {key: sorted({entry[key] for entry in entries}) for key in ORIGIN},
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
