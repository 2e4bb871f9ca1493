"""Pickles become plain data and inert records: nothing in them is imported or called, and memory is bounded."""

import argparse
import collections
import datetime
import decimal
import enum
import functools
import pathlib
import pickle
import random
import struct
import sys
import time
import tracemalloc

import numpy as np
import pytest

from jaxiqa import inert_pickle
from jaxiqa.inert_pickle import MAX_DEPTH, OPCODES, PERSISTENT_ID, PLAIN, Record, Refused

LIMIT = 100_000


def load(data, opcodes=OPCODES, check_name=lambda name: None):
    return inert_pickle.read(data, 0, opcodes, LIMIT, check_name)


def stream(body):
    return b"\x80\x02" + body + b"."


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


PLAIN_DATA = {
    "numbers": [0, -1, 255, 65536, -(2**31), 2**70, -(2**2000), True, False, None],
    "texts": ["", "grün \ud800", "x" * 300, b"", b"x" * 300],
    3: {"nested": [[], {}, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]},
}
MORE_DATA = [0.5, float("inf"), (), set(), {1, "a", (1, 2)}, frozenset({(1, (2,)), 3})]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_data_are_read_as_pickle_reads_them(protocol):
    plain = pickle.dumps(PLAIN_DATA, protocol)
    if protocol > 2:  # protocol 2 calls a function for bytes
        assert load(plain, PLAIN).tree == PLAIN_DATA
    if protocol > 3:  # protocols 2 and 3 call a function for sets
        assert load(pickle.dumps(MORE_DATA, protocol)).tree == MORE_DATA
    shared = [1]
    shared.append(shared)
    tree = load(pickle.dumps([shared, shared], protocol)).tree
    assert tree[0] is tree[1] and tree[0][1] is tree[0]


def test_pickles_that_follow_each_other():
    data = pickle.dumps([1]) + pickle.dumps({"a": 2}) + b"more"
    first = load(data)
    second = inert_pickle.read(data, first.end, PLAIN, LIMIT, print)
    assert (first.tree, second.tree, data[second.end :]) == ([1], {"a": 2}, b"more")


def test_byte_strings_of_python_2_become_strings():
    assert load(stream(b"U\x02\xe9a")).tree == "éa"


# --- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4])
def test_unknown_classes_become_inert_records(protocol):
    space = argparse.Namespace(lr=0.1, nested=argparse.Namespace(a=[1]))
    record = load(pickle.dumps(space, protocol)).tree
    assert isinstance(record, Record) and record.name == "argparse.Namespace" and record.args == ()
    assert record.state["lr"] == 0.1 and record.state["nested"].state == {"a": [1]}
    array = load(pickle.dumps(np.arange(3), protocol)).tree
    assert array.name.endswith("multiarray._reconstruct") and array.state[1] == (3,)
    counter = load(pickle.dumps(collections.defaultdict(list, a=1), protocol)).tree
    assert counter.name == "collections.defaultdict" and counter.added == [("a", 1)]
    queue = load(pickle.dumps(collections.deque([1, 2], 5), protocol)).tree
    assert queue.args[1:] == (5,) and queue.added == [1, 2]


class Outer:
    class Inner:
        def __init__(self, a):
            self.a = a

    class Keyword:
        def __new__(cls, *, a=1):
            return super().__new__(cls)

        def __getnewargs_ex__(self):
            return (), {"a": 1}


class Color(enum.Enum):
    RED = 1


def loop():
    """An object that its own arguments refer to: pickle writes it twice and drops it once."""
    one = []
    one.append(one_and_only := (one,))
    return one_and_only


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_of_every_kind_are_records(protocol):
    objects = {
        "PosixPath": pathlib.PurePosixPath("a/b"),
        "datetime.datetime": datetime.datetime(2026, 1, 2),
        "decimal.Decimal": decimal.Decimal("0.1"),
        "Color": Color.RED,
        "Inner": Outer.Inner([1]),
        "functools.partial": functools.partial(sorted, reverse=True),
        "random": random.Random(1),
        "numpy": np.random.default_rng(1),
    }
    if protocol > 3:
        objects["Keyword"] = Outer.Keyword()
    data = pickle.dumps(
        [*objects.values(), {(1, "a"): 1, Color.RED: 2, np.int64(3): 4}, bytearray(b"ab"), loop()], protocol
    )
    found = load(data)
    for name, record in zip(objects, found.tree, strict=False):
        assert isinstance(record, Record) and record.name, name
        assert any(name in one for one in found.names), (name, found.names)
    assert list(found.tree[-3].values()) == [1, 2, 4]
    assert found.tree[-1][0][0] is found.tree[-1]


