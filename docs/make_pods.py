"""Compile full-size configs for accelerators that are not here; write docs/pods.md.

    python docs/make_pods.py --compile      # compile what is not stored; takes minutes
                                            # for each program
    python docs/make_pods.py --refresh      # forget stored programs that have changed;
                                            # a change of the report alone is not seen
    python docs/make_pods.py                # write the tables from docs/pods_aot.json
    python docs/make_pods.py --check        # exit code 1 if pods.md is not up to date

Each program is compiled in a process of its own and stored at once, so the work can be
stopped and goes on later. It needs the extras aot-tpu and aot-gpu.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxssl.run import config_file

ROOT = Path(__file__).parent.parent
STORE = ROOT / "docs" / "pods_aot.json"
PAGE = ROOT / "docs" / "pods.md"
NOT_RUN = "not run"
GIB = 2**30

# Configs of the size of the paper; the others run on a laptop.
CONFIGS = (
    "classify_cifar10.py",
    "transformations_stl10.py",
    "transformations_celeb_a.py",
    "transformations_imagenet2012.py",
    "probe_stl10.py",
    "probe_celeb_a.py",
    "probe_imagenet2012.py",
    "probe_places365.py",
    "classify_voc2007.py",
    "classify_imagenet2012.py",
    "classify_resnet34_stl10.py",
    "transformations_resnet34_stl10.py",
)

# Name of a target to its number of chips and the flags of ``jaxssl aot``, in the order
# of work.
TARGETS = {
    "v5e:2x4": (8, ("--topology=v5e:2x4",)),
    "8 x H100": (8, ("--topology=h100:8",)),
    "v6e:4x4": (16, ("--topology=v6e:4x4",)),
    "2 slices of v5e:2x4": (16, ("--topology=v5e:2x4", "--slices=2")),
    "v5e:16x16": (256, ("--topology=v5e:16x16",)),
}

# A batch that the chips of a target cannot share is scaled: each chip gets as many rows
# as it has on this many chips.
SMALLEST = 8


def batch_of(config: str, chips: int) -> int:
    """Return the config's own batch where ``chips`` can share it, else a scaled one."""
    values = config_file.load(str(ROOT / "configs" / config)).config
    own, learner = values.train.batch_size, values.get("learner")
    parts = 1 if learner is None or learner.name == "sgd" else learner.k
    return own if own % (chips * parts) == 0 else own * chips // SMALLEST


def command(config: str, target: str) -> list[str]:
    """Return the ``jaxssl aot`` command for one program."""
    chips, flags = TARGETS[target]
    values = config_file.load(str(ROOT / "configs" / config)).config
    data = values.data.name.replace("tfds:", "generated:")
    arguments = [
        f"--config=configs/{config}",
        *flags,
        f"--config.data.name={data}",
        f"--config.train.batch_size={batch_of(config, chips)}",
    ]
    if config.startswith("probe"):
        arguments.append("--config.init_from.classifier=random")
    return ["jaxssl", "aot", *arguments]


def programs() -> list[tuple[str, str]]:
    """Return all pairs of a config and a target, in the order of work."""
    return [(config, target) for target in TARGETS for config in CONFIGS]


def load(store: Path = STORE) -> dict[str, Any]:
    """Read the stored reports, by ``CONFIG on TARGET``."""
    return json.loads(store.read_text()) if store.exists() else {}


def save(reports: dict[str, Any], store: Path = STORE) -> None:
    """Store reports, in the order of work."""
    order = [f"{config} on {target}" for config, target in programs()]
    sorted_ = {name: reports[name] for name in order if name in reports}
    store.write_text(json.dumps(sorted_, indent=1) + "\n")


def run(command: Sequence[str], *, lower: bool = False) -> dict[str, Any]:
    """Run one ``jaxssl aot`` and return its report, or the line of its refusal."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "aot.json"
        flags = [f"--json={target}"] + (["--lower"] if lower else [])
        argv = [sys.executable, "-m", "jaxssl.cli", *command[1:], *flags]
        done = subprocess.run(
            argv, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode == 2:
            return {"refused": done.stderr.splitlines()[-1]}
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        return json.loads(target.read_text())


def compile_missing(limit: int) -> None:
    """Compile up to ``limit`` programs that are not stored yet."""
    for config, target in programs():
        name = f"{config} on {target}"
        if name in load() or limit <= 0:
            continue
        arguments = command(config, target)
        print(" ".join(arguments), flush=True)
        result = run(arguments)
        save(load() | {name: {"command": " ".join(arguments), **result}})
        print(result.get("refused") or f"{result['seconds']:.0f} s", flush=True)
        limit -= 1


def refresh() -> None:
    """Forget stored programs that differ from those of today's code."""
    for name, entry in load().items():
        today = run(entry["command"].split(), lower=True)
        if today.get("program") != entry.get("program"):
            print(f"{name}: the program has changed", flush=True)
            save({n: e for n, e in load().items() if n != name})


def table(target: str, reports: dict[str, Any]) -> str:
    """Return the table of one target."""
    rows = [
        "| config | batch | GiB a chip: arguments + temporaries | spare | "
        "GFLOP a chip | collectives a step | least time, by data sheets |",
        "|---|---|---|---|---|---|---|",
    ]
    for config in CONFIGS:
        entry = reports.get(f"{config} on {target}")
        own = config_file.load(str(ROOT / "configs" / config)).config.train.batch_size
        rows.append(f"| `{config.removesuffix('.py')}` {_cells(entry, own)} |")
    return "\n".join(rows)


def _cells(entry: dict[str, Any] | None, own: int) -> str:
    if entry is None:
        return f"| {NOT_RUN} | | | | |"
    if "refused" in entry:
        return f"| {entry['refused'].removeprefix('jaxssl: ')} | | | | |"
    memory, sent = entry["memory"], entry["collectives"]
    batch = entry["batch_size"]
    scaled = "" if batch == own else f" ({own} x {batch / own:g})"
    count = sum(one["count"] for one in sent.values())
    size = sum(one["size"] for one in sent.values())
    least = max(entry["least"], key=lambda name: entry["least"][name])
    return (
        f"| {batch:,}{scaled} "
        f"| {memory['arguments'] / GIB:.2f} + {memory['temporaries'] / GIB:.2f} "
        f"| {entry['spare']:.0%} | {entry['flops']['chip'] / 1e9:,.1f} "
        f"| {count}: {size / 1e6:,.1f} MB "
        f"| {1e3 * entry['least'][least]:.2g} ms ({least})"
    )


def render(text: str, reports: dict[str, Any]) -> str:
    """Return the page with its tables filled.

    Raises:
      ValueError: the page has no lines that mark a table.
    """
    for target in TARGETS:
        begin, end = f"<!-- aot: {target} -->", "<!-- end -->"
        pattern = re.compile(f"({re.escape(begin)}\n).*?({end})", re.S)
        if not pattern.search(text):
            raise ValueError(f"the page has no lines {begin} and {end}")
        filled = table(target, reports)
        text = pattern.sub(lambda m, new=filled: f"{m[1]}{new}\n{m[2]}", text)
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Compile, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--refresh", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--limit", type=int, default=10**6, help="programs to compile")
    args = parser.parse_args(argv)
    if args.refresh:
        refresh()
    if args.compile:
        compile_missing(args.limit)
    text = PAGE.read_text() if PAGE.exists() else ""
    filled = render(text, load()) if text else ""
    if args.check and filled != text:
        raise SystemExit("docs/pods.md is not up to date: python docs/make_pods.py")
    if filled:
        PAGE.write_text(filled)


if __name__ == "__main__":
    main()
