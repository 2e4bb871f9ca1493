"""What a compiled program moves, read from its text (HLO): between chips, and between a chip and its memory."""

import collections
import math
import re
from typing import NamedTuple

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast|ragged-all-to-all"
_COLLECTIVE = re.compile(rf"({_KINDS})(-start)?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.+?) ([a-z][\w-]*)\((.*)$")
_CALL = re.compile(r"(body|condition|calls|to_apply|\w+_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\](\{[^}]*\})?")
_INSIDE = ("while", "conditional", "call")  # what they call is scheduled as their caller is; elsewhere it is one kernel
_NOTHING = (*_INSIDE, "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id")


class Collective(NamedTuple):
    """Collectives of one kind over groups of one size, in one step.

    Attributes:
      kind: "all-reduce", "all-gather", ...
      group: chips that take part in each.
      count: how many there are.
      bytes: of the arrays that they make whole or add up, all together.
      sent: bytes that each chip must send at least, as along a ring.
    """

    kind: str
    group: int
    count: int
    bytes: int
    sent: float


class _Instruction(NamedTuple):
    computation: str
    name: str
    shape: str
    op: str
    rest: str  # of the line, from the first operand on


def collectives(text: str, chips: int) -> list[Collective]:
    """All collectives of a program for `chips` chips, those that send most first.

    What stands in a loop counts as often as the loop runs, where the compiler knows it, else once.
    """
    instructions, runs, _ = _parse(text)
    totals = collections.defaultdict(lambda: [0, 0, 0.0])
    for instruction in instructions:
        if kind := _COLLECTIVE.fullmatch(instruction.op):
            times = runs(instruction.computation)
            group, size, sent = _sizes(instruction, kind[1], bool(kind[2]), chips)
            for i, more in enumerate((times, times * size, times * sent)):
                totals[kind[1], group][i] += more
    rows = [Collective(kind, group, *values) for (kind, group), values in totals.items() if group > 1 and values[0]]
    return sorted(rows, key=lambda row: -row.sent)


def memory_traffic(text: str) -> int:
    """Bytes that one chip reads from and writes to its memory in a step.

    Every kernel reads its operands and writes its results once. Arrays that the compiler keeps in the chip's own
    memory, such as a TPU's VMEM, are left out. Loops count as in collectives().
    """
    instructions, _, runs = _parse(text)
    shapes = {(i.computation, i.name): i.shape for i in instructions}
    total = 0
    for instruction in instructions:
        computation, _, shape, op, rest = instruction
        if op in _NOTHING or op.endswith("-done") or not (times := runs(computation)):
            continue
        arrays = _arrays(shape)
        if op.endswith("-start") and len(arrays) > 1:  # a copy, whole or of a slice: where to, where from
            moved = min(size for size, _ in arrays[:2])
            total += times * moved * sum(outside for _, outside in arrays[:2])
            continue
        operands = re.findall(r"%([\w.-]+)", rest.split(")")[0])
        arrays += [array for name in operands for array in _arrays(shapes.get((computation, name), ""))]
        total += times * sum(size for size, outside in arrays if outside)
    return total


def _parse(text: str):
    """The instructions, and how often a computation runs: called in any way, or scheduled and not within a kernel."""
    instructions, any_call, scheduled, name, entry = [], {}, {}, "", ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name = header[2]
            entry = name if header[1] else entry
        if not (found := _INSTRUCTION.match(line)):
            continue
        instruction = _Instruction(name, *found.groups())
        instructions.append(instruction)
        trips = int(known[1]) if (known := _TRIPS.search(line)) else 1
        callees = [(callee, trips if role == "body" else 1) for role, callee in _CALL.findall(instruction.rest)]
        if branches := _BRANCHES.search(instruction.rest):
            callees += [(callee, 1) for callee in branches[1].replace("%", "").split(", ")]
        for callee, times in callees:
            any_call.setdefault(callee, []).append((name, times))
            if instruction.op in _INSIDE:
                scheduled.setdefault(callee, []).append((name, times))
    return instructions, _counter(entry, any_call), _counter(entry, scheduled)


def _counter(entry: str, callers: dict):
    known = {entry: 1}

    def runs(computation: str) -> int:
        if computation not in known:
            known[computation] = sum(times * runs(caller) for caller, times in callers.get(computation, ()))
        return known[computation]

    return runs


def _sizes(instruction: _Instruction, kind: str, start: bool, chips: int) -> tuple[int, int, float]:
    """Chips in a group, bytes of the whole arrays and bytes that a chip sends, of one collective."""
    group, size = _group(instruction.rest, chips), sum(size for size, _ in _arrays(instruction.shape))
    if start and kind == "all-gather":  # the shape names the operands too
        size = round(size * group / (group + 1))
    if kind == "reduce-scatter":  # the shape is that of one part
        size *= group
    if kind == "collective-permute":
        size = size // 2 if start else size
        return chips, size, float(size)
    rounds = 2 if kind == "all-reduce" else 1
    return group, size, rounds * size * (group - 1) / group


def _arrays(shape: str) -> list[tuple[int, bool]]:
    """(bytes, whether it lies outside of the chip) of "bf16[8,128]{1,0:T(8,128)S(1)}", or of each array of a tuple."""
    found = []
    for dtype, sides, layout in _ARRAY.findall(shape):
        bits = re.search(r"\d+", dtype)
        count = math.prod(int(side) for side in sides.split(",") if side)
        found.append((count * (int(bits[0]) if bits else 8) // 8, "S(" not in layout))
    return found


def _group(rest: str, chips: int) -> int:
    """Chips in each group: {{0,1},{2,3}}, [2,4]<=[8] (groups, chips), or axes of a mesh: mesh['a'=2,'b'=4] {'b'}."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]", rest):
        return int(counted[2])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", rest):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])  # 'a':(2)4 is a part of the axis a, 4 long
        return math.prod(int(part or sides[axis]) for axis, part in axes)
    return chips
