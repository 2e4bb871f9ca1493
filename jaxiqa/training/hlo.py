"""What chips send one another in a compiled program, read from its text (HLO)."""

import collections
import math
import re
from typing import NamedTuple

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast|ragged-all-to-all"
_COLLECTIVE = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ({_KINDS})(-start)?\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALL = re.compile(r"(body|condition|calls|to_apply|\w+_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r"([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")


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


def collectives(text: str, chips: int) -> list[Collective]:
    """All collectives of a program for `chips` chips, those that send most first.

    What stands in a loop counts as often as the loop runs, where the compiler knows it, else once.
    """
    found, calls, name = [], collections.defaultdict(list), ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            name = header[2]
            if header[1]:
                entry = name
            continue
        trips = int(known[1]) if (known := _TRIPS.search(line)) else 1
        for role, callee in _CALL.findall(line):
            calls[callee].append((name, trips if role == "body" else 1))
        if branches := _BRANCHES.search(line):
            for callee in branches[1].replace("%", "").split(", "):
                calls[callee].append((name, 1))
        if collective := _COLLECTIVE.match(line):
            found.append((name, *_sizes(line, *collective.groups(), chips)))

    runs = {entry: 1}

    def count(computation):
        if computation not in runs:
            runs[computation] = sum(trips * count(caller) for caller, trips in calls[computation])
        return runs[computation]

    totals = collections.defaultdict(lambda: [0, 0, 0.0])
    for computation, kind, group, size, sent in found:
        times = count(computation)
        for i, more in enumerate((times, times * size, times * sent)):
            totals[kind, group][i] += more
    rows = [Collective(kind, group, *values) for (kind, group), values in totals.items() if group > 1]
    return sorted(rows, key=lambda row: -row.sent)


def _sizes(line: str, shape: str, kind: str, start: str | None, chips: int) -> tuple[str, int, int, float]:
    """Kind, chips in a group, bytes of the whole arrays and bytes that a chip sends, of one collective."""
    group, size = _group(line, chips), _bytes(shape)
    if start and kind in ("all-gather", "collective-permute"):  # the shape names the operands too
        size = round(size * group / (group + 1)) if kind == "all-gather" else size // 2
    if kind == "reduce-scatter":  # the shape is that of one part
        size *= group
    if kind == "collective-permute":
        return kind, chips, size, float(size)
    rounds = 2 if kind == "all-reduce" else 1
    return kind, group, size, rounds * size * (group - 1) / group


def _bytes(shape: str) -> int:
    """Of an array "bf16[8,128]{1,0}" or a tuple of arrays, as numbers and not as they lie in memory."""
    total = 0
    for dtype, sides in _ARRAY.findall(shape):
        bits = re.search(r"\d+", dtype)
        total += math.prod(int(side) for side in sides.split(",") if side) * (int(bits[0]) if bits else 8) // 8
    return total


def _group(line: str, chips: int) -> int:
    """Chips in each group: {{0,1},{2,3}}, [2,4]<=[8] (groups, chips), or axes of a mesh: mesh['a'=2,'b'=4] {'b'}."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(counted[2])
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])  # 'a':(2)4 is a part of the axis a, 4 long
        return math.prod(int(part or sides[axis]) for axis, part in axes)
    return chips