def test_old_instances_and_methods():
    assert load(stream(b"(ca\nB\nK\1o}" + text("x") + b"K\2sb")).tree.state == {"x": 2}
    assert load(stream(b"cbuiltins\ngetattr\nca\nB\n" + text("C") + b"\x86R)\x81")).tree.name == "a.B.C"
    assert load(stream(b"ca\nB\n)R" + b"K\1\x85R")).tree.args == (1,)


def test_names_are_never_imported(tmp_path, monkeypatch):
    (tmp_path / "jaxiqa_trap.py").write_text("import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for body in (b"cjaxiqa_trap\nThing\n)R", b"cjaxiqa_trap\nThing\n)\x81}b", b"\x8c\x0bjaxiqa_trap\x8c\x01x\x93"):
        load(stream(body))
    assert load(stream(b"cno.such module\nThing\n)R")).tree.name == "no.such module.Thing"
    assert "jaxiqa_trap" not in sys.modules and not list(tmp_path.glob("*.ran"))


def test_all_names_are_checked_before_anything_is_made():
    class Unknown(Exception):
        pass

    def check(name):
        if name == "os.system":
            raise Unknown

    for body in (
        b"cos\nsystem\n",
        b"\x8c\x02os\x8c\x06system\x93",
        b"\x8c\x02os\x94\x8c\x06systemh\x00\x8c\x06system\x93",
    ):
        with pytest.raises(Unknown):
            load(stream(body), check_name=check)


def test_persistent_ids_are_records():
    found = load(stream(text("id") + b"Q" + text(PERSISTENT_ID) + b"\x86"))
    assert [(r.name, r.args) for r in found.records] == [(PERSISTENT_ID, ("id",))]
    assert load(stream(text(PERSISTENT_ID) + text("") + b"\x93)R")).tree.name != PERSISTENT_ID


@pytest.mark.parametrize(
    "key", ["__setstate__", "__setitem__", "__class__", "__dict__", "name", "made", "args", "append"]
)
def test_a_state_changes_nothing_of_a_record(key):
    methods = {name: getattr(Record, name) for name in ("__setstate__", "__setitem__", "append")}
    setting = b"}" + text(key) + text("evil") + b"s"
    for state in (setting, b"N" + setting + b"\x86", setting + setting + b"\x86"):  # attributes; then those of slots
        found = load(stream(b"ca\nB\n)R" + state + b"b"))
        record = found.tree
        assert (record.name, record.args, record.added, found.records) == ("a.B", (), [], [record])
        assert key in str(record.state) and not hasattr(record, "__dict__")
        assert all(getattr(type(record), name) is method for name, method in methods.items())


def test_records_of_two_pickles_are_apart():
    one, two = load(stream(b"ca\nB\n)R")), load(stream(b"ca\nB\n)R"))
    assert one.records == [one.tree] and two.records == [two.tree] and one.tree != two.tree


# --- refusals ---------------------------------------------------------------------------------------------------------

