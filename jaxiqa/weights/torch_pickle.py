"""Reads the pickle of a PyTorch file as inert records (jaxiqa/inert_pickle.py), and writes one without pickle.

Nothing that a file names is imported or called. Tensors, storages and ordered dicts are rebuilt here. A few harmless
objects stay records. A file that names anything else is refused.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxiqa import inert_pickle
from jaxiqa.errors import CheckpointError
from jaxiqa.inert_pickle import PERSISTENT_ID, Record, Refused, is_class, need, set_item

MAX_BYTES = 16 << 20  # a state_dict of 5000 tensors takes 1 MB
_MAX_OPCODES = 500_000
_OPCODES = inert_pickle.OPCODES - {"NEWOBJ"}

_STORED = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_CLASSES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")  # in this order
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# The last three have no storage class, so they are read but not written.
DTYPES = [BFLOAT16 if name == "bfloat16" else np.dtype(name) for name in (*_STORED, "uint16", "uint32", "uint64")]
_WRITTEN = {dtype: f"torch.{name}Storage" for name, dtype in zip(_CLASSES, DTYPES, strict=False)}
_STORAGES = {name: dtype for dtype, name in _WRITTEN.items()}
_STORAGES |= dict.fromkeys(("torch.UntypedStorage", "torch.storage.UntypedStorage"), np.dtype("uint8"))
_TORCH_DTYPES = {f"torch.{dtype.name}": dtype for dtype in DTYPES}

# Objects that training checkpoints keep beside the weights: sizes, devices, sets, NumPy numbers (best_acc1).
_IGNORED = {
    *("torch.Size", "torch.device", "collections.Counter", "_codecs.encode"),
    *("__builtin__.set", "builtins.set", "__builtin__.complex", "builtins.complex", "__builtin__.bytes"),
    *("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
}

_SAVE = "save model.state_dict() with torch.save in PyTorch and use that file"
_OTHER_TENSORS = {
    "torch._utils._rebuild_qtensor": "quantised tensors are not read: dequantise the model",
    "torch._utils._rebuild_sparse_tensor": "sparse tensors are not read: call to_dense() on them",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse tensors are not read: call to_dense() on them",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta tensors have no values: load the weights first",
}


class Storage(NamedTuple):
    """`numel` raw values in the file under `key`; this storage is the part [start, start + size)."""

    key: str
    dtype: np.dtype
    numel: int
    start: int
    size: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


class Tensor(NamedTuple):
    """A view of a storage; offset and strides are in elements. The view is checked to be inside the storage."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_object(data: bytes, start: int = 0) -> tuple[Any, dict[str, Storage], int]:
    """Reads the pickle at data[start:].

    Returns:
      (object, {key: Storage} of all storages that it names, end of the pickle). The object consists of Tensor, Storage,
      dict, list, tuple, set, str, bytes, numbers and None; harmless objects of other classes are records.

    Raises:
      CheckpointError: the pickle has objects that weights never need.
      Exception: of any kind if the bytes are not a pickle; the caller turns it into a CheckpointError.
    """
    storages: dict[str, Storage] = {}

    def make(record: Record) -> object:
        if record.name in _IGNORED:
            return record
        if record.name not in _CALLS:
            raise Refused(f"calls {record.name}")
        try:
            if len(record.args) > 8:
                raise ValueError
            value = _CALLS[record.name](*record.args)
        except (TypeError, ValueError) as error:
            raise Refused(f"calls {record.name} with arguments that do not fit") from error
        if type(value) is Storage and storages.setdefault(value.key, value)[:3] != value[:3]:
            raise CheckpointError(
                f"storage {value.key[:100]} is declared twice with different values: damaged or forged", code="unsafe"
            )
        return value

    try:
        pickled = inert_pickle.read(data, start, _OPCODES, _MAX_OPCODES, _check_name, make)
    except Refused as error:
        raise CheckpointError(f"its pickle {error}, which weights never need; {_SAVE}", code="unsafe") from error
    return pickled.tree, storages, pickled.end


