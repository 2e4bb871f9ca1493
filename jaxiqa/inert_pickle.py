"""Reads foreign pickles as plain data: nothing that a file names is imported or called.

A pickle is a program that may call whatever it names. Here `pickle.Unpickler` builds only dicts, lists, tuples, sets,
strings, bytes and numbers. Every name becomes a class of records that only store what they are given. A record of any
class, installed or not, is therefore harmless: `argparse.Namespace`, an enum and `os.system` are read in the same way.
The caller decides which names it takes.

The unpickler itself has no limits. The file decides how large the memo is. The unpickler hashes each key of a dict,
whatever that costs. So a scan of the opcodes (pickletools.genops) comes first. It follows the stack and builds nothing.
It refuses opcodes that data never need, names that the caller refuses, memo indices beyond the number of opcodes,
strings that are longer than the file, deep nesting, keys that are costly to hash and keys that occur twice in one dict.
A list that is filled after it was put into another may still make the result deeper than MAX_DEPTH, or cyclic. Code
that walks through the result must not recurse.
"""

import io
import pickle
import pickletools
import sys
from collections.abc import Callable, Container, Set
from typing import Any, ClassVar, NamedTuple, TypeGuard

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ATOMS = {*_CONSTANTS, "BININT", "BININT1", "BININT2", "LONG1"}
_ATOMS |= {"BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"}
_RARE_ATOMS = {"BINFLOAT", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES8", "BYTEARRAY8"}
_INTO = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}  # change the item below their arguments
# Enough for dicts, lists and tuples of strings, integers and NumPy integers in protocols 2 to 5.
PLAIN = frozenset({"PROTO", "FRAME", "STOP", "MARK", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET"})
PLAIN |= _ATOMS | _INTO - {"ADDITEMS"} | {"EMPTY_LIST", "EMPTY_DICT", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
PLAIN |= {"GLOBAL", "STACK_GLOBAL", "REDUCE"}
# All opcodes that a caller may allow: also floats, Python 2, sets, persistent ids and instances of classes. An object
# that refers to itself is written twice and dropped once (POP, POP_MARK).
OPCODES = PLAIN | _RARE_ATOMS | {"EMPTY_TUPLE", "EMPTY_SET", "ADDITEMS", "FROZENSET", "BINPERSID", "POP", "POP_MARK"}
OPCODES |= {"NEWOBJ", "NEWOBJ_EX", "OBJ"}

_KINDS = dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), "class")
_KINDS |= dict.fromkeys(("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ", "BINPERSID"), "record")
_GETATTR = ("builtins.getattr", "__builtin__.getattr")  # pickle's way to a class inside another class
PERSISTENT_ID = "persistent id"  # the name of records for objects outside of the pickle
MAX_DEPTH = 500  # of containers in containers; checkpoints have about ten levels
_MAX_NAMES = 1000  # each becomes a class of about 1 kB
_MAX_HASHED = 10_000  # parts of all tuples in sets and in keys; each part is hashed at every use
_MAX_KEY_BITS = 60  # larger integers can be chosen to have equal hashes
_MAX_LINE = 1 << 16  # bytes; pickletools puts a whole line into its error texts
_MAX_WIDE = 64 << 20  # bytes that all long strings may take beyond their length: one wide character widens the others


class Refused(Exception):
    """A pickle does something that is refused; the text continues a sentence that starts with "its pickle"."""


class Record:
    """Stands for an object that a pickle asks for and that is not built. Each name has its own subclass.

    Attributes:
      name: "module.attribute" as in the file, or PERSISTENT_ID.
      args: the arguments of the call; the dict of its keyword arguments, if there are any, comes last.
      added: the appended items, and (key, value) of the items that were set.
      state: the state for __setstate__; None if there is none.
    """

    __slots__ = ("added", "args", "state")  # no __dict__, because a file could fill it
    args: tuple
    added: list
    state: object
    name: ClassVar[str]
    loading: ClassVar["_Unpickler"]

    def __new__(cls, *args, **keywords):
        if cls.name in _GETATTR and len(args) == 2 and is_class(args[0]) and type(args[1]) is str:
            return cls.loading.find_class(args[0].name, args[1])
        self = super().__new__(cls)
        self.args, self.added, self.state = (*args, keywords) if keywords else args, [], None
        made = cls.loading.make(self)
        if made is self:
            cls.loading.records.append(self)
        return made

    def __call__(self, *args):
        """A call of a record, such as a function that a call returned, is one more record of that name."""
        return type(self)(*args)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: object, value: object) -> None:
        self.added.append((key, value))

    def append(self, item: object) -> None:
        self.added.append(item)


