"""Count what a compiled program sends between devices, from its HLO text."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

# Operations that send data; ``send`` uses the network between slices.
KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
    "send",
)

# Bits of a number of the types whose name does not end with them.
BITS = {"pred": 8, "token": 0, "bf16": 16}
HEADER = re.compile(r"^(?:ENTRY )?%?([^\s(]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(\S+) = (.*)$")
OPERATION = re.compile(r"\s*([a-z][\w-]*)\(([^)]*)\)")
ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
CALLED = re.compile(r"(?:calls|to_apply|body)=%?([^\s,)}]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
CONDITION = re.compile(r"condition=%?([^\s,)}]+)")
TRIPS = re.compile(r"known_trip_count\D*(\d+)")
CONSTANT = re.compile(r"[su]\d+\[\][^=]* constant\((\d+)\)")
CHAIN = re.compile(r'channel_id=(\d+),.* frontend_attributes=\{[^}]*chain_id="(\d+)"')


class Traffic(NamedTuple):
    """One kind of collective.

    Attributes:
      count: number of times that one device runs it in a step.
      size: bytes of all these times: of the reduced array, of the gathered array, or of
        the sent data.
    """

    count: int
    size: int


class Instruction(NamedTuple):
    """One line of HLO.

    Attributes:
      name: the name of its value.
      sizes: bytes of each array of its value.
      operation: as ``all-reduce``; empty for a line without one.
      operands: names of the values that it takes.
      line: the line behind the name.
    """

    name: str
    sizes: list[int]
    operation: str
    operands: list[str]
    line: str


def collectives(text: str) -> dict[str, Traffic]:
    """Add up the collectives of a program.

    The body of a loop counts as many times as the loop runs, if the text says this
    number or the condition of the loop compares with one constant; otherwise it counts
    once. A TPU may run a collective piece by piece beside other work. Such a collective
    stands in each fusion that it runs beside, with the same channel and chain, and
    counts once.

    Args:
      text: HLO, from ``compiled.as_text()``.

    Returns:
      The traffic of each kind that occurs.
    """
    bodies = _computations(text)
    times = _times(bodies)
    traffic: dict[str, Traffic] = {}
    chains: set[tuple[str, ...]] = set()
    for computation, instructions in bodies.items():
        sizes = {one.name: sum(one.sizes) for one in instructions}
        for one in instructions:
            kind = one.operation.removesuffix("-start")
            if kind not in KINDS:
                continue
            if chain := CHAIN.search(one.line):
                whole = kind, *chain.groups()
                if whole in chains:
                    continue
                chains.add(whole)
            if kind == "all-reduce" and "all-reduce-scatter" in computation:
                kind = "reduce-scatter"  # How TPUs write it.
            size = _moved(kind, one, sizes)
            count, total = traffic.get(kind, Traffic(0, 0))
            if runs := times.get(computation, 0):
                traffic[kind] = Traffic(count + runs, total + runs * size)
    return traffic


def _moved(kind: str, one: Instruction, sizes: Mapping[str, int]) -> int:
    """Return the bytes that count for one run of a collective."""
    operands = sum(sizes.get(name, 0) for name in one.operands)
    if kind in ("reduce-scatter", "send"):
        return operands
    total = sum(one.sizes)
    if one.operation.endswith("-start") and kind != "all-reduce":
        total -= operands  # The value of a start holds its operands, too.
    return total


def _computations(text: str) -> dict[str, list[Instruction]]:
    """Return the instructions of each computation, by its name."""
    bodies: dict[str, list[Instruction]] = {}
    body: list[Instruction] = []
    for line in text.splitlines():
        if header := HEADER.match(line):
            body = bodies.setdefault(header[1], [])
        elif match := INSTRUCTION.match(line):
            body.append(_parse(match[1], match[2]))
    return bodies


def _parse(name: str, rest: str) -> Instruction:
    end = _end_of_type(rest)
    sizes = [_bytes(kind, shape) for kind, shape in ARRAY.findall(rest[:end])]
    match = OPERATION.match(rest[end:])
    if match is None:
        return Instruction(name, sizes, "", [], rest)
    operands = re.findall(r"%([^\s,)]+)", match[2])
    return Instruction(name, sizes, match[1], operands, rest)


def _end_of_type(rest: str) -> int:
    """Return the end of the type: behind its layout, or the last bracket of a tuple."""
    depth = 0
    for i, letter in enumerate(rest):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and letter == " ":
            return i
    return len(rest)


def _bytes(kind: str, shape: str) -> int:
    bits = BITS.get(kind) or int((re.findall(r"\d+", kind) or ["0"])[0])
    return math.prod(int(size) for size in shape.split(",") if size) * bits // 8


def _times(bodies: Mapping[str, list[Instruction]]) -> dict[str, int]:
    """Return how many times each computation runs in one run of the program."""
    callers: dict[str, list[tuple[str, int]]] = {name: [] for name in bodies}
    for caller, instructions in bodies.items():
        for one in instructions:
            called = set(CALLED.findall(one.line))
            for group in BRANCHES.findall(one.line):
                called |= {name.strip(" %") for name in group.split(",")}
            trips = _trips(one, bodies) if one.operation == "while" else 1
            for name in called & bodies.keys():
                callers[name].append((caller, trips))
    times: dict[str, int] = {}

    def count(name: str) -> int:
        if name not in times:
            calls = callers[name]
            times[name] = sum(n * count(c) for c, n in calls) if calls else 1
        return times[name]

    return {name: count(name) for name in bodies}


def _trips(one: Instruction, bodies: Mapping[str, list[Instruction]]) -> int:
    """Return how many times a loop runs; 1 if the text does not say."""
    if known := TRIPS.search(one.line):
        return int(known[1])
    condition = CONDITION.findall(one.line)[0]
    lines = [inner.line for inner in bodies.get(condition, [])]
    limits = {int(limit) for limit in CONSTANT.findall("\n".join(lines))}
    return limits.pop() if len(limits) == 1 else 1
