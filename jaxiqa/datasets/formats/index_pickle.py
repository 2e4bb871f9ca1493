"""Split files that other projects pickled: {round: {"train": [numbers], "val": [...], "test": [...]}}.

The numbers are integers of Python or NumPy. Any other object is refused, and never built (jaxiqa/inert_pickle.py).
"""

import os
from typing import TypeGuard

from jaxiqa import inert_pickle
from jaxiqa.errors import DataError, read_code
from jaxiqa.inert_pickle import Record, Refused

MAX_BYTES = 64 << 20  # ten rounds over FLIVE's 160,000 images and patches take 8 MB
_MAX_OPCODES = 16_000_000  # ten such rounds of NumPy's integers take 14 million

_DTYPE = "numpy.dtype"
_NAMES = (_DTYPE, "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")


def read_index_pickle(path: str) -> dict[int, dict[str, list[int]]]:
    """Returns row numbers by round and part.

    Raises:
      DataError: the file has another form, or holds anything but dicts, lists, strings and integers.
    """
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise DataError(
                f"{path} is larger than {MAX_BYTES >> 20} MB, far more than row numbers need", code="unsafe", key=path
            )
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise DataError(f"{path} cannot be read ({e.strerror})", code=read_code(e), key=path) from e
    try:
        pickled = inert_pickle.read(data, 0, inert_pickle.PLAIN, _MAX_OPCODES, _check_name)
        integers = {record: _integer(record) for record in pickled.records if record.name != _DTYPE}
    except Refused as e:
        raise DataError(
            f"{path}: its pickle {e}; lists of row numbers never need that, so the file is not read",
            code="unsafe",
            key=path,
        ) from e
    except Exception as e:
        # The unpickler raises many kinds of exceptions for bytes that are not a pickle.
        raise DataError(f"{path} is not a pickle file, or is damaged", code="format", key=path) from e
    if not _is_split(pickled.tree, (int, *{type(record) for record in integers})):
        raise DataError(
            f"{path} does not have the form {{round: {{'train': [row numbers], 'val': [...], 'test': [...]}}}}",
            code="format",
            key=path,
        )
    return {
        number: {part: [integers.get(row, row) for row in rows] for part, rows in parts.items()}
        for number, parts in pickled.tree.items()
    }


def _check_name(name: str) -> None:
    if name not in _NAMES:
        raise Refused(f"asks for {name[:200]}")


def _integer(record: Record) -> int:
    """The value of scalar(dtype, bytes). The dtype has arguments (code, ...) and state (version, byte order, ...)."""
    dtype, data = record.args
    code = dtype.args[0] if isinstance(dtype, Record) and dtype.name == _DTYPE else None
    if type(code) is not str or code not in _INTEGERS:
        raise Refused(f"has NumPy values of type {code[:20] if type(code) is str else type(code).__name__}")
    if dtype.state is not None and dtype.state[1] not in ("<", "|"):
        raise Refused("has NumPy integers whose bytes are not little-endian")
    if type(data) is not bytes or len(data) != int(code[1]):
        raise Refused("has an integer of another size than its type")
    return int.from_bytes(data, "little", signed=code[0] == "i")


def _is_split(rounds: object, integers: tuple[type, ...]) -> TypeGuard[dict[int, dict[str, list]]]:
    return (
        type(rounds) is dict
        and all(type(number) is int and type(parts) is dict for number, parts in rounds.items())
        and all(set(parts) <= {"train", "val", "test"} for parts in rounds.values())
        and all(type(rows) is list for parts in rounds.values() for rows in parts.values())
        and all(type(row) in integers for parts in rounds.values() for rows in parts.values() for row in rows)
    )