class Pickled(NamedTuple):
    """One pickle: its object, its records (those in another record come first), all names, and its end in the data."""

    tree: object
    records: list[Record]
    names: set[str]
    end: int


def read(
    data: bytes, start: int, opcodes: Set[str], max_opcodes: int, check_name: Callable[[str], None], make=lambda r: r
) -> Pickled:
    """Reads the pickle at data[start:] as plain data.

    The result may have dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, bool, None, Record and
    classes of records. Byte strings of Python 2 become str. Time and memory are bounded by the length of the pickle and
    the number of its opcodes; an opcode takes at most some hundred bytes.

    Args:
      data, start: the bytes and the position of the pickle in them; more bytes may follow it.
      opcodes, max_opcodes: the opcodes of OPCODES that it may use, and their largest number.
      check_name: called with each "module.attribute"; raises an exception for a name that is not allowed.
      make: called with each new Record; returns the object that replaces it.

    Raises:
      Refused: the pickle does anything else.
      Exception: of any kind if the bytes are not a pickle; the caller turns it into an error message.
    """
    end = _scan(data, start, opcodes, max_opcodes, check_name)
    unpickler = _Unpickler(io.BytesIO(data[start:end]), make)
    tree = unpickler.load()
    return Pickled(tree, unpickler.records, set(unpickler.classes) - {PERSISTENT_ID}, end)


def is_class(value: object) -> TypeGuard[type[Record]]:
    """Whether a value of the result is a class; all classes in it are classes of records."""
    return isinstance(value, type)


def need(kind: str, value: object):
    """Returns the value. Raises Refused unless it is a class of records (kind "class") or its type is named `kind`."""
    if ("class" if is_class(value) else type(value).__name__) != kind:
        raise Refused(f"has a {_kind(value)} in the place of a {kind}")
    return value


def set_item(target: dict, key: object, value: object) -> None:
    """Sets target[key] = value. Raises Refused if the key is costly to hash or already in the dict."""
    if type(key) not in (str, int, float, bool, bytes, type(None)):
        raise Refused(f"has a {_kind(key)} as the key of a dict")
    _hash_cost(key)
    _check_new(key, target)
    target[key] = value


def _check_new(key: object, known: Container) -> None:
    if key in known:
        raise Refused(f"has a dict in which {repr(key)[:100]} occurs twice")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, make: Callable[[Record], object]):
        super().__init__(file, encoding="latin-1")
        self.make, self.records = make, []
        self.classes: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> type[Record]:
        return self._class(f"{module}.{name}")

    def persistent_load(self, identity: object) -> Record:
        return self._class(PERSISTENT_ID)(identity)

    def _class(self, name: str) -> type[Record]:
        if name not in self.classes:
            if len(self.classes) > _MAX_NAMES:
                raise Refused(f"has over {_MAX_NAMES} names")
            self.classes[name] = type("Record", (Record,), {"__slots__": (), "name": name, "loading": self})
        return self.classes[name]


class _Lines(io.BytesIO):
    def readline(self, size: int = _MAX_LINE) -> bytes:
        return super().readline(size)


class _Node:
    """A container, record or class in the scan. Numbers, strings and None are kept as values."""

    __slots__ = ("depth", "keys", "kind", "parts")

    def __init__(self, kind: str):
        self.kind, self.depth, self.parts, self.keys = kind, 1, 1, ()

    def enclose(self, items: list) -> None:
        depth, parts = self.depth, self.parts + len(items)
        for item in items:
            if type(item) is _Node:
                depth, parts = max(depth, item.depth + 1), parts + item.parts
        if depth > MAX_DEPTH:
            raise Refused(f"is nested over {MAX_DEPTH} deep")
        self.depth, self.parts = depth, min(parts, _MAX_HASHED + 1)

    def set_keys(self, keys: list) -> None:
        self.keys = self.keys or set()
        for key in keys:
            if _kind(key) in ("list", "dict", "set", "bytearray"):
                raise Refused(f"has a {_kind(key)} as the key of a dict")
            _check_new(key, self.keys)
            self.keys.add(key)