LAUGHS = (
    text("ha") + b"q\0" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(40))
)
REFUSED = {
    "memo index": (b"Nr" + struct.pack("<I", 2**31) + b".", "asks for 2147483648 places in a memo, and has 2 opcodes"),
    "opcodes": (b"N" * (LIMIT + 1), f"has over {LIMIT} opcodes"),
    "names": (b"".join(b"ca\n%d\n" % i for i in range(2000)), "has over 1000 names"),
    "nested lists": (b"]" * (MAX_DEPTH + 1) + b"a" * MAX_DEPTH, f"nested over {MAX_DEPTH} deep"),
    "nested tuples": (b")" + b"\x85" * MAX_DEPTH, f"nested over {MAX_DEPTH} deep"),
    "nested dicts": (b"}" + b"K\0}" * MAX_DEPTH + b"s" * MAX_DEPTH, f"nested over {MAX_DEPTH} deep"),
    "nested calls": (b"ca\nB\nq\0)R" + b"\x85h\0\x85R" * MAX_DEPTH, "in the place of a class"),
    "nested states": (b"ca\nB\n)Rq\0" + b"h\0\x85b" * MAX_DEPTH, f"nested over {MAX_DEPTH} deep"),
    "nested through the memo": (b"]q\0" + b"]q\1h\0ah\0h\1aq\0" * MAX_DEPTH, f"nested over {MAX_DEPTH} deep"),
    "laughing key": (LAUGHS + b"}h\x28Ns", "costly to compare"),
    "laughing member": (LAUGHS + b"\x8f(h\x28\x90", "costly to compare"),
    "laughing frozen member": (LAUGHS + b"(h\x28\x91", "costly to compare"),
    "long member, often": (b"(" + b"K\1" * 9000 + b"tq\0\x8f" + b"(h\0\x90" * 9, "costly to compare"),
    "list as a key": (b"}]Ns", "has a list as the key of a dict"),
    "dict as a key": (b"}}Ns", "has a dict as the key of a dict"),
    "long keys": (b"}" + (b"(" + b"K\1" * 3000 + b"tNs") * 9, "costly to compare"),
    "integer as a key": (b"}\x8a\x09" + bytes(8) + b"\x01Ns", "integer of 65 bits as a key"),
    "key twice": (b"}(" + 2 * (text("a") + b"N") + b"u", "has a dict in which 'a' occurs twice"),
    "key twice, apart": (b"}q\0K\1Nsh\0K\1Ns", "has a dict in which 1 occurs twice"),
    "key twice in a record": (b"ca\nB\n)R" + b"K\1Ns" * 2, "has a dict in which 1 occurs twice"),
    "state of a class": (b"ca\nB\n}b", "sets attributes of a class"),
    "state of a dict": (b"}}b", "sets attributes of a dict"),
    "state of a string": (text("a") + b"}b", "sets attributes of a str"),
    "items of a list": (b"](K\0Nu", "has a list in the place of a dict"),
    "items of a class": (b"ca\nB\n(K\0Nu", "has a class in the place of a dict"),
    "appended to a class": (b"ca\nB\nNa", "has a class in the place of a list"),
    "appended to a tuple": (b")(Ne", "has a tuple in the place of a list"),
    "added to a list": (b"](N\x90", "has a list in the place of a set"),
    "call of a string": (text("a") + b")R", "has a str in the place of a class"),
    "call with a list": (b"ca\nB\n]R", "has a list in the place of a tuple"),
    "OBJ of a string": (b"(" + text("a") + b"o", "has a str in the place of a class"),
    "NEWOBJ_EX with a list": (b"ca\nB\n)]\x92", "has a list in the place of a dict"),
    "names by getattr": (
        b"cbuiltins\ngetattr\nq\0ca\nB\nq\1" + b"".join(b"h\0h\1" + text(str(i)) + b"\x86R" for i in range(2000)),
        "has over 1000 names",
    ),
    "wide texts": ((text("\N{GRINNING FACE}" + "a" * 2**20) + b"0") * 25, "has long texts of wide characters"),
    "name of a number": (text("os") + b"K\1\x93", "has a int in the place of a str"),
    "INST": (b"(ios\nsystem\n", "uses opcode INST of os.system"),
    "EXT1": (b"\x82\1", "uses opcode EXT1"),
    "EXT4": (b"\x84\1\1\1\1", "uses opcode EXT4"),
    "DUP": (b"N2", "uses opcode DUP"),
    "NEXT_BUFFER": (b"\x97", "uses opcode NEXT_BUFFER"),
    "LONG4": (b"\x8b" + struct.pack("<i", 4) + b"\1\1\1\1", "uses opcode LONG4"),
}
DAMAGED = {
    "string of 2**40 bytes": b"\x8d" + struct.pack("<Q", 2**40),
    "bytes of 2**40 bytes": b"\x8e" + struct.pack("<Q", 2**40),
    "byte array of 2**40 bytes": b"\x96" + struct.pack("<Q", 2**40),
    "string of 4 GB": b"X\xff\xff\xff\xff",
    "integer of 2 GB": b"\x8b\xff\xff\xff\x7f",
    "frame of 2**62 bytes": b"\x95" + struct.pack("<Q", 2**62) + b"N.",
    "later protocol": b"\x80\x09N.",
    "long line": b"c" + b"a" * 10**6 + b"\nb\n.",
    "long error": b"I" + b"9" * 10**6 + b"\n.",
    "nothing": b"",
    "stop only": b".",
    "stack below a mark": b"]q\0](K\1\x85\x85\x85\x86.",
    "odd items": b"}(N" + b"u.",
    "list in a set": b"\x8f(]\x90.",
    "memo that is not there": b"h\0.",
    "no stop": b"]",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED | DAMAGED)
