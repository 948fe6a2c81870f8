"""Write the tables of docs/transforms.md from jaxssl.transforms, between their markers.

    python docs/make_reference.py            # after a signature or an entry has changed
    python docs/make_reference.py --check    # exit code 1 if the page is not up to date
    taskset -c 0 python docs/make_reference.py --measure [NAME ...]

Signatures, and what is traced or static, are read from the code; what may be
differentiated is tried out. ``--measure`` stores what transforms cost, of all entries
or of those named, in docs/transform_costs.json; an entry without a cost says "not run".
"""

import argparse
import ast
import copy
import datetime
import functools
import inspect
import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, Var

from jaxssl import transforms as T  # noqa: N812

DOCS = Path(__file__).parent
PAGE = DOCS / "transforms.md"
COSTS = DOCS / "transform_costs.json"
for folder in (DOCS, DOCS.parent / "benchmarks"):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

import rounds  # noqa: E402
from transform_entries import GROUPS, SIDE, Entry, view_maps  # noqa: E402

BATCH = 64
UNIT = "hflip"
NOT_RUN = "not run"
ARRAYS = re.compile(r"\bArray\b|Scalar|PerChannel|Params\b|CoordMap|^Any$")
"""In the annotation of an argument that may be traced, or holds what may be."""


def entries() -> Iterator[Entry]:
    """Return all entries in the order of the page."""
    return (entry for group in GROUPS.values() for entry in group)


# --- What the code says


def members(entry: Entry) -> list[str]:
    """Return the public functions that an entry stands for."""
    name = entry.name
    family = (name, f"{name}_params", f"random_{name}", f"{name}_coords")
    return [member for member in family if member in T.__all__]


def listed() -> set[str]:
    """Return all public names that the entries and their parameters bring."""
    found = set()
    for entry in entries():
        shown = {*members(entry), *entry.also}
        found |= shown | {record for name in shown if (record := returned(name))}
    return found


@functools.cache
def definitions(module: str) -> dict[str, ast.FunctionDef]:
    """Return the functions of a module as they are written."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def definition(name: str) -> ast.FunctionDef:
    """Return a public function as it is written."""
    return definitions(inspect.unwrap(getattr(T, name)).__module__)[name]


def annotations(name: str) -> dict[str, str]:
    """Return the arguments of a public function and their annotations, but its key."""
    given = definition(name).args
    return {
        arg.arg: ast.unparse(arg.annotation) if arg.annotation else ""
        for arg in [*given.args, *given.kwonlyargs]
        if arg.arg != "key"
    }


def returned(name: str) -> str | None:
    """Return the public type that a function returns, if it is one of this library."""
    if not inspect.isfunction(getattr(T, name)):
        return None
    returns = ast.unparse(definition(name).returns or ast.Constant(None))
    return returns if returns in T.__all__ else None


def traced(entry: Entry) -> list[str]:
    """Return the arguments of an entry's functions that may be arrays under jit."""
    return _arguments(entry, lambda text: bool(ARRAYS.search(text)))


def static(entry: Entry) -> list[str]:
    """Return the arguments of an entry's functions that are fixed by the program."""
    return _arguments(entry, lambda text: not ARRAYS.search(text))


def _arguments(entry: Entry, wanted: Callable[[str], bool]) -> list[str]:
    found = {}
    for name in members(entry):
        found |= {arg: None for arg, text in annotations(name).items() if wanted(text)}
    return list(found)


def signature(name: str) -> str:
    """Return a public name as one would type it, with defaults and without types."""
    value = getattr(T, name)
    if not callable(value):
        return f"{name} = {value}".replace("'", '"')
    if isinstance(value, type):
        return f"{name}({', '.join(value._fields)})"
    given = copy.deepcopy(definition(name).args)
    for node in ast.walk(given):
        if isinstance(node, ast.arg):
            node.annotation = None
    line = f"{name}({ast.unparse(given)})".replace("'", '"')
    record = returned(name)
    if record:
        line += f" -> {record}" if record == "CoordMap" else f" -> {signature(record)}"
    return textwrap.fill(line, 96, subsequent_indent="    ")


# --- What the calls show


def call(name: str, arguments: dict[str, Any]) -> Any:
    """Call a public function; the coordinate forms sample an image."""
    if "maps" in arguments:
        arguments = {**arguments, "maps": view_maps(arguments["maps"])}
    out = getattr(T, name)(**arguments)
    if isinstance(out, T.CoordMap):
        return T.geometric_chain(jnp.zeros((SIDE, SIDE, 3)), [out])
    return out


