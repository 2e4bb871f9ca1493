"""Reads and writes PyTorch weight files without PyTorch: the two containers of the pickle and of the raw values.

Zip (torch 1.6 and later): NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder. Legacy: pickles of a magic
number, a version, a description of the machine, the object and the list of storage keys; then each storage as an 8-byte
count and its values, little-endian. torch_pickle.py reads and writes the pickle.
"""

import itertools
import math
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, cast

import numpy as np

from jaxiqa.errors import CheckpointError
from jaxiqa.weights import torch_pickle
from jaxiqa.weights.torch_pickle import Storage, Tensor

_MAX_ENTRIES = 100_000
_AGAIN = "the file is damaged or cut off: download or save it again"
_MAGIC = 0x1950A86A20F9469CFC6C
_EXTRA_MEMORY = 64 << 20  # bytes by which tensors may exceed twice the file: enough for a few expanded tensors
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "params")


def open_zip(file: BinaryIO, file_size: int) -> zipfile.ZipFile:
    """Opens a zip file whose entries are plain, do not overlap and stay inside the file; zipfile checks the rest.

    Raises:
      CheckpointError: the file has anything that a plain zip file of weights does not have.
    """
    file.seek(max(0, file_size - 98))
    tail = file.read(98).rjust(98, b"\0")
    if tail[-22:-14] != b"PK\5\6\0\0\0\0" or tail[-2:] != b"\0\0":
        raise CheckpointError(f"the end of a zip file is missing, or bytes follow it; {_AGAIN}", code="damaged")
    is_zip64 = tail[-42:-38] == b"PK\6\7" and tail[:4] == b"PK\6\6"
    count, size = struct.unpack("<QQ", tail[32:48]) if is_zip64 else struct.unpack("<HL", tail[-12:-6])
    if count > _MAX_ENTRIES or size > torch_pickle.MAX_BYTES:
        raise CheckpointError(
            f"it has {count} zip entries, far more than weights need: not a weight file", code="unsafe"
        )
    archive = zipfile.ZipFile(file, metadata_encoding="utf-8")
    infos = archive.infolist()
    for info in infos:
        name = info.orig_filename
        has_name = name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))
        stored = (info.compress_type, info.compress_size) == (zipfile.ZIP_STORED, info.file_size)
        encrypted = info.flag_bits & 0x2041
        if not has_name or encrypted or not (stored or info.compress_type == zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"zip entry {name[:100]!r} has a name, a compression or a size that weights never have", code="unsafe"
            )
    if len(archive.NameToInfo) < len(infos):
        raise CheckpointError("two zip entries have the same name: damaged or forged", code="unsafe")
    # Each span goes from an entry's header to at least the end of its bytes, between 0 and the start of the directory.
    spans = sorted((i.header_offset, i.header_offset + 30 + len(i.orig_filename) + i.compress_size) for i in infos)
    pairs = itertools.pairwise([(0, 0), *spans, (archive.start_dir, 0)])
    if len(infos) != count or not infos or spans[0][0] or any(before[1] > after[0] for before, after in pairs):
        raise CheckpointError(f"its zip entries overlap, or differ from its directory; {_AGAIN}", code="damaged")
    return archive


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Returns an entry's inflated bytes as uint8; zipfile checks the checksum. The caller must bound the size."""
    data = np.empty(info.file_size, np.uint8)
    with archive.open(info) as stream:
        if cast(zipfile.ZipExtFile, stream).readinto(data.data) != info.file_size:
            raise CheckpointError(f"zip entry {info.filename[:100]!r} is cut off; {_AGAIN}", code="damaged")
    return data


def read_zip(archive: zipfile.ZipFile, file_size: int, key: str | None) -> dict[str, np.ndarray]:
    """Reads {name: tensor} from a zip file that torch.save wrote; `key` as for files.read_tensors."""
    entries = archive.NameToInfo
    prefix = next(iter(entries)).split("/")[0] + "/"
    if prefix + "constants.pkl" in entries or any(name.startswith(prefix + "code/") for name in entries):
        raise CheckpointError(
            "a TorchScript archive is a program: save module.state_dict() with torch.save in PyTorch", code="unsafe"
        )
    if any(i.compress_type for i in entries.values()) or not all(name.startswith(prefix) for name in entries):
        raise CheckpointError(
            "its zip entries are compressed or in several folders: save it again with torch.save", code="format"
        )
    order: str = sys.byteorder
    if prefix + "byteorder" in entries:
        order = {b"little": "little", b"big": "big"}[_small(archive, prefix + "byteorder")]
    tree, _, _ = torch_pickle.read_object(_small(archive, prefix + "data.pkl"))

    def read(storage: Storage) -> np.ndarray:
        info = entries.get(f"{prefix}data/{storage.key}")
        if info is None or info.file_size != storage.nbytes:
            raise CheckpointError(
                f"storage {storage.key[:100]!r} is missing or has another size; {_AGAIN}", code="damaged"
            )
        return read_entry(archive, info)

    return _arrays(_choose(tree, key), file_size, read, swap=order != sys.byteorder)


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > torch_pickle.MAX_BYTES:
        raise CheckpointError(
            "its pickle has far more bytes than weights need: save the state_dict alone", code="unsafe"
        )
    return archive.read(name)


