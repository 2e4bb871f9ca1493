"""PyTorch weight files without PyTorch: the two containers around the pickle (torch_pickle.py) and the raw values.

Zip (torch 1.6 and later): NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder. Legacy: the pickles of a magic
number, a version, a description of the machine, the object and the list of storage keys; then each storage as an 8-byte
count and its values, little-endian. The checks here hold for every zip file: one that they accept has no entry that
overlaps another, reaches outside the file, has two names or another size than it says.
"""

import dataclasses
import itertools
import math
import pathlib
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from jaxiqa.errors import CheckpointError
from jaxiqa.weights import torch_pickle
from jaxiqa.weights.torch_pickle import Storage, Stream, Tensor

_MAX_ENTRIES = 100_000
_AGAIN = "the file is damaged or cut off: download or save it again"
_MAGIC = 0x1950A86A20F9469CFC6C
_EXTRA_MEMORY = 64 << 20  # bytes by which tensors may exceed twice the file: a few expanded tensors, no bomb
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "params")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """`stored` bytes at `offset` of the file, which are `size` bytes when inflated; crc is None where there is none."""

    offset: int
    stored: int
    size: int
    crc: int | None
    deflated: bool = False


def read_at(file: BinaryIO, offset: int, size: int) -> np.ndarray:
    """uint8 array of `size` bytes; the caller has checked that the file is that long."""
    data = np.empty(size, np.uint8)
    file.seek(offset)
    if file.readinto(data) != size:
        raise CheckpointError(_AGAIN)
    return data


def read_entry(file: BinaryIO, entry: Entry) -> np.ndarray:
    """uint8 array of the entry's bytes, inflated, with the right checksum; the caller has bounded entry.size."""
    data = read_at(file, entry.offset, entry.stored)
    if entry.deflated:
        data = _inflate(data, entry.size)
    if entry.crc is not None and zlib.crc32(data) != entry.crc:
        raise CheckpointError(f"a checksum is wrong; {_AGAIN}")
    return data


def _inflate(data: np.ndarray, size: int) -> np.ndarray:
    """Piece by piece, so that a bomb stops at one byte too many."""
    inflater, inflated, end = zlib.decompressobj(-15), np.empty(size, np.uint8), 0
    for at in range(0, len(data), 1 << 16):
        piece = np.frombuffer(inflater.decompress(data[at : at + (1 << 16)], size - end + 1), np.uint8)
        if end + len(piece) > size or inflater.unused_data:
            break
        inflated[end : end + len(piece)] = piece
        end += len(piece)
    if end != size or not inflater.eof or inflater.unused_data:
        raise CheckpointError(f"a compressed entry has not the size it declares; {_AGAIN}")
    return inflated


def zip_entries(file: BinaryIO, file_size: int) -> dict[str, Entry]:
    """The entries of a zip file by name, in the order of its directory.

    Raises:
      CheckpointError: anything that a plain zip file of weights does not have.
    """
    start, stop, count = _directory(file, file_size)
    directory = read_at(file, start, stop - start).tobytes()
    entries, spans, at = {}, [], 0
    for _ in range(count):
        sign, flags, method, crc, stored, size, n_name, n_extra, n_note, offset = struct.unpack_from(
            "<4s4xHH4xLLLHHH8xL", directory, at
        )
        name = directory[at + 46 : at + 46 + n_name].decode()
        extra = directory[at + 46 + n_name : at + 46 + n_name + n_extra]
        size, stored, offset = _zip64(extra, size, stored, offset)
        at += 46 + n_name + n_extra + n_note
        parts = name.split("/")
        if sign != b"PK\1\2" or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts):
            raise CheckpointError(
                f"zip entry {name[:100]!r} has a name that no weight file has: a damaged or forged file"
            )
        if name in entries:
            raise CheckpointError(f"zip entry {name[:100]!r} occurs twice: a damaged or forged file")
        if flags & 0x2041 or method not in (0, 8) or (method == 0 and size != stored):
            raise CheckpointError(
                f"zip entry {name[:100]!r} is encrypted or compressed in a way that is not read; {_AGAIN}"
            )
        data = _check_local(file, file_size, offset, name, flags, method, (crc, stored, size))
        spans.append((offset, data + stored))
        entries[name] = Entry(data, stored, size, crc, deflated=method == 8)
    spans = [(0, 0), *sorted(spans), (start, start)]
    if at != len(directory) or spans[1][0] != 0 or any(b[0] < a[1] for a, b in itertools.pairwise(spans)):
        raise CheckpointError(f"its zip entries overlap, or something stands before them; {_AGAIN}")
    return entries