def arguments_of(
    name: str, entry: Entry, values: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return those of an entry's values that a function takes, traced and static.

    The functions that draw get no traced value but those they need: where they have an
    argument called as a parameter, it asks for the parameter's range.
    """
    given = inspect.signature(getattr(T, name)).parameters
    needed = [arg for arg, p in given.items() if p.default is p.empty]
    taken = given if name == entry.name else needed
    return (
        {arg: values[arg] for arg in taken if arg in values},
        {arg: entry.static[arg] for arg in given if arg in entry.static},
    )


def shapes(entry: Entry) -> dict[str, Any]:
    """Return the shapes of an entry's traced arguments; {} if it is not called."""
    return jax.eval_shape(entry.draw, jax.random.key(0)) if entry.draw else {}


def smooth(entry: Entry) -> list[str]:
    """Return the arguments in which an entry's transform has a derivative but 0."""
    values, fixed = arguments_of(entry.name, entry, shapes(entry))
    return [name for name in values if _has_slope(entry.name, name, values, fixed)]


@functools.cache
def slopes() -> dict[str, list[str]]:
    """Return `smooth` of all entries, which takes seconds."""
    return {entry.name: smooth(entry) for entry in entries()}


def _has_slope(function: str, name: str, values, fixed) -> bool:
    def slopes(values, tangents):
        leaves, structure = jax.tree.flatten(values[name])
        moving = [i for i, leaf in enumerate(leaves) if _is_real(leaf)]

        def along(reals):
            for i, real in zip(moving, reals, strict=True):
                leaves[i] = real
            moved = jax.tree.unflatten(structure, leaves)
            return call(function, {**values, name: moved, **fixed})

        at = [leaves[i].astype(t.dtype) for i, t in zip(moving, tangents, strict=True)]
        out = jax.jvp(along, (at,), (tangents,))[1]
        return [x for x in jax.tree.leaves(out) if x.dtype != jax.dtypes.float0]

    tangents = [
        jax.ShapeDtypeStruct(leaf.shape, jnp.float32)
        for leaf in jax.tree.leaves(values[name])
        if _is_real(leaf)
    ]
    program = jax.make_jaxpr(slopes)(values, tangents).jaxpr
    at_values = [False] * (len(program.invars) - len(tangents))
    return any(_reached(program, [*at_values, *(True for _ in tangents)]))


def _is_real(leaf: Any) -> bool:
    # Pixels that are moved as uint8 may be real numbers as well.
    return jnp.issubdtype(leaf.dtype, jnp.floating) or leaf.dtype == jnp.uint8


def _reached(program: Jaxpr, given: Sequence[bool]) -> list[bool]:
    """Return which results of a program depend on the given ones of its arguments."""
    found = {
        var for var, is_given in zip(program.invars, given, strict=True) if is_given
    }

    def is_found(var: Any) -> bool:
        return isinstance(var, Var) and var in found

    for step in program.eqns:
        into = [is_found(var) for var in step.invars]
        if step.primitive.name in ("jit", "pjit"):
            out = _reached(step.params["jaxpr"].jaxpr, into)
        else:
            out = [any(into)] * len(step.outvars)
        found |= {var for var, is_out in zip(step.outvars, out, strict=True) if is_out}
    return [is_found(var) for var in program.outvars]


# --- What a call costs


def timed(entry: Entry) -> dict[str, Callable[[], object]]:
    """Return the calls to measure: with given parameters, and with drawn ones."""
    keys = jax.random.split(jax.random.key(0), BATCH)
    if not shapes(entry):
        return {}
    values = jax.jit(jax.vmap(entry.draw))(keys)
    found = {}
    for name in (entry.name, f"random_{entry.name}"):
        if name not in T.__all__:
            continue
        given, fixed = arguments_of(name, entry, {"key": keys, **values})

        def one(given, name=name, fixed=fixed):
            return call(name, {**given, **fixed})

        batched = jax.jit(jax.vmap(one))
        found[name] = functools.partial(_wait, batched, given)
    return found


def _wait(function, given) -> None:
    jax.block_until_ready(function(given))


def measure(names: Sequence[str], turns: int = 9) -> None:
    """Store the CPU time of calls as ratios to that of `UNIT`.

    Args:
      names: of entries; none stands for all.
      turns: how often every call gets one.

    Raises:
      SystemExit: for an unknown name.
    """
    known = {entry.name: entry for entry in entries()}
    unknown = set(names) - set(known)
    if unknown:
        sys.exit(f"no such entry: {sorted(unknown)}; known: {sorted(known)}")
    chosen = {UNIT, *(names or known)}
    calls = {}
    for name in known:
        if name in chosen:
            calls |= timed(known[name])
    spent = rounds.measure(calls, rounds=turns, seconds=0.05)
    stored = json.loads(COSTS.read_text()) if names else {"ratios": {}}
    unit = spent[UNIT].cpu
    stored["ratios"] |= {
        name: float(f"{c.cpu / unit:.2g}") for name, c in spent.items()
    }
    run = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "jax": jax.__version__,
        "machine": machine(),
        "unit_ms": float(f"{unit:.2g}"),
    }
    if names:  # The others keep the run that they are of.
        stored["later"] = stored.get("later", {}) | dict.fromkeys(names, run)
    else:
        stored |= {"batch": BATCH, **run}
    COSTS.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def machine() -> str:
    """Name the device, on Linux by the model of the CPU."""
    info = Path("/proc/cpuinfo")
    if jax.default_backend() == "cpu" and info.exists():
        found = re.search(r"model name\s*: (.*)", info.read_text())
        if found:
            return f"{found[1]}, {len(os.sched_getaffinity(0))} core"
    return jax.devices()[0].device_kind


