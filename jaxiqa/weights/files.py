"""Weight files to {name: array} and back: PyTorch (zip and legacy), safetensors, NumPy, told apart by their bytes."""

import contextlib
import hashlib
import io
import json
import math
import os
import pathlib
import stat
import zipfile
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import numpy as np
import safetensors.numpy

from jaxiqa.errors import CheckpointError, printable
from jaxiqa.weights import torch_file
from jaxiqa.weights.torch_pickle import BFLOAT16, DTYPES

_FORMATS = "PyTorch (.pth, .pt), .safetensors and .npz files are read"
_SAFETENSORS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel, torch.compile
_ORDER = "jaxiqa.names"  # key of .safetensors metadata: the names in their order, which the format does not keep
_MAX_NAME = 1000
_MAX_HEADER = 4 << 20  # bytes of JSON, which may take 30 times as much as Python objects; 10,000 tensors take 1 MB
_MAX_RATIO = 16  # of an .npz file's arrays to the file; trained weights hardly shrink


def read_tensors(path: str | os.PathLike, key: str | None = None) -> dict[str, np.ndarray]:
    """The named tensors of a weight file, in the file's order, names and layout.

    A checkpoint with the weights under an entry ("state_dict", "model", "params" and so on) is unwrapped, raw weights
    before averaged (EMA) ones; "module." and "_orig_mod." are taken off if all names have them. Numbers and other
    entries are left out; no value is checked. Tensors that share memory in the file may share it here.

    Args:
      path: the file; its extension does not matter.
      key: the entry to take from a PyTorch file that holds several.

    Raises:
      CheckpointError: the file cannot be read, is damaged, or asks for anything but tensors. One line, with the path.
    """
    with _opened(path) as (file, size):
        return _without_prefix(_read(file, size, key))


def file_sha256(path: str | os.PathLike) -> str:
    """64 hex digits over a file's bytes. Raises CheckpointError if it cannot be read."""
    with _opened(path) as (file, _):
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes {name: array} so that PyTorch or safetensors load it; the extension chooses: .pth, .pt or .safetensors.

    The file appears complete or not at all, and equal tensors give equal bytes.

    Raises:
      CheckpointError: another extension, a dtype the format does not have, or a place that cannot be written.
    """
    writers = {".pth": torch_file.write_zip, ".pt": torch_file.write_zip, ".safetensors": _write_safetensors}
    beside = pathlib.Path(f"{os.fspath(path)}.{os.getpid()}.partial")
    try:
        suffix = pathlib.Path(path).suffix
        if suffix not in writers:
            raise CheckpointError(f"{suffix or 'no extension'} is no format to write: use {', '.join(writers)}")
        arrays = {name: np.asarray(array) for name, array in tensors.items()}
        native = {n: a if a.dtype.isnative else a.astype(a.dtype.newbyteorder("=")) for n, a in arrays.items()}
        writers[suffix](beside, native)
        os.replace(beside, path)
    except CheckpointError as error:
        raise _refusal(path, str(error)) from error
    except (OSError, ValueError) as error:  # ValueError: a name that is no UTF-8, a path with a zero byte
        raise _refusal(path, f"cannot be written ({getattr(error, 'strerror', None) or error})") from error
    finally:
        with contextlib.suppress(OSError, ValueError):
            beside.unlink()


@contextlib.contextmanager
def _opened(path: str | os.PathLike) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size; whatever goes wrong with it becomes one line."""
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise CheckpointError("it is not a file: give the path of one weight file")
        with open(path, "rb") as file:
            yield file, info.st_size
    except CheckpointError as error:
        raise _refusal(path, str(error)) from error
    except OSError as error:
        raise _refusal(path, f"cannot be read ({error.strerror}): check the path") from error
    except Exception as error:  # whatever damaged bytes may cause, from struct.error to MemoryError
        what = f"{type(error).__name__}: {str(error)[:200]}"
        raise _refusal(path, f"the file is damaged ({what}): download or save it again") from error


def _refusal(path: str | os.PathLike, message: str) -> CheckpointError:
    return CheckpointError(printable(f"{os.fspath(path)}: {message}"[:2000]))