def _scan(data: bytes, start: int, opcodes: Set[str], max_opcodes: int, check_name: Callable) -> int:
    """Returns the end of the pickle at `start`. Raises Refused for anything that it may not do."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # the stack under each mark
    memo: dict[int, Any] = {}
    names: set[str] = set()
    hashed = wide = 0
    stream = _Lines(data)
    stream.seek(start)
    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        code = opcode.name
        if code not in opcodes:
            raise Refused(f"uses opcode {code}" + (f" of {arg.replace(' ', '.', 1)[:200]}" if code == "INST" else ""))
        if count >= max_opcodes:
            raise Refused(f"has over {max_opcodes} opcodes")
        if code in _ATOMS or code in _RARE_ATOMS:
            stack.append(_CONSTANTS.get(code, arg))
            if type(arg) is str and len(arg) >= _MAX_LINE:
                wide += sys.getsizeof(arg) - len(arg)
                if wide > _MAX_WIDE:
                    raise Refused("has long texts of wide characters")
        elif code in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif code in ("BINPUT", "LONG_BINPUT"):
            if arg > count:
                raise Refused(f"asks for {arg} places in a memo, and has {count} opcodes")
            memo[arg] = stack[-1]
        elif code == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code == "MARK":
            below.append(stack)
            stack = []
        elif code == "POP_MARK" or (code == "POP" and not stack):
            stack = below.pop()
        elif code == "POP":
            stack.pop()
        elif code == "STOP":
            break
        elif code not in ("PROTO", "FRAME"):
            takes = opcode.stack_before
            if pickletools.markobject in takes:
                items, stack = stack, below.pop()
            else:
                items = [stack.pop() for _ in range(len(takes) - (code in _INTO))][::-1]
            if code not in _INTO:
                stack.append(_Node(_KINDS.get(code) or opcode.stack_after[0].name))
            target = stack[-1]
            if code == "BUILD" and _kind(target) != "record":
                raise Refused(f"sets attributes of a {_kind(target)}")
            if code in _INTO and _kind(target) != "record":
                _need(takes[0].name, target)
            if code in ("GLOBAL", "STACK_GLOBAL"):
                for item in items:
                    _need("str", item)
                names.add(name := ".".join(items) if items else arg.replace(" ", ".", 1))
                check_name(name)
                if len(names) > _MAX_NAMES:
                    raise Refused(f"has over {_MAX_NAMES} names")
            elif code in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "OBJ"):
                if _kind(items[0]) != "record":  # a call may return a class or a function
                    _need("class", items[0])
                for kind, item in zip(("tuple", "dict"), [] if code == "OBJ" else items[1:], strict=False):
                    _need(kind, item)
            elif code in ("SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET"):
                keys = items[::2] if code.startswith("SETITEM") else items
                hashed += sum(map(_hash_cost, keys))
                if hashed > _MAX_HASHED:
                    raise Refused("has keys or members of sets that are costly to compare")
                if code.startswith("SETITEM"):
                    target.set_keys(keys)
            target.enclose(items)
    return stream.tell()


def _kind(item: object) -> str:
    return item.kind if type(item) is _Node else type(item).__name__


def _need(kind: str, item: object) -> None:
    if _kind(item) != kind:
        raise Refused(f"has a {_kind(item)} in the place of a {kind}")


def _hash_cost(item: Any) -> int:
    """Returns the cost of hashing: all parts of a tuple; 0 for what is hashed fast: strings, numbers, records."""
    if type(item) is int and item.bit_length() > _MAX_KEY_BITS:
        raise Refused(f"has an integer of {item.bit_length()} bits as a key")
    return item.parts if _kind(item) in ("tuple", "frozenset") else 0
