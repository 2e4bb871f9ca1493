"""The pickle stream inside a PyTorch file: read by an interpreter with an allow-list, written by hand.

pickletools.genops splits the bytes into opcodes, the interpreter below knows the few that torch.save writes. Nothing
that a file names is ever imported or called: a name stands for one of the small functions here or for a harmless object
that is not built (Ignored), or the file is refused. Memory is bounded by the stream's size and opcode count, as no
opcode builds more than the opcodes before it brought; nothing here recurses, so nesting costs no stack.
"""

import dataclasses
import io
import pickletools
import struct
from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np

from jaxiqa.errors import CheckpointError

MAX_BYTES = 16 << 20  # a state_dict of 5000 tensors takes 1 MB
_MAX_OPCODES = 500_000
_MAX_LINE = 1 << 16

_STORED = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
DTYPES = {name: np.dtype(name) for name in _STORED.values() if name != "bfloat16"}
DTYPES["bfloat16"] = np.dtype(ml_dtypes.bfloat16)
_NEW_DTYPES = {name: np.dtype(name) for name in ("uint16", "uint32", "uint64")}  # no storage class of their own
_STORAGES = {f"torch.{storage}Storage": DTYPES[name] for storage, name in _STORED.items()}
_STORAGES |= dict.fromkeys(("torch.UntypedStorage", "torch.storage.UntypedStorage"), DTYPES["uint8"])
_TORCH_DTYPES = {f"torch.{name}": dtype for name, dtype in (DTYPES | _NEW_DTYPES).items()}