def _read(file: BinaryIO, size: int, key: str | None) -> dict[str, np.ndarray]:
    start = file.read(512)
    if start.startswith(b"PK\3\4"):
        archive = torch_file.open_zip(file, size)
        if any(name.endswith("/data.pkl") for name in archive.namelist()):
            return torch_file.read_zip(archive, size, key)
        if not all(name.endswith(".npy") for name in archive.namelist()):
            raise CheckpointError(f"it is a zip file, but of neither PyTorch nor NumPy; {_FORMATS}")
        tensors = _read_npz(archive, size)
    elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:  # may begin with the next one's byte
        tensors = _read_safetensors(file)
    elif start.startswith(b"\x80"):
        return torch_file.read_legacy(file, size, key)
    else:
        raise CheckpointError(f"{_what_else(start)}; {_FORMATS}")
    if key is not None:
        raise CheckpointError(f"only PyTorch files have entries to choose from: leave out {key!r}")
    return tensors


def _without_prefix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if any(len(name) > _MAX_NAME for name in tensors):
        raise CheckpointError(f"a tensor's name has over {_MAX_NAME} characters: damaged or forged")
    while prefix := next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


def _what_else(start: bytes) -> str:
    if not start:
        return "the file is empty: download it again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS and not the file itself: run git lfs pull"
    if start.lstrip()[:1] == b"<":
        return "it is a web page and not a weight file: download it again"
    if start[257:262] == b"ustar":
        return "it is a tar archive: take the weight file out of it, or load and save it again in PyTorch"
    return "it is not a weight file of a known format, or is damaged at its start"


def _read_npz(archive: zipfile.ZipFile, size: int) -> dict[str, np.ndarray]:
    needed = sum(info.file_size for info in archive.infolist())
    if needed > _MAX_RATIO * size + (64 << 20):
        raise CheckpointError(f"its arrays would take {needed} bytes, the file has {size}: damaged or forged")
    entries = {info.filename: torch_file.read_entry(archive, info) for info in archive.infolist()}
    return {name.removesuffix(".npy"): _array(name, data) for name, data in entries.items()}


def _array(name: str, data: np.ndarray) -> np.ndarray:
    """The array in the bytes of an .npy file."""
    header = io.BytesIO(data[: 1 << 16].tobytes())
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, fortran, dtype = readers[np.lib.format.read_magic(header)](header)
    native = BFLOAT16 if dtype == np.dtype("V2") else dtype.newbyteorder("=")  # NumPy stores bfloat16 without its name
    if native not in DTYPES:
        raise CheckpointError(f"{name} is of type {str(dtype)[:100]}: only arrays of numbers are read")
    data = data[header.tell() :]
    if any(type(d) is not int or d < 0 for d in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise CheckpointError(f"{name} has not the size of its shape: the file is damaged, save it again")
    values = (data != 0 if native.kind == "b" else data).view(native if dtype.kind == "V" else dtype)
    return values.reshape(shape, order="F" if fortran else "C").astype(native, "C", copy=False)


def _read_safetensors(file: BinaryIO) -> dict[str, np.ndarray]:
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER:
        raise CheckpointError(f"its header has {length} bytes, far more than weights need: damaged or forged")
    with safetensors.safe_open(file.name, "np") as package:
        # The package drops one of two tensors of the same name in silence, and sorts the names.
        header = json.loads(file.read(length), object_pairs_hook=_no_twins)
        names = json.loads(header.pop("__metadata__", {}).get(_ORDER, "[]"))
        for name, info in header.items():
            if info["dtype"] not in _SAFETENSORS:
                raise CheckpointError(f"{name[:100]} is of type {info['dtype']}: convert it to F32 and save it again")
        arrays = {name: package.get_tensor(name) for name in (names if sorted(names) == sorted(header) else header)}
    return {n: a.view(np.uint8) != 0 if a.dtype.kind == "b" else a for n, a in arrays.items()}


def _no_twins(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise CheckpointError("a name occurs twice in its header: a damaged or forged file")
    return result


def _write_safetensors(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    for name, array in tensors.items():
        if array.dtype not in DTYPES or name == "__metadata__":
            raise CheckpointError(f"{name} is of type {array.dtype}; .safetensors files take {', '.join(_SAFETENSORS)}")
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    # Not by the package's save_file: it hides the number of the system's error, by which a full disk is known.
    path.write_bytes(safetensors.numpy.save(contiguous, {_ORDER: json.dumps(list(tensors))}))