# --- The page


def cost(entry: Entry, costs: dict[str, Any]) -> str:
    """Return what an entry costs with given and with drawn parameters."""
    if not shapes(entry):
        return ""
    cells = []
    for name in (entry.name, f"random_{entry.name}"):
        if name in T.__all__:
            ratio = costs["ratios"].get(name)
            cells.append(NOT_RUN if ratio is None else digit(ratio))
    return " / ".join(cells)


def digit(ratio: float) -> str:
    """Round to one digit: 0.03, 2, 40."""
    rounded = float(f"{ratio:.1g}")
    return f"{rounded:.2f}".rstrip("0").rstrip(".") if rounded < 1 else f"{rounded:.0f}"


def names(found: Sequence[str]) -> str:
    """Write names for a cell of a table."""
    return ", ".join(f"`{name}`" for name in found)


def table(group: Sequence[Entry], costs: dict[str, Any]) -> str:
    """Return the table and the signatures of a group."""
    lines = [
        "| transform | what it does | source | gradient in | traced | static | cost |",
        "|---|---|---|---|---|---|---|",
    ]
    signatures = []
    for entry in group:
        cells = (
            f"`{entry.name}`",
            entry.formula,
            entry.source,
            names(slopes()[entry.name]),
            names(traced(entry)),
            names(static(entry)),
            cost(entry, costs),
        )
        lines.append(f"| {' | '.join(cells)} |")
        signatures += [signature(name) for name in (*members(entry), *entry.also)]
    return "\n".join([*lines, "", "```text", *signatures, "```"])


def provenance(costs: dict[str, Any]) -> str:
    """Say on what the costs were measured, and when."""
    size = f"{costs['batch']} examples of {SIDE} pixels, float32"
    lines = [f"Measured: {size}; {occasion(costs)}. `docs/transform_costs.json`"]
    runs: dict[str, list[str]] = {}
    for name, run in sorted(costs.get("later", {}).items()):
        runs.setdefault(occasion(run), []).append(name)
    lines += [f"{when}: {names(of_run)}." for when, of_run in runs.items()]
    return "\n".join(lines)


def occasion(run: dict[str, Any]) -> str:
    """Say when and on what a run was, and what the unit was then."""
    unit = f"`{UNIT}` takes {run['unit_ms']} ms"
    return f"{run['date']}, {run['machine']}, jax {run['jax']}, {unit}"


def fill(text: str, costs: dict[str, Any]) -> str:
    """Return the page with every table written anew.

    Args:
      text: with ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` around each table.
      costs: content of docs/transform_costs.json.

    Raises:
      ValueError: a marker is missing.
    """
    made = {name: table(group, costs) for name, group in GROUPS.items()}
    for name, block in {**made, "costs": provenance(costs)}.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{begin}\n.*?{end}", re.S)
        if not pattern.search(text):
            raise ValueError(f"docs/transforms.md lacks the markers of {name}.")
        block = f"{begin}\n{block}\n{end}"
        text = pattern.sub(lambda _, block=block: block, text)
    return text


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, check it, or measure first.

    Raises:
      SystemExit: with ``--check``, if the page is not that of the code.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--measure", nargs="*", metavar="NAME", help="entries, or all")
    args = parser.parse_args(argv)
    if args.measure is not None:
        measure(args.measure)
    old = PAGE.read_text()
    new = fill(old, json.loads(COSTS.read_text()))
    if args.check:
        if old != new:
            sys.exit(f"{PAGE.name} is out of date; run: python docs/make_reference.py")
        return
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