def _check_name(name: str) -> None:
    if name in _CALLS or name in _STORAGES or name in _TORCH_DTYPES or name in _IGNORED:
        return
    if name in _OTHER_TENSORS:
        raise CheckpointError(f"{_OTHER_TENSORS[name]} and {_SAVE}", code="format")
    if name.endswith("Storage") or name.startswith("torch.float8"):
        raise CheckpointError(
            f"tensors of type {name[:200]} are not read: convert them to float32 and {_SAVE}", code="format"
        )
    raise Refused(f"asks for {name[:200]}")


class _OrderedDict(dict):
    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Ignores the state, which is PyTorch's _metadata."""


def _storage(identity: object) -> Storage:
    """Converts ("storage", class, key, device, numel); legacy files append None or (view key, start, size)."""
    match identity if type(identity) is tuple and len(identity) < 7 else None:
        case ("storage", cls, str(key), _, int(numel), *rest) if is_class(cls) and cls.name in _STORAGES and numel >= 0:
            match rest:
                case [] | [None]:
                    return Storage(key, _STORAGES[cls.name], numel, 0, numel)
                case [(_, int(start), int(size))] if min(start, size) >= 0 and start + size <= numel:
                    return Storage(key, _STORAGES[cls.name], numel, start, size)
        case ("storage", cls, *_) if is_class(cls) and cls.name not in _STORAGES:
            raise Refused(f"has a storage of class {cls.name}")
    raise Refused("has a persistent id that is not a storage")


def _ordered_dict(*pairs: list) -> _OrderedDict:
    """Converts lists of pairs (Python 2). Each list is emptied, or a file could use one list a thousand times."""
    result = _OrderedDict()
    for some in pairs:
        for pair in need("list", some):
            if type(pair) not in (list, tuple):
                raise ValueError
            key, value = pair
            set_item(result, key, value)
        some.clear()
    return result


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_about_gradients, dtype=None) -> Tensor:
    size = need("Storage", storage).size
    if max(len(need("tuple", shape)), len(need("tuple", strides))) > 32:
        raise ValueError
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(strides):
        raise CheckpointError(
            f"a tensor has an impossible offset, shape or stride: damaged or forged; {_SAVE}", code="unsafe"
        )
    last = offset + sum((d - 1) * s for d, s in zip(shape, strides, strict=True))
    if 0 not in shape and last >= size:
        raise CheckpointError(
            f"a tensor of shape {str(shape)[:100]} reaches beyond its storage of {size} values", code="unsafe"
        )
    return Tensor(storage, dtype or storage.dtype, storage.start + offset, shape, strides)


def _tensor_v3(
    storage: Storage, offset: int, shape: tuple, strides: tuple, _grad, _hooks, dtype: type[Record], *_
) -> Tensor:
    """Like _tensor, but over bytes, for the dtypes that have no storage class."""
    new = _TORCH_DTYPES.get(need("class", dtype).name)
    if new is None or need("Storage", storage).dtype != np.uint8 or storage.size != storage.numel:
        raise CheckpointError(
            f"a tensor has an unknown type {dtype.name}; convert it to float32 and {_SAVE}", code="format"
        )
    values = storage._replace(size=storage.numel // new.itemsize)
    return _tensor(values, offset, shape, strides, dtype=new)


_CALLS: dict[str, Callable] = {
    PERSISTENT_ID: _storage,
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda tensor, *_about_gradients: need("Tensor", tensor),
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_about_gradients: need("Tensor", tensor),
}


def write_state_dict(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle that torch.save writes for an OrderedDict of contiguous tensors.

    Tensor i has its values in storage str(i).

    Raises:
      CheckpointError: torch has no storage class for a dtype.
    """

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
        if array.dtype not in _WRITTEN:
            raise CheckpointError(
                f"{name} has type {array.dtype}; .pth files take {', '.join(_STORED)}", code="mismatch"
            )
        storage = b"c" + _WRITTEN[array.dtype].replace(".", "\n").encode() + b"\n"
        strides = tuple(int(np.prod(array.shape[d + 1 :], dtype=np.int64)) for d in range(array.ndim))
        parts += [text(name), b"ctorch._utils\n_rebuild_tensor_v2\n("]
        parts += [b"(", text("storage"), storage, text(str(i)), text("cpu"), integer(array.size), b"tQ"]
        parts += [integer(0), integers(array.shape), integers(strides), b"\x89", ordered_dict, b"tR"]
    return b"".join([*parts, b"u."])
