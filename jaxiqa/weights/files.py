"""Reads and writes weight files as {name: array}: PyTorch (zip and legacy), safetensors and NumPy.

The bytes of a file tell its format; its extension does not matter. The index of a checkpoint in several files
(model.safetensors.index.json) stands for all of them.
"""

import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import re
import stat
import traceback
import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import safetensors.numpy

from jaxiqa.errors import CheckpointError, printable, read_code
from jaxiqa.files import replacing
from jaxiqa.weights import entries, torch_file
from jaxiqa.weights.torch_file import Contents
from jaxiqa.weights.torch_pickle import BFLOAT16, DTYPES

_FORMATS = "PyTorch (.pth, .pt), .safetensors and .npz files are read"
_SAFETENSORS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
_PREFIXES = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")  # DataParallel, torch.compile, FSDP
_ORDER = "jaxiqa.names"  # metadata key of .safetensors: the names in order, because the format does not keep the order
_MAX_NAME = 1000
_MAX_HEADER = 4 << 20  # bytes of JSON: Python objects may take 30 times as much; 10,000 tensors need 1 MB
_MAX_TENSORS = 100_000
_MAX_INDEX = 16 << 20
_MAX_RATIO = 16  # size of an .npz file's arrays over the size of the file; trained weights hardly compress


