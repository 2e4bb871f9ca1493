"""Reads the pickle of a PyTorch file as inert records (jaxiqa/inert_pickle.py), and writes one without pickle.

Nothing that a file names is imported or called. Tensors, storages and ordered dicts are rebuilt here. Objects of all
other classes stay records: options, paths, NumPy arrays, whole modules. Tensors that have no plain values (sparse,
quantised, ...) become Unread, which says why. A file is refused if it names what only a program needs, such as
os.system: the call would not happen, but such a file is not a weight file.
"""

import math
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from jaxiqa import inert_pickle
from jaxiqa.errors import CheckpointError
from jaxiqa.inert_pickle import PERSISTENT_ID, Record, Refused, is_class, need, set_item

_MAX_OPCODES = 500_000

_STORED = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_CLASSES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")  # in this order
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
# The last three have no storage class, so they are read but not written.
DTYPES = [BFLOAT16 if name == "bfloat16" else np.dtype(name) for name in (*_STORED, "uint16", "uint32", "uint64")]
_WRITTEN = {dtype: f"torch.{name}Storage" for name, dtype in zip(_CLASSES, DTYPES, strict=False)}
_STORAGES = {name: dtype for dtype, name in _WRITTEN.items()}
_STORAGES |= dict.fromkeys(("torch.UntypedStorage", "torch.storage.UntypedStorage"), np.dtype("uint8"))
# Values that are not read. Their size is known, because the storages of legacy files follow each other.
_STORAGES |= {"torch.ComplexFloatStorage": np.dtype("complex64"), "torch.ComplexDoubleStorage": np.dtype("complex128")}
_STORAGES |= {f"torch.{name}Storage": np.dtype("V1") for name in ("QInt8", "QUInt8", "QUInt4x2", "QUInt2x4")}
_STORAGES |= {"torch.QInt32Storage": np.dtype("V4"), "torch.ComplexHalfStorage": np.dtype("V4")}
_TORCH_DTYPES = {f"torch.{dtype.name}": dtype for dtype in DTYPES}

# What only programs need. No object of a checkpoint has these names, wherever its classes come from.
_PROGRAMS = (
    r"(?s)(os|posix|nt|subprocess|sys|importlib|runpy|pty|ctypes|marshal|_?pickle|shutil|socket|webbrowser|jaxiqa)\..*"
    r"|(__builtin__|builtins)\.(eval|exec|execfile|compile|apply|open|file|input|__import__|setattr|delattr|globals|vars)"
    r"|(code|codeop|commands|popen2|timeit|pdb|bdb|profile|cProfile)\.[a-z_]*(run|exec|eval|compile|popen|output|interact).*"
    r"|types\.(CodeType|FunctionType)|operator\.(methodcaller|attrgetter)"
    r"|(torch|torch\.(serialization|jit|hub)|numpy|joblib|dill|cloudpickle|pandas)\.(load|loads|load_.*|read_pickle)"
    r"|.*\.(os|posix|subprocess|sys|importlib|builtins)\..*"
)

_SAVE = "save model.state_dict() with torch.save in PyTorch and use that file"
_UNREAD = {  # name of a function in torch._utils -> what is written about its tensors
    "_rebuild_qtensor": "is quantised: dequantise the model",
    "_rebuild_sparse_tensor": "is sparse: call to_dense() on it",
    "_rebuild_sparse_csr_tensor": "is sparse: call to_dense() on it",
    "_rebuild_nested_tensor": "is a nested tensor: call to_padded_tensor() on it",
    "_rebuild_meta_tensor_no_storage": "is on the device meta, so it has no values: load the weights first",
    "_rebuild_wrapper_subclass": "is a distributed or wrapped tensor: call full_tensor() on it",
}
_DEVICE = ("_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_xla_tensor")
_ARRAYS = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_PARTS = {*_ARRAYS, "_codecs.encode", "numpy.dtype", "numpy.ndarray"}  # of NumPy arrays, which are plain data


class Storage(NamedTuple):
    """`numel` raw values in the file under `key`; this storage is the part [start, start + size).

    `data` holds the values if the pickle itself does, as for tensors of a TPU. `key` is then not used.
    """

    key: str
    dtype: np.dtype
    numel: int
    start: int
    size: int
    data: bytes | None = None

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


class Unread(NamedTuple):
    """A tensor without plain values. `why` says why it is not read, and what to do; it follows the tensor's name."""

    why: str


class Unpickled(NamedTuple):
    """A pickle of PyTorch.

    `tree` consists of Tensor, Unread, Storage, Record, dict, list, tuple, set, str, bytes, numbers and None. `storages`
    are all that it names, by key. `unknown` are the names of the classes and functions of its records.
    """

    tree: Any
    storages: dict[str, Storage]
    unknown: list[str]
    end: int


def read_object(data: bytes, start: int = 0) -> Unpickled:
    """Reads the pickle at data[start:].

    Raises:
      CheckpointError: the pickle names what only programs need, or its tensors are impossible.
      Exception: of any kind if the bytes are not a pickle; the caller turns it into a CheckpointError.
    """
    storages: dict[str, Storage] = {}

    def make(record: Record) -> object:
        if record.name not in _CALLS:
            if record.name in _STORAGES:
                raise Refused(f"calls {record.name}")
            return _unread(record.name) or record
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
        pickled = inert_pickle.read(data, start, inert_pickle.OPCODES, _MAX_OPCODES, _check_name, make)
    except Refused as error:
        raise CheckpointError(f"its pickle {error}, which weights never need; {_SAVE}", code="unsafe") from error
    known = _CALLS.keys() | _STORAGES.keys() | _TORCH_DTYPES.keys() | _PARTS
    return Unpickled(pickled.tree, storages, sorted(pickled.names - known), pickled.end)


