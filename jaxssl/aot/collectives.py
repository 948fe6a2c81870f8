"""What a compiled program sends between devices, read from its HLO text."""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

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
"""Operations that send data; ``send`` goes over the network between slices."""

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
      count: how often one device does it in a step.
      size: bytes in all: of the array that is reduced, of the one that is gathered, or
        of what is sent.
    """

    count: int
    size: int


class Instruction(NamedTuple):
    """One line of HLO: name, bytes of each array of its value, operation, operands."""

    name: str
    sizes: list[int]
    operation: str
    operands: list[str]
    line: str


def collectives(text: str) -> dict[str, Traffic]:
    """Add up the collectives of a program.

    Loops are multiplied out where the text says how often they run, or where their
    condition compares with one constant; else their body counts once. A collective that
    a TPU does piece by piece beside other work is written in each fusion that it runs
    beside, with one channel and chain; it counts once.

    Args:
      text: from ``compiled.as_text()``.

    Returns:
      By kind, those that there are.
    """
    bodies = _computations(text)
    times = _times(bodies)
    found: dict[str, Traffic] = {}
    chains: set[tuple[str, ...]] = set()
    for computation, instructions in bodies.items():
        sizes = {one.name: sum(one.sizes) for one in instructions}
        for one in instructions:
            kind = one.operation.removesuffix("-start")
            if kind not in KINDS:
                continue
            if chain := CHAIN.search(one.line):
                piece_of = kind, *chain.groups()
                if piece_of in chains:
                    continue
                chains.add(piece_of)
            if kind == "all-reduce" and "all-reduce-scatter" in computation:
                kind = "reduce-scatter"  # How TPUs write it.
            size = _moved(kind, one, sizes)
            count, total = found.get(kind, Traffic(0, 0))
            often = times.get(computation, 0)
            if often:
                found[kind] = Traffic(count + often, total + often * size)
    return found


def _moved(kind: str, one: Instruction, sizes: Mapping[str, int]) -> int:
    operands = sum(sizes.get(name, 0) for name in one.operands)
    if kind in ("reduce-scatter", "send"):
        return operands
    total = sum(one.sizes)
    if one.operation.endswith("-start") and kind != "all-reduce":
        total -= operands  # Its value holds the operands, too.
    return total


def _computations(text: str) -> dict[str, list[Instruction]]:
    found: dict[str, list[Instruction]] = {}
    here: list[Instruction] = []
    for line in text.splitlines():
        if header := HEADER.match(line):
            here = found.setdefault(header[1], [])
        elif match := INSTRUCTION.match(line):
            here.append(_parse(match[1], match[2]))
    return found


def _parse(name: str, rest: str) -> Instruction:
    end = _end_of_type(rest)
    sizes = [_bytes(kind, shape) for kind, shape in ARRAY.findall(rest[:end])]
    match = OPERATION.match(rest[end:])
    if match is None:
        return Instruction(name, sizes, "", [], rest)
    operands = re.findall(r"%([^\s,)]+)", match[2])
    return Instruction(name, sizes, match[1], operands, rest)


def _end_of_type(rest: str) -> int:
    """Return where the type ends: behind its layout, or the last bracket of a tuple."""
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
    """Return how often each computation runs in one run of the program."""
    callers: dict[str, list[tuple[str, int]]] = {name: [] for name in bodies}
    for caller, instructions in bodies.items():
        for one in instructions:
            called = set(CALLED.findall(one.line))
            for group in BRANCHES.findall(one.line):
                called |= {name.strip(" %") for name in group.split(",")}
            trips = _loop(one, bodies)[1] if one.operation == "while" else 1
            for name in called & bodies.keys():
                callers[name].append((caller, trips))
    times: dict[str, int] = {}

    def count(name: str) -> int:
        if name not in times:
            places = callers[name]
            times[name] = sum(n * count(c) for c, n in places) if places else 1
        return times[name]

    return {name: count(name) for name in bodies}


def _loop(one: Instruction, bodies: Mapping[str, list[Instruction]]) -> tuple[str, int]:
    body = re.findall(r"body=%?([^\s,)}]+)", one.line)[0]
    if known := TRIPS.search(one.line):
        return body, int(known[1])
    condition = CONDITION.findall(one.line)[0]
    lines = [inner.line for inner in bodies.get(condition, [])]
    limits = {int(limit) for limit in CONSTANT.findall("\n".join(lines))}
    return body, limits.pop() if len(limits) == 1 else 1