def _directory(file: BinaryIO, file_size: int) -> tuple[int, int, int]:
    """Start, end and number of entries of the zip directory, which must end where its end records begin."""
    tail = read_at(file, max(0, file_size - 98), min(98, file_size)).tobytes().rjust(98, b"\0")
    sign, disks, count, size, start, note = struct.unpack("<4sL2xHLLH", tail[-22:])
    if sign != b"PK\5\6" or disks or note:
        raise CheckpointError(f"the end of a zip file is missing, or something stands behind it; {_AGAIN}")
    stop = file_size - 22
    if tail[-42:-38] == b"PK\6\7":
        stop -= 76
        found = struct.unpack("<4sQ4xLLQQQQ", tail[:56])
        at, total = struct.unpack("<QL", tail[-34:-22])
        short = zip((count, size, start), found[5:], (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True)
        if found[:4] != (b"PK\6\6", 44, 0, 0) or (at, total) != (stop, 1) or any(s not in (x, m) for s, x, m in short):
            raise CheckpointError(f"its zip64 end records contradict each other; {_AGAIN}")
        count, size, start = found[5:]
    if start + size != stop or stop < 0:
        raise CheckpointError(f"its zip directory is not where it should be; {_AGAIN}")
    if count > _MAX_ENTRIES or size > torch_pickle.MAX_BYTES:
        raise CheckpointError(f"it has {count} zip entries, far more than weights need: not a weight file")
    return start, stop, count


def _zip64(extra: bytes, *numbers: int) -> tuple[int, ...]:
    """size, stored, offset with those that stand at their maximum replaced by the 64-bit ones in the extra field."""
    if 0xFFFFFFFF not in numbers:
        return numbers
    at = 0
    while len(extra) - at >= 4:
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            long = iter(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            return tuple([next(long) if n == 0xFFFFFFFF else n for n in numbers])
        at += 4 + length
    return numbers


def _check_local(file, file_size: int, offset: int, name: str, flags: int, method: int, sums: tuple) -> int:
    """Where an entry's bytes start; its own header must say what the directory says of it (crc, stored, size)."""
    if offset + 30 > file_size:
        raise CheckpointError(f"zip entry {name[:100]!r} lies outside the file; {_AGAIN}")
    header = read_at(file, offset, 30).tobytes()
    sign, own_flags, own_method, crc, stored, size, n_name, n_extra = struct.unpack("<4s2xHH4xLLLHH", header)
    rest = file.read(n_name + n_extra)
    size, stored = _zip64(rest[n_name:], size, stored)
    later = flags & 8 and (crc, stored, size) == (0, 0, 0)  # written behind the bytes: torch does so
    if (
        (sign, own_flags, own_method) != (b"PK\3\4", flags, method)
        or rest[:n_name] != name.encode()
        or not (later or (crc, stored, size) == sums)
    ):
        raise CheckpointError(f"zip entry {name[:100]!r} contradicts the directory; {_AGAIN}")
    return offset + 30 + n_name + n_extra


def read_zip(file: BinaryIO, file_size: int, entries: Mapping[str, Entry], key: str | None) -> dict[str, np.ndarray]:
    """{name: tensor} of a zip file that torch.save wrote; `key` as for files.read_tensors."""
    prefix = next(iter(entries)).split("/")[0] + "/"
    if prefix + "constants.pkl" in entries or any(name.startswith(prefix + "code/") for name in entries):
        raise CheckpointError("a TorchScript archive is a program: save module.state_dict() with torch.save in PyTorch")
    if any(entry.deflated for entry in entries.values()) or not all(name.startswith(prefix) for name in entries):
        raise CheckpointError("its zip entries are compressed or in several folders: save it again with torch.save")
    order = sys.byteorder
    if prefix + "byteorder" in entries:
        order = {b"little": "little", b"big": "big"}[_small(file, entries[prefix + "byteorder"])]
    declared: dict[str, Storage] = {}
    tree = torch_pickle.read_object(Stream(_small(file, entries[prefix + "data.pkl"])), declared)
    data = prefix + "data/"
    places = {name.removeprefix(data): entry for name, entry in entries.items() if name.startswith(data)}
    return _arrays(file, file_size, _choose(tree, key), declared, places, swap=order != sys.byteorder)


def _small(file: BinaryIO, entry: Entry) -> bytes:
    if entry.size > torch_pickle.MAX_BYTES:
        raise CheckpointError(
            f"its pickle has {entry.size} bytes, far more than weights need: save the state_dict alone"
        )
    return read_entry(file, entry).tobytes()


def read_legacy(file: BinaryIO, file_size: int, key: str | None) -> dict[str, np.ndarray]:
    """{name: tensor} of a file in the format of torch before 1.6; `key` as for files.read_tensors."""
    stream = Stream(read_at(file, 0, min(file_size, torch_pickle.MAX_BYTES)).tobytes())
    if torch_pickle.read_object(stream) != _MAGIC or torch_pickle.read_object(stream) != 1001:
        raise CheckpointError("it is a pickle, but none that torch.save wrote: save a state_dict with torch.save")
    if torch_pickle.read_object(stream)["little_endian"] is not True:
        raise CheckpointError("it comes from a big-endian machine: load it in PyTorch there or here, and save it again")
    declared: dict[str, Storage] = {}
    tree = torch_pickle.read_object(stream, declared)
    keys, places, at = torch_pickle.read_object(stream), {}, stream.tell()
    if type(keys) is not list or sorted(keys) != sorted(declared):
        raise CheckpointError(f"its list of storages does not fit its tensors; {_AGAIN}")
    for name in keys:
        numel, nbytes = declared[name].numel, declared[name].numel * declared[name].dtype.itemsize
        if at + 8 + nbytes > file_size or int(read_at(file, at, 8).view("<i8")[0]) != numel:
            raise CheckpointError(f"storage {name[:100]} is cut off or not of {numel} values; {_AGAIN}")
        places[name] = Entry(at + 8, nbytes, nbytes, None)
        at += 8 + nbytes
    if at != file_size:
        raise CheckpointError(f"it has {file_size - at} bytes behind its last tensor; {_AGAIN}")
    return _arrays(file, file_size, _choose(tree, key), declared, places, swap=sys.byteorder == "big")


def _choose(tree: object, key: str | None) -> dict[str, Tensor]:
    """The tensors of the state_dict in a checkpoint; `key` names its entry."""
    members = tree if type(tree) is dict else {}
    good = {i for i, v in {id(v): v for v in members.values()}.items() if _is_state_dict(v)}  # each looked at once
    wrapped = {k: v for k, v in members.items() if id(v) in good}
    choices = ", ".join(str(k)[:100] for k in list(wrapped)[:20]) or "none"
    usual = [k for k in _WRAPPERS if k in wrapped]
    raw = [k for k in wrapped if "ema" not in str(k).lower().split("_")]
    if key is not None:
        if key not in wrapped:
            raise CheckpointError(f"it has no entry {key!r} with tensors: choose one of {choices}")
        tree = wrapped[key]
    elif usual:
        tree = wrapped[usual[0]]
    elif wrapped:
        wrapped = {k: wrapped[k] for k in raw or wrapped}
        if len(wrapped) > 1 or any(type(v) is Tensor for v in tree.values()):
            raise CheckpointError(f"it holds several sets of tensors: name one of its entries {choices}")
        (tree,) = wrapped.values()
    elif type(tree) in (list, tuple) and tree and all(type(v) is Tensor for v in tree):
        tree = {str(i): v for i, v in enumerate(tree)}
    if not _is_state_dict(tree):
        raise CheckpointError("it holds no named tensors: save model.state_dict() with torch.save in PyTorch")
    return {k: v for k, v in tree.items() if type(v) is Tensor}


def _is_state_dict(tree: object) -> bool:
    """A dict with tensors, all under strings; its numbers and other leaves are not read."""
    names = [k for k, v in tree.items() if type(v) is Tensor] if type(tree) is dict else []
    return bool(names) and all(type(k) is str for k in names)


def _arrays(file, file_size: int, tensors: Mapping[str, Tensor], declared, places, *, swap: bool):
    """Reads each storage once; contiguous tensors share its memory, others are copied."""
    needed = sum(math.prod(t.shape) * t.storage.dtype.itemsize for t in tensors.values())
    if needed > 2 * file_size + _EXTRA_MEMORY:
        raise CheckpointError(f"its tensors would take {needed} bytes, the file has {file_size}: damaged or forged")
    loaded, arrays = {}, {}
    for name, tensor in tensors.items():
        storage, itemsize = tensor.storage, tensor.storage.dtype.itemsize
        place, whole = places.get(storage.key), declared[storage.key]
        if place is None or place.size != whole.numel * whole.dtype.itemsize:
            raise CheckpointError(f"the values of {name[:100]!r} are missing or of another size; {_AGAIN}")
        if (storage.key, storage.dtype) not in loaded:
            data = read_entry(file, place)
            if swap:
                data = data.view(f"u{itemsize}").byteswap().view(np.uint8)
            loaded[storage.key, storage.dtype] = data != 0 if storage.dtype.kind == "b" else data
        if 0 in tensor.shape:
            arrays[name] = np.empty(tensor.shape, storage.dtype)
            continue
        # A stride along a single value says nothing, and may be beyond what NumPy accepts.
        strides = [s * itemsize if d > 1 else 0 for d, s in zip(tensor.shape, tensor.strides, strict=True)]
        start = (storage.start + tensor.offset) * itemsize
        array = np.ndarray(tensor.shape, storage.dtype, loaded[storage.key, storage.dtype], start, strides)
        arrays[name] = array if array.flags.c_contiguous else array.copy()
    return arrays


def write_zip(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """The file that torch.save writes for an OrderedDict of these tensors; equal tensors give equal bytes."""
    contents = {"data.pkl": torch_pickle.write_state_dict(tensors), "byteorder": sys.byteorder.encode()}
    raw = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in tensors.values())
    contents |= {f"data/{i}": memoryview(data) for i, data in enumerate(raw)} | {"version": b"3\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            info = zipfile.ZipInfo(f"archive/{name}")  # its date is fixed
            padding = -(archive.fp.tell() + 30 + len(info.filename) + 4) % 64
            info.extra = struct.pack("<HH", 0x4246, padding) + bytes(padding)
            archive.writestr(info, data)
