"""Split files that other projects pickled: {round: {"train": [numbers], "val": [...], "test": [...]}}.

pickletools.genops splits the bytes into opcodes; the interpreter below knows those that dicts, lists, strings and
integers need, NumPy's among them, and refuses all others. Nothing that a file names is imported or called, and no
opcode builds more than the opcodes before it brought.
"""

import io
import os
import pickletools

from jaxiqa.errors import DataError

MAX_BYTES = 64 << 20  # ten rounds over FLIVE's 160,000 pictures and patches take 8 MB

_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_DTYPE = "numpy.dtype"
_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


class _Refused(Exception):
    """What the file asks for, in words."""


def read_index_pickle(path: str) -> dict[int, dict[str, list[int]]]:
    """Row numbers by round and part.

    Raises:
      DataError: not such a file, or one that asks for anything but dicts, lists, strings and integers.
    """
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise DataError(f"{path}: over {MAX_BYTES >> 20} MB, far more than row numbers need")
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e
    try:
        rounds = _interpret(data)
    except _Refused as e:
        raise DataError(f"{path}: its pickle {e}, which lists of row numbers never need") from e
    except Exception as e:
        # Of any kind: pickletools and the stack below fail in many ways on bytes that are no pickle.
        raise DataError(f"{path}: not a pickle file, or a damaged one") from e
    if not _is_split(rounds):
        raise DataError(f"{path}: not of the form {{round: {{'train': [row numbers], 'val': [...], 'test': [...]}}}}")
    return rounds


def _is_split(rounds: object) -> bool:
    return (
        type(rounds) is dict
        and all(type(number) is int and type(parts) is dict for number, parts in rounds.items())
        and all(set(parts) <= {"train", "val", "test"} for parts in rounds.values())
        and all(type(rows) is list for parts in rounds.values() for rows in parts.values())
        and all(type(row) is int for parts in rounds.values() for rows in parts.values() for row in rows)
    )


def _interpret(data: bytes) -> object:
    stack, marks, memo = [], [], {}

    def pop_to_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for opcode, arg, _ in pickletools.genops(io.BytesIO(data)):
        match opcode.name:
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "NONE" | "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(arg)
            case "SHORT_BINBYTES" | "BINBYTES":
                stack.append(arg)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_LIST":
                stack.append([])
            case "APPEND":
                item = stack.pop()
                _as(list, stack[-1]).append(item)
            case "APPENDS":
                items = pop_to_mark()
                _as(list, stack[-1]).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _as(dict, stack[-1])[_key(key)] = value
            case "SETITEMS":
                items = pop_to_mark()
                _as(dict, stack[-1]).update(zip(map(_key, items[::2]), items[1::2], strict=True))
            case "TUPLE":
                stack.append(tuple(pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(opcode.name[-1]))][::-1]))
            case "GLOBAL":
                stack.append(_named(arg.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = _as(str, stack.pop()), _as(str, stack.pop())
                stack.append(_named(f"{module}.{name}"))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_call(function, arguments))
            case "BUILD":
                state = stack.pop()
                _as(_Integer, stack[-1]).check(state)
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case name:
                raise _Refused(f"uses opcode {name}")
    raise ValueError("no STOP")


class _Named:
    """One of the two names of NumPy that are allowed; nothing behind it."""

    def __init__(self, name: str):
        self.name = name


class _Integer:
    """What stands for a NumPy dtype: how the bytes of an integer are read."""

    def __init__(self, code: str):
        self._size, self._signed = int(code[1]), code[0] == "i"

    def check(self, state: object) -> None:
        """The state of a dtype: (version, byte order, ...)."""
        if _as(tuple, state)[1] not in ("<", "|"):
            raise _Refused("has NumPy integers whose bytes are not little-endian")

    def read(self, data: object) -> int:
        if len(_as(bytes, data)) != self._size:
            raise _Refused("has an integer of another size than its type")
        return int.from_bytes(data, "little", signed=self._signed)


def _as(kind: type, item: object):
    if type(item) is not kind:
        raise _Refused(f"has a {type(item).__name__.strip('_')} in the place of a {kind.__name__.strip('_')}")
    return item


def _key(item: object) -> int | str:
    return item if type(item) is int else _as(str, item)


def _named(name: str) -> _Named:
    if name != _DTYPE and name not in _SCALAR:
        raise _Refused(f"asks for {name[:200]}")
    return _Named(name)


def _call(function: object, arguments: object) -> object:
    name = _as(_Named, function).name
    first, *rest = _as(tuple, arguments)
    if name == _DTYPE:
        if first not in _INTEGERS:
            raise _Refused(f"has NumPy values of type {str(first)[:20]}")
        return _Integer(first)
    (data,) = rest
    return _as(_Integer, first).read(data)