def read_legacy(file: BinaryIO, file_size: int, key: str | None) -> dict[str, np.ndarray]:
    """Reads {name: tensor} from a file in the format of torch before 1.6; `key` as for files.read_tensors."""
    file.seek(0)
    data = file.read(torch_pickle.MAX_BYTES)
    magic, _, at = torch_pickle.read_object(data)
    version, _, at = torch_pickle.read_object(data, at)
    if (magic, version) != (_MAGIC, 1001):
        raise CheckpointError(
            "it is a pickle that torch.save did not write: save a state_dict with torch.save", code="format"
        )
    machine, _, at = torch_pickle.read_object(data, at)
    if machine["little_endian"] is not True:
        raise CheckpointError(
            "it was saved on a big-endian machine: load it in PyTorch and save it again", code="format"
        )
    tree, storages, at = torch_pickle.read_object(data, at)
    keys, _, at = torch_pickle.read_object(data, at)
    if type(keys) is not list or sorted(keys) != sorted(storages):
        raise CheckpointError(f"its list of storages does not fit its tensors; {_AGAIN}", code="damaged")
    offsets = {}
    for name in keys:
        storage = storages[name]
        file.seek(at)
        if int.from_bytes(file.read(8), "little") != storage.numel or at + 8 + storage.nbytes > file_size:
            raise CheckpointError(
                f"storage {name[:100]} is cut off or does not have {storage.numel} values; {_AGAIN}", code="damaged"
            )
        offsets[name] = at + 8
        at += 8 + storage.nbytes
    if at != file_size:
        raise CheckpointError(f"it has {file_size - at} bytes after its last tensor; {_AGAIN}", code="damaged")

    def read(storage: Storage) -> np.ndarray:
        file.seek(offsets[storage.key])
        return np.fromfile(file, np.uint8, storage.nbytes)

    return _arrays(_choose(tree, key), file_size, read, swap=sys.byteorder == "big")


def _choose(tree: Any, key: str | None) -> dict[str, Tensor]:
    """Returns the tensors of the state_dict in a checkpoint; `key` names its entry."""
    if type(tree) in (list, tuple) and all(type(v) is Tensor for v in tree):
        tree = {str(i): v for i, v in enumerate(tree)}
    members = tree if isinstance(tree, dict) else {}
    found = {i: _state_dict(v) for i, v in {id(v): v for v in members.values()}.items()}  # each is searched once
    wrapped = {k: found[id(v)] for k, v in members.items() if found[id(v)]}
    choices = ", ".join(str(k)[:100] for k in list(wrapped)[:20]) or "none"
    if key is not None and key not in wrapped:
        raise CheckpointError(f"it has no entry {key!r} with tensors; it has: {choices}", code="not_found")
    for usual in _WRAPPERS if key is None else (key,):
        if usual in wrapped:
            return wrapped[usual]
    raw = [k for k in wrapped if "ema" not in str(k).lower().split("_")] or list(wrapped)
    if len(raw) > 1 or (raw and any(type(v) is Tensor for v in members.values())):
        raise CheckpointError(f"it holds several sets of tensors: choose one of its entries {choices}", code="missing")
    if not (tensors := wrapped[raw[0]] if raw else _state_dict(tree)):
        raise CheckpointError(
            "it holds no named tensors: save model.state_dict() with torch.save in PyTorch", code="format"
        )
    return tensors


def _state_dict(tree: object) -> dict[str, Tensor]:
    """Returns the tensors of a dict, {} if a tensor's key is not a string. Other values are ignored."""
    tensors = {k: v for k, v in tree.items() if type(v) is Tensor} if isinstance(tree, dict) else {}
    return tensors if all(type(k) is str for k in tensors) else {}


def _arrays(
    tensors: Mapping[str, Tensor], file_size: int, read: Callable[[Storage], np.ndarray], *, swap: bool
) -> dict[str, np.ndarray]:
    """Reads each storage once. Contiguous tensors share its memory; others are copied."""
    needed = sum(math.prod(t.shape) * t.dtype.itemsize for t in tensors.values())
    if needed > 2 * file_size + _EXTRA_MEMORY:
        raise CheckpointError(
            f"its tensors would take {needed} bytes, the file has {file_size}: damaged or forged", code="unsafe"
        )
    loaded, arrays = {}, {}
    for name, (storage, dtype, offset, shape, strides) in tensors.items():
        if (storage.key, dtype) not in loaded:
            data = read(storage)
            if swap:
                data = data.view(f"u{dtype.itemsize}").byteswap().view(np.uint8)
            loaded[storage.key, dtype] = data != 0 if dtype.kind == "b" else data
        if 0 in shape:
            arrays[name] = np.empty(shape, dtype)
            continue
        # The stride of an axis of length 1 has no meaning, and may be larger than NumPy accepts.
        steps = [s * dtype.itemsize if d > 1 else 0 for d, s in zip(shape, strides, strict=True)]
        array = np.ndarray(shape, dtype, loaded[storage.key, dtype], offset * dtype.itemsize, steps)
        arrays[name] = array if array.flags.c_contiguous else array.copy()
    return arrays


def write_zip(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes the file that torch.save writes for an OrderedDict of these tensors; equal tensors give equal bytes."""
    contents: dict[str, bytes | memoryview] = {
        "data.pkl": torch_pickle.write_state_dict(tensors),
        "byteorder": sys.byteorder.encode(),
    }
    raw = (np.ascontiguousarray(array).reshape(-1).view(np.uint8).data for array in tensors.values())
    contents |= {f"data/{i}": data for i, data in enumerate(raw)}
    contents["version"] = b"3\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            info = zipfile.ZipInfo(f"archive/{name}")  # with a fixed date, so that equal tensors give equal bytes
            padding = -(archive.start_dir + 30 + len(info.filename) + 4) % 64
            info.extra = struct.pack("<HH", 0x4246, padding) + bytes(padding)
            archive.writestr(info, data)