def _check_name(name: str) -> None:
    if re.fullmatch(_PROGRAMS, name) or any(name.startswith(f"{known}.") for known in _CALLS):
        raise Refused(f"asks for {name[:200]}")


def _unread(name: str) -> Unread | None:
    """Returns what stands for a tensor that the function of this name would build; None if it builds no tensor."""
    module, function = name.rsplit(".", 1)
    if module not in ("torch._utils", "torch._tensor") or not function.startswith("_rebuild_"):
        return None
    return Unread(_UNREAD.get(function, f"is built by {name[:100]}: {_SAVE}"))


class _OrderedDict(dict):
    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        """Ignores the state, which is PyTorch's _metadata."""


def _storage(identity: object) -> Storage | type[Record]:
    """Converts ("storage", class, key, device, numel); legacy files append None or (view key, start, size).

    The device does not matter: the values of a GPU's storage are in the file as those of a CPU's are.
    """
    match identity if type(identity) is tuple and len(identity) < 7 else None:
        case ("storage", cls, str(key), _, int(numel), *rest) if is_class(cls) and cls.name in _STORAGES and numel >= 0:
            match rest:
                case [] | [None]:
                    return Storage(key, _STORAGES[cls.name], numel, 0, numel)
                case [(_, int(start), int(size))] if min(start, size) >= 0 and start + size <= numel:
                    return Storage(key, _STORAGES[cls.name], numel, start, size)
        case ("storage", cls, *_) if is_class(cls) and cls.name not in _STORAGES:
            raise Refused(f"has a storage of class {cls.name[:200]}")
        case ("module", cls, *_) if is_class(cls):  # the class of a whole module, with its source code
            return cls
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


def _tensor(
    storage: Storage, offset: int, shape: tuple, strides: tuple, *_about_gradients, dtype=None
) -> Tensor | Unread:
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
    dtype = dtype or storage.dtype
    if dtype not in DTYPES:
        return Unread(f"has {dtype.name if dtype.kind == 'c' else 'quantised'} values: convert it to float32")
    return Tensor(storage, dtype, storage.start + offset, shape, strides)


def _tensor_v3(
    storage: Storage, offset: int, shape: tuple, strides: tuple, _grad, _hooks, dtype: type[Record], *_
) -> Tensor | Unread:
    """Like _tensor, but over bytes, for the dtypes that have no storage class."""
    new = _TORCH_DTYPES.get(need("class", dtype).name)
    if new is None:
        return Unread(f"has values of type {dtype.name[:100]}: convert it to float32")
    if need("Storage", storage).dtype != np.uint8 or storage.size != storage.numel:
        raise Refused("has a tensor over a storage that does not consist of bytes")
    values = storage._replace(size=storage.numel // new.itemsize)
    return _tensor(values, offset, shape, strides, dtype=new)


def _from_type(function: type[Record], _type: object, args: tuple, _state: object) -> Tensor | Unread:
    """Converts a tensor with attributes, or of a subclass: the function and its arguments build a plain tensor."""
    name = need("class", function).name
    if name in (_FROM_TYPE, PERSISTENT_ID) or len(need("tuple", args)) > 8:
        raise ValueError
    return _one(_CALLS[name](*args) if name in _CALLS else _unread(name))


def _of_device(values: object, *_about_device: object) -> Tensor | Unread:
    """Converts a tensor of a TPU or another device, which is kept as a NumPy array or as a tensor of the CPU."""
    if isinstance(values, Tensor | Unread):
        return values
    array = _array(values) if isinstance(values, Record) else None
    return array or Unread("was on an XLA device and is no plain NumPy array: call model.cpu() before saving")


def _array(record: Record) -> Tensor | Unread | None:
    """Returns a NumPy array of a pickle as a tensor whose storage is in the pickle; None if it is of another kind."""
    if record.name not in _ARRAYS:
        return None
    match record.state:
        case (
            int(),
            tuple() as shape,
            Record(name="numpy.dtype", args=(str(code), *_), state=about),
            bool() as f,
            data,
        ):
            pass
        case _:
            return None
    match data:
        case Record(name="_codecs.encode", args=(str(text), "latin1")):  # protocol 2 keeps bytes as text
            data = text.encode("latin-1")
        case Record(name="__builtin__.bytes" | "builtins.bytes", args=()):
            data = b""
    swapped = type(about) is tuple and len(about) > 1 and about[1] == ">"
    kinds = {f"{dtype.kind}{dtype.itemsize}": dtype for dtype in DTYPES if dtype.kind != "V"}
    if code not in kinds or swapped or type(data) is not bytes:
        return None
    dtype, numel = kinds[code], len(data) // kinds[code].itemsize
    if any(type(d) is not int or d < 0 for d in shape) or math.prod(shape) != numel:
        raise ValueError
    axes = range(len(shape))
    strides = tuple(math.prod(shape[:d] if f else shape[d + 1 :]) for d in axes)
    return _tensor(Storage("", dtype, numel, 0, numel, data), 0, shape, strides)


_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_CALLS: dict[str, Callable] = {
    PERSISTENT_ID: _storage,
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": lambda tensor, *_about_gradients: _one(tensor),
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_about_gradients: _one(tensor),
    _FROM_TYPE: _from_type,
    **{f"torch._utils.{name}": _of_device for name in _DEVICE},
}


def _one(tensor: object) -> Tensor | Unread:
    return tensor if isinstance(tensor, Unread) else need("Tensor", tensor)


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