def test_is_refused_in_bounds(name):
    data = stream(REFUSED[name][0]) if name in REFUSED else DAMAGED[name]
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(Refused if name in REFUSED else Exception) as caught:
            load(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 5 and peak < 40e6
    if name in REFUSED:
        assert REFUSED[name][1] in str(caught.value) and len(str(caught.value)) < 300


def test_what_is_not_allowed_is_refused():
    for opcode, body in {"BINFLOAT": b"G" + bytes(8), "NEWOBJ": b"ca\nB\n(t\x81", "BINPERSID": b"NQ"}.items():
        with pytest.raises(Refused, match=f"uses opcode {opcode}"):
            load(stream(body), PLAIN)


def test_as_deep_as_is_allowed():
    tree = load(stream(b")" + b"\x85" * (MAX_DEPTH - 1))).tree
    for _ in range(MAX_DEPTH - 1):
        (tree,) = tree
    assert tree == ()
    assert load(stream(LAUGHS)).tree  # it is not hashed


@pytest.mark.parametrize(("made", "fill"), [(b"]", b"h\2a"), (b"}", b"K\0h\2s"), (b"h\0)R", b"h\2b")])
def test_depth_that_the_memo_hides_is_harmless(made, fill):
    """A container that is filled after it was put into another is not seen as nested, but no code recurses into it."""
    step = made + b"q\2" + b"h\1" + fill + b"h\2q\1"
    data = stream(b"(ca\nB\nq\0" + made + b"q\1" + step * 50_000 + b"t")
    tree = inert_pickle.read(data, 0, OPCODES, 1_000_000, print).tree
    assert len(tree) == 150_002


def test_damaged_pickles_become_plain_data_or_an_exception():
    """Pickles that pass the scan are built without a crash and have only the documented types."""
    rng = np.random.default_rng(0)
    good = [pickle.dumps(one, p) for p in (2, 3, 4) for one in (PLAIN_DATA, MORE_DATA, argparse.Namespace(a=[1]))]
    counts = collections.Counter()
    for _ in range(3000):
        data = bytearray(good[rng.integers(len(good))])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(2, len(data)))
            if rng.random() < 0.5:
                data[at] = rng.choice(list(b"(])}tRbaeus\x81\x85\x86h\0\x94\x8f\x90\x91KNq."))
            else:
                data[at:at] = data[at : at + int(rng.integers(1, 20))]
        try:
            found = load(bytes(data))
        except Exception:
            counts["refused"] += 1
            continue
        counts["read"] += 1
        assert all(type(record).__mro__ == (type(record), Record, object) for record in found.records)
        if isinstance(found.tree, dict):
            assert all(type(key) in (str, int, float, bool, bytes, type(None)) for key in found.tree)
    assert min(counts["read"], counts["refused"]) > 100, counts