# What training checkpoints keep beside the weights: sizes, devices, sets, NumPy numbers (best_acc1).
_IGNORED = {
    *("torch.Size", "torch.device", "collections.Counter", "_codecs.encode"),
    *("__builtin__.set", "builtins.set", "__builtin__.complex", "builtins.complex", "__builtin__.bytes"),
    *("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
}

_SAVE = "save model.state_dict() with torch.save in PyTorch and use that file"
_OTHER_TENSORS = {
    "torch._utils._rebuild_qtensor": f"quantised tensors are not read: dequantise the model and {_SAVE}",
    "torch._utils._rebuild_sparse_tensor": f"sparse tensors are not read: call to_dense() on them and {_SAVE}",
    "torch._utils._rebuild_sparse_csr_tensor": f"sparse tensors are not read: call to_dense() on them and {_SAVE}",
    "torch._utils._rebuild_meta_tensor_no_storage": f"meta tensors have no values: load the weights first and {_SAVE}",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """Raw values in the file under `key`: `numel` of them, of which [start, start + size) are meant."""

    key: str
    dtype: np.dtype
    numel: int
    start: int
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage; offset and strides in elements. Inside the storage, as far as the pickle tells its size."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Ignored:
    """A harmless object that is not built."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class _Global:
    """An allowed name, not an object."""

    name: str


class Stream(io.BytesIO):
    """Bytes for read_object; a line is at most 64 kB, as error texts of pickletools hold the whole of it."""

    def readline(self, size: int = _MAX_LINE) -> bytes:
        return super().readline(size)


def read_object(stream: Stream, storages: dict[str, Storage] | None = None) -> object:
    """The object of one pickle, of dict, list, tuple, str, bytes, numbers, None, Tensor, Storage and Ignored only.

    Sets come back as lists, parameters as tensors, ordered dicts as dicts. The stream is left behind the pickle.

    Args:
      stream: the bytes.
      storages: is filled with every storage that the pickle names, by key.

    Raises:
      CheckpointError: the pickle asks for anything else.
      Exception: of any kind, where the bytes are no pickle; the caller turns it into a sentence.
    """
    storages = {} if storages is None else storages
    stack, marks, memo = [], [], {}

    def pop_to_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    for count, (opcode, arg, _) in enumerate(pickletools.genops(stream)):
        if count >= _MAX_OPCODES:
            raise CheckpointError(f"its pickle has over {_MAX_OPCODES} opcodes, far more than weights need; {_SAVE}")
        match opcode.name:
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "NONE":
                stack.append(arg)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(arg)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8":
                stack.append(arg)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE":
                stack.append(tuple(pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(opcode.name[-1]))][::-1]))
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])  # a set is never hashed: nothing asks for its members
            case "FROZENSET":
                stack.append(pop_to_mark())
            case "APPEND":
                item = stack.pop()
                _as(list, stack[-1]).append(item)
            case "APPENDS" | "ADDITEMS":
                items = pop_to_mark()
                _as(list, stack[-1]).extend(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [(key, value)])
            case "SETITEMS":
                items = pop_to_mark()
                _set_items(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_find(arg.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = _as(str, stack.pop()), _as(str, stack.pop())
                stack.append(_find(f"{module}.{name}"))
            case "REDUCE":
                arguments, function = _as(tuple, stack.pop()), _as(_Global, stack.pop())
                stack.append(_reduce(function.name, arguments))
            case "BUILD":
                stack.pop()  # attributes of an ordered dict (_metadata), fields of a NumPy dtype: neither is needed
                if type(stack[-1]) not in (dict, Ignored):
                    raise CheckpointError(f"its pickle sets attributes of a {type(stack[-1]).__name__}; {_SAVE}")
            case "BINPERSID":
                storage = _storage(stack.pop())
                before = storages.setdefault(storage.key, storage)
                if (before.dtype, before.numel) != (storage.dtype, storage.numel):
                    raise CheckpointError(f"storage {storage.key[:100]} is declared twice, differently: a damaged file")
                stack.append(storage)
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case name:
                what = f" of {arg.replace(' ', '.', 1)}" if name == "INST" else ""
                raise CheckpointError(f"its pickle uses opcode {name}{what}, which weights never need; {_SAVE}")


def _as(kind: type, item: object):
    if type(item) is not kind:
        raise CheckpointError(f"its pickle has a {type(item).__name__} in the place of a {kind.__name__}; {_SAVE}")
    return item


def _set_items(target: object, pairs: Iterable) -> None:
    for key, value in pairs:
        if type(key) not in (str, int, float, bool, bytes, type(None)):  # hashing deep tuples would take the C stack
            raise CheckpointError(f"its pickle has a {type(key).__name__} as the key of a dict; {_SAVE}")
        if key in _as(dict, target):
            raise CheckpointError(f"{repr(key)[:100]} occurs twice in one dict: a damaged or forged file")
        target[key] = value


def _find(name: str) -> object:
    if name in _CALLS or name in _STORAGES or name in _TORCH_DTYPES or name in _IGNORED:
        return _Global(name)
    if name in _OTHER_TENSORS:
        raise CheckpointError(_OTHER_TENSORS[name])
    if name.endswith("Storage") or name.startswith("torch.float8"):
        raise CheckpointError(f"tensors of type {name[:200]} are not read: convert them to float32 and {_SAVE}")
    raise CheckpointError(f"its pickle asks for {name[:200]}, and only tensors in dicts and lists are read; {_SAVE}")


def _reduce(name: str, arguments: tuple) -> object:
    if name in _IGNORED:
        return Ignored(name)
    if name not in _CALLS:
        raise CheckpointError(f"its pickle calls {name}, which is no function of weight files; {_SAVE}")
    try:
        if len(arguments) > 8:
            raise ValueError
        return _CALLS[name](*arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"its pickle calls {name} with arguments that do not fit; {_SAVE}") from error


def _storage(identity: object) -> Storage:
    """From ("storage", class, key, device, numel), in legacy files with None or (view key, start, size) behind it."""
    match identity if type(identity) is tuple and len(identity) < 7 else None:
        case ("storage", _Global(name), str(key), _, int(numel), *rest) if name in _STORAGES and numel >= 0:
            match rest:
                case [] | [None]:
                    return Storage(key, _STORAGES[name], numel, 0, numel)
                case [(_, int(start), int(size))] if min(start, size) >= 0 and start + size <= numel:
                    return Storage(key, _STORAGES[name], numel, start, size)
        case ("storage", _Global(name), *_) if name not in _STORAGES:
            raise CheckpointError(f"{name} is no class of storages that is read; {_SAVE}")
    raise CheckpointError(f"its pickle has a persistent id that is no storage: a damaged or forged file; {_SAVE}")


def _ordered_dict(pairs: list | None = None) -> dict:
    """From nothing, or (Python 2) from pairs; the list is used up, or a file could ask for it a thousand times."""
    result = {}
    if pairs is not None:
        _set_items(result, map(_as_pair, _as(list, pairs)))
        pairs.clear()
    return result


def _as_pair(pair: object) -> list | tuple:
    if type(pair) not in (list, tuple) or len(pair) != 2:
        raise ValueError
    return pair


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_about_gradients) -> Tensor:
    size = _as(Storage, storage).size
    if max(len(_as(tuple, shape)), len(_as(tuple, strides))) > 32:
        raise ValueError
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(strides):
        raise CheckpointError(f"a tensor has an impossible offset, shape or stride: a damaged or forged file; {_SAVE}")
    last = offset + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    if 0 not in shape and last >= size:
        raise CheckpointError(
            f"a tensor of shape {str(shape)[:100]} reaches beyond its storage of {size} values: damaged"
        )
    return Tensor(storage, offset, shape, strides)


def _tensor_v3(
    storage: Storage, offset: int, shape: tuple, strides: tuple, _grad, _hooks, dtype: _Global, *_
) -> Tensor:
    """Like _tensor, over bytes: of the dtypes that have no storage class."""
    new = _TORCH_DTYPES[dtype.name] if _as(_Global, dtype).name in _TORCH_DTYPES else None
    if new is None or _as(Storage, storage).dtype != np.uint8 or storage.size != storage.numel:
        raise CheckpointError(f"a tensor has an unknown type {dtype.name}; convert it to float32 and {_SAVE}")
    numel = storage.numel // new.itemsize
    return _tensor(Storage(storage.key, new, numel, 0, numel), offset, shape, strides)


def _parameter(tensor: Tensor, *_about_gradients) -> Tensor:
    return _as(Tensor, tensor)


_CALLS = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}


def write_state_dict(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The stream torch.save writes for an OrderedDict of contiguous tensors; tensor i has its values in storage str(i).

    Raises:
      CheckpointError: a dtype that DTYPES does not hold.
    """
    classes = {DTYPES[name]: f"{storage}Storage" for storage, name in _STORED.items()}

    def text(value: str) -> bytes:
        data = value.encode()
        return b"X" + struct.pack("<I", len(data)) + data

    def integer(value: int) -> bytes:
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)

    def integers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(integer, values)) + b"t"

    ordered_dict = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", ordered_dict, b"("]
    for i, (name, array) in enumerate(tensors.items()):
        if array.dtype not in classes:
            raise CheckpointError(f"{name} is of type {array.dtype}; .pth files take {', '.join(DTYPES)}")
        storage = f"ctorch\n{classes[array.dtype]}\n".encode()
        strides = tuple(int(np.prod(array.shape[d + 1 :], dtype=np.int64)) for d in range(array.ndim))
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n("]
        parts += [b"(", text("storage"), storage, text(str(i)), text("cpu"), integer(array.size), b"tQ"]
        parts += [integer(0), integers(array.shape), integers(strides), b"\x89", ordered_dict, b"tR"]
    return b"".join([*parts, b"u."])