def read_tensors(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
    """Returns the named tensors of a weight file, in the file's order and layout.

    A state_dict is found wherever it lies in a PyTorch file, and whatever is beside it; raw weights are preferred to
    averaged (EMA) ones. The prefixes "module.", "_orig_mod." and "_fsdp_wrapped_module." are removed if all names have
    them. Numbers and other objects are left out. Values are not checked. Tensors that share memory in the file may
    share it here.

    Args:
      path: the file; its extension does not matter.
      key: the entry to take from a PyTorch file that holds several, e.g. "model_ema" or "callbacks.EMA.ema_weights".

    Raises:
      CheckpointError: the file cannot be read, is damaged, holds what only programs need, or holds several entries
        among which `key` must choose.
    """
    return read_file(path, key).tensors


def read_file(path: str | os.PathLike, key: str | None = None, *, may_be_several: bool = False) -> Contents:
    """Reads a weight file as read_tensors does, and tells what else it holds.

    With `may_be_several`, a file among whose entries `key` must choose is no error; no tensors are read then.
    """
    with _opened(path) as (file, size):
        found = _read(file, size, key)
        if found.entries and not found.entry and not may_be_several:
            raise CheckpointError(
                f"it holds several sets of tensors; choose one by --key NAME: {entries.describe(found.entries)}",
                code="missing",
            )
        prefix, tensors = _without_prefix(found.tensors)
        return found._replace(tensors=tensors, prefix=prefix)


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hex digits. Raises CheckpointError if it cannot be read."""
    with _opened(path) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes {name: array} to a .pth, .pt or .safetensors file; the extension chooses the format.

    The file appears complete or not at all. Equal tensors give equal bytes.

    Raises:
      CheckpointError: the extension is another one, the format lacks a dtype, or the file cannot be written.
    """
    writers = {".pth": torch_file.write_zip, ".pt": torch_file.write_zip, ".safetensors": _write_safetensors}
    try:
        suffix = pathlib.Path(path).suffix
        if suffix not in writers:
            raise CheckpointError(
                f"{suffix or 'no extension'} is not a format for weights: use {', '.join(writers)}", code="format"
            )
        arrays = {name: np.asarray(array) for name, array in tensors.items()}
        native = {n: a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")) for n, a in arrays.items()}
        with replacing(path) as beside:
            writers[suffix](pathlib.Path(beside), native)
    except CheckpointError as error:
        raise _refusal(path, str(error), error.code) from error
    except (OSError, ValueError) as error:  # ValueError: a name that is not UTF-8, a path with a zero byte
        what = f"cannot be written ({getattr(error, 'strerror', None) or error})"
        raise _refusal(path, what, "unwritable") from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[io.BufferedReader, int]]:
    """Opens a regular file and yields (file, size); any exception becomes a CheckpointError that names the path."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise CheckpointError("it is not a file: give the path of one weight file", code="format")
        with open(path, "rb") as file:
            yield file, info.st_size
    except Exception as error:  # damaged bytes cause anything from struct.error to MemoryError
        _clear_frames(error)
        if isinstance(error, CheckpointError):
            message, code = str(error), error.code
        elif isinstance(error, OSError):
            message, code = f"cannot be read ({error.strerror}): check the path", read_code(error)
        else:
            what = f"{type(error).__name__}: {str(error)[:200]}"
            message, code = f"the file is damaged ({what}): download or save it again", "damaged"
        raise _refusal(path, message, code) from error


def _clear_frames(error: BaseException | None) -> None:
    """Frees what the functions below held. In Python 3.13 it would live until the next garbage collection."""
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _refusal(path: str | os.PathLike, message: str, code: str) -> CheckpointError:
    return CheckpointError(printable(f"{os.fspath(path)}: {message}"[:2000]), code=code, key=path)


def _read(file: io.BufferedReader, size: int, key: str | None) -> Contents:
    start = file.read(512)
    if start.startswith(b"PK\3\4"):
        archive = torch_file.open_zip(file, size)
        if any(name.endswith("/data.pkl") for name in archive.namelist()):
            return torch_file.read_zip(archive, size, key)
        if not all(name.endswith(".npy") for name in archive.namelist()):
            names = ", ".join(archive.namelist()[:3])[:200]
            raise CheckpointError(
                f"it is a zip file that neither PyTorch nor NumPy wrote ({names}): unpack it; {_FORMATS}", code="format"
            )
        tensors = _read_npz(archive, size)
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:  # the length may begin with \x80
        tensors = _read_safetensors(file)
    elif start.startswith(b"\x80"):
        return torch_file.read_legacy(file, size, key)
    elif start.lstrip()[:1] == b"{" and size <= _MAX_INDEX:
        tensors = _read_shards(file)
    else:
        raise _no_weights(start)
    if key is not None:
        raise CheckpointError(
            f"only PyTorch files have entries to choose from: leave out --key {key!r}", code="not_found"
        )
    return Contents(tensors)


def _without_prefix(tensors: dict[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    if any(len(name) > _MAX_NAME for name in tensors):
        raise CheckpointError(f"a tensor's name has over {_MAX_NAME} characters: damaged or forged", code="unsafe")
    removed = ""
    while prefix := next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
        removed += prefix
    return removed, tensors


_OTHERS = (  # regular expression of a file's first bytes, code, what it is and what to do
    (rb"\Z", "damaged", "the file is empty: download it again"),
    (rb"version https://git-lfs", "format", "it is a Git LFS pointer, not the file itself: run git lfs pull"),
    (rb"\s*(\xef\xbb\xbf)?\s*<", "format", "it is a web page, not a weight file: download it again"),
    (rb"\s*[{\[]", "format", "it is JSON, and not the index of a checkpoint: name the weight file"),
    (rb"\x1f\x8b", "format", "it is compressed with gzip: unpack it (gunzip, or tar -xzf for a .tar.gz)"),
    (rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "format", "it is a compressed archive: unpack it"),
    (rb"\x89HDF", "format", "it is an HDF5 file, e.g. of Keras: save the weights in PyTorch or as .safetensors"),
    (rb"GGUF", "format", "it is a GGUF file: use the .safetensors or PyTorch file of the model"),
    (rb"\x93NUMPY", "format", "it is one NumPy array: save all arrays by name with numpy.savez"),
    (rb"sys_info\0", "format", "it is a file of PyTorch before 0.2: load it in PyTorch and save it again"),
    (rb"(?s:.{257})ustar", "format", "it is a tar archive: take the weight file out of it"),
    (rb"PK\x05\x06", "format", "it is an empty zip file: download it again"),
    (
        rb"\x08.{0,12}(pytorch|tf2onnx)|\x08[\x01-\x0f]\x12",
        "format",
        "it is an ONNX file: save the state_dict in PyTorch",
    ),
    (rb"", "format", "it is not a weight file of a known format, or its start is damaged"),
)


def _no_weights(start: bytes) -> CheckpointError:
    code, what = next((code, what) for pattern, code, what in _OTHERS if re.match(pattern, start))
    return CheckpointError(what if code == "damaged" else f"{what}; {_FORMATS}", code=code)


def _read_shards(file: io.BufferedReader) -> dict[str, np.ndarray]:
    """Reads the files that an index names; they lie beside it."""
    file.seek(0)
    try:
        index = json.loads(file.read())
        shards = index["weight_map"]
        names = sorted(set(shards.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_weights(b"{") from error
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        if type(name) is not str or name != os.path.basename(name) or name in ("", ".", "..") or name.endswith(".json"):
            raise CheckpointError(f"it names {str(name)[:100]!r}, which is not a file in its folder", code="unsafe")
        tensors |= read_file(os.path.join(os.path.dirname(file.name), name)).tensors
    if missing := [name for name in shards if name not in tensors]:
        raise CheckpointError(
            f"{len(missing)} tensors of this index are in none of its files, e.g. {missing[0][:100]}", code="damaged"
        )
    return tensors


def _read_npz(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    needed = sum(info.file_size for info in archive.infolist())
    if needed > _MAX_RATIO * size + (64 << 20):
        raise CheckpointError(
            f"its arrays would take {needed} bytes, the file has {size}: damaged or forged", code="unsafe"
        )
    entries = {info.filename: torch_file.read_entry(archive, info) for info in archive.infolist()}
    return {name.removesuffix(".npy"): _array(name, data) for name, data in entries.items()}


def _array(name: str, data: np.ndarray) -> np.ndarray:
    """Returns the array in the bytes of an .npy file."""
    header = io.BytesIO(data[: 1 << 16].tobytes())
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = readers[np.lib.format.read_magic(header)](header)
    native = BFLOAT16 if dtype == np.dtype("V2") else dtype.newbyteorder("=")  # NumPy stores no name for bfloat16
    if native not in DTYPES:
        code = "unsafe" if dtype.hasobject else "format"
        raise CheckpointError(f"{name} has type {str(dtype)[:100]}: only arrays of numbers are read", code=code)
    data = data[header.tell() :]
    if any(type(d) is not int or d < 0 for d in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise CheckpointError(
            f"{name} does not have the size of its shape: the file is damaged, save it again", code="damaged"
        )
    values = (data != 0 if native.kind == "b" else data).view(native if dtype.kind == "V" else dtype)
    return values.reshape(shape, order="F" if fortran else "C").astype(native, "C", copy=False)


def _read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise CheckpointError(
            f"its header has {length} bytes, far more than weights need: damaged or forged", code="unsafe"
        )
    text = file.read(length)
    if text.count(b"{") > _MAX_TENSORS:
        raise CheckpointError("its header has far more objects than weights need: damaged or forged", code="unsafe")
    with safetensors.safe_open(file.name, "np") as package:
        # The package silently drops one of two tensors with the same name, and it sorts the names.
        header = json.loads(text, object_pairs_hook=_no_duplicates)
        names = json.loads(header.pop("__metadata__", {}).get(_ORDER, "[]"))
        for name, info in header.items():
            if info["dtype"] not in _SAFETENSORS:
                raise CheckpointError(
                    f"{name[:100]} has type {info['dtype']}: convert it to F32 and save it again", code="format"
                )
        arrays = {name: package.get_tensor(name) for name in (names if sorted(names) == sorted(header) else header)}
    return {n: a.view(np.uint8) != 0 if a.dtype.kind == "b" else a for n, a in arrays.items()}


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise CheckpointError("a name occurs twice in its header: damaged or forged", code="unsafe")
    return result


def _write_safetensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        if array.dtype not in DTYPES or name == "__metadata__":
            raise CheckpointError(
                f"{name} has type {array.dtype}; .safetensors files take {', '.join(_SAFETENSORS)}", code="mismatch"
            )
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # The package's save_file hides errno, which tells a full disk from other errors.
    path.write_bytes(safetensors.numpy.save(contiguous, {_ORDER: json.dumps(list(tensors))}))
