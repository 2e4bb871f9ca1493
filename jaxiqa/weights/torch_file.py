"""PyTorch weight files without PyTorch: the two containers around the pickle (torch_pickle.py) and the raw values.

Zip (torch 1.6 and later): NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder. Legacy: the pickles of a magic
number, a version, a description of the machine, the object and the list of storage keys; then each storage as an 8-byte
count and its values, little-endian.
"""

import itertools
import math
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import BinaryIO

import numpy as np

from jaxiqa.errors import CheckpointError
from jaxiqa.weights import torch_pickle
from jaxiqa.weights.torch_pickle import Storage, Tensor

_MAX_ENTRIES = 100_000
_AGAIN = "the file is damaged or cut off: download or save it again"
_MAGIC = 0x1950A86A20F9469CFC6C
_EXTRA_MEMORY = 64 << 20  # bytes by which tensors may exceed twice the file: a few expanded tensors, no bomb
_WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "params")


def open_zip(file: BinaryIO, file_size: int) -> zipfile.ZipFile:
    """A zip file of plain entries, none of which overlaps another or reaches outside; zipfile checks the rest.

    Raises:
      CheckpointError: anything that a plain zip file of weights does not have.
    """
    file.seek(max(0, file_size - 98))
    tail = file.read(98).rjust(98, b"\0")
    if tail[-22:-14] != b"PK\5\6\0\0\0\0" or tail[-2:] != b"\0\0":
        raise CheckpointError(f"the end of a zip file is missing, or something stands behind it; {_AGAIN}")
    is_zip64 = tail[-42:-38] == b"PK\6\7" and tail[:4] == b"PK\6\6"
    count, size = struct.unpack("<QQ", tail[32:48]) if is_zip64 else struct.unpack("<HL", tail[-12:-6])
    if count > _MAX_ENTRIES or size > torch_pickle.MAX_BYTES:
        raise CheckpointError(f"it has {count} zip entries, far more than weights need: not a weight file")
    archive = zipfile.ZipFile(file, metadata_encoding="utf-8")
    infos = archive.infolist()
    for info in infos:
        name = info.orig_filename
        has_name = name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))
        stored = (info.compress_type, info.compress_size) == (zipfile.ZIP_STORED, info.file_size)
        encrypted = info.flag_bits & 0x2041
        if not has_name or encrypted or not (stored or info.compress_type == zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"zip entry {name[:100]!r} has a name, a compression or a size that weights never have"
            )
    if len(archive.NameToInfo) < len(infos):
        raise CheckpointError(f"the name of a zip entry occurs twice; {_AGAIN}")
    # From the header of one entry to at least the end of its bytes, the first from 0, the last to the directory.
    spans = sorted((i.header_offset, i.header_offset + 30 + len(i.orig_filename) + i.compress_size) for i in infos)
    pairs = itertools.pairwise([(0, 0), *spans, (archive.start_dir, 0)])
    if len(infos) != count or not infos or spans[0][0] or any(before[1] > after[0] for before, after in pairs):
        raise CheckpointError(f"its zip entries overlap, or are not as many and where its directory says; {_AGAIN}")
    return archive


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """uint8 array of an entry's bytes, inflated, with the right checksum; the caller has bounded its size."""
    data = np.empty(info.file_size, np.uint8)
    with archive.open(info) as stream:
        if stream.readinto(data) != info.file_size:
            raise CheckpointError(f"zip entry {info.filename[:100]!r} is cut off; {_AGAIN}")
    return data


def read_zip(archive: zipfile.ZipFile, file_size: int, key: str | None) -> dict[str, np.ndarray]:
    """{name: tensor} of a zip file that torch.save wrote; `key` as for files.read_tensors."""
    entries = archive.NameToInfo
    prefix = next(iter(entries)).split("/")[0] + "/"
    if prefix + "constants.pkl" in entries or any(name.startswith(prefix + "code/") for name in entries):
        raise CheckpointError("a TorchScript archive is a program: save module.state_dict() with torch.save in PyTorch")
    if any(i.compress_type for i in entries.values()) or not all(name.startswith(prefix) for name in entries):
        raise CheckpointError("its zip entries are compressed or in several folders: save it again with torch.save")
    order = sys.byteorder
    if prefix + "byteorder" in entries:
        order = {b"little": "little", b"big": "big"}[_small(archive, prefix + "byteorder")]
    tree, _, _ = torch_pickle.read_object(_small(archive, prefix + "data.pkl"))

    def read(storage: Storage) -> np.ndarray:
        info = entries.get(f"{prefix}data/{storage.key}")
        if info is None or info.file_size != storage.nbytes:
            raise CheckpointError(f"storage {storage.key[:100]!r} is missing or of another size; {_AGAIN}")
        return read_entry(archive, info)

    return _arrays(_choose(tree, key), file_size, read, swap=order != sys.byteorder)


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > torch_pickle.MAX_BYTES:
        raise CheckpointError("its pickle has far more bytes than weights need: save the state_dict alone")
    return archive.read(name)


def read_legacy(file: BinaryIO, file_size: int, key: str | None) -> dict[str, np.ndarray]:
    """{name: tensor} of a file in the format of torch before 1.6; `key` as for files.read_tensors."""
    file.seek(0)
    data = file.read(torch_pickle.MAX_BYTES)
    magic, _, at = torch_pickle.read_object(data)
    version, _, at = torch_pickle.read_object(data, at)
    if (magic, version) != (_MAGIC, 1001):
        raise CheckpointError("it is a pickle, but none that torch.save wrote: save a state_dict with torch.save")
    machine, _, at = torch_pickle.read_object(data, at)
    if machine["little_endian"] is not True:
        raise CheckpointError("it comes from a big-endian machine: load it in PyTorch there or here, and save it again")
    tree, storages, at = torch_pickle.read_object(data, at)
    keys, _, at = torch_pickle.read_object(data, at)
    if type(keys) is not list or sorted(keys) != sorted(storages):
        raise CheckpointError(f"its list of storages does not fit its tensors; {_AGAIN}")
    offsets = {}
    for name in keys:
        storage = storages[name]
        file.seek(at)
        if int.from_bytes(file.read(8), "little") != storage.numel or at + 8 + storage.nbytes > file_size:
            raise CheckpointError(f"storage {name[:100]} is cut off or not of {storage.numel} values; {_AGAIN}")
        offsets[name] = at + 8
        at += 8 + storage.nbytes
    if at != file_size:
        raise CheckpointError(f"it has {file_size - at} bytes behind its last tensor; {_AGAIN}")

    def read(storage: Storage) -> np.ndarray:
        file.seek(offsets[storage.key])
        return np.fromfile(file, np.uint8, storage.nbytes)

    return _arrays(_choose(tree, key), file_size, read, swap=sys.byteorder == "big")


def _choose(tree: object, key: str | None) -> dict[str, Tensor]:
    """The tensors of the state_dict in a checkpoint; `key` names its entry."""
    if type(tree) in (list, tuple) and all(type(v) is Tensor for v in tree):
        tree = {str(i): v for i, v in enumerate(tree)}
    members = tree if isinstance(tree, dict) else {}
    found = {i: _state_dict(v) for i, v in {id(v): v for v in members.values()}.items()}  # each looked at once
    wrapped = {k: found[id(v)] for k, v in members.items() if found[id(v)]}
    choices = ", ".join(str(k)[:100] for k in list(wrapped)[:20]) or "none"
    if key is not None and key not in wrapped:
        raise CheckpointError(f"it has no entry {key!r} with tensors: choose one of {choices}")
    for usual in _WRAPPERS if key is None else (key,):
        if usual in wrapped:
            return wrapped[usual]
    raw = [k for k in wrapped if "ema" not in str(k).lower().split("_")] or list(wrapped)
    if len(raw) > 1 or (raw and any(type(v) is Tensor for v in members.values())):
        raise CheckpointError(f"it holds several sets of tensors: name one of its entries {choices}")
    if not (tensors := wrapped[raw[0]] if raw else _state_dict(tree)):
        raise CheckpointError("it holds no named tensors: save model.state_dict() with torch.save in PyTorch")
    return tensors


def _state_dict(tree: object) -> dict[str, Tensor]:
    """The tensors of a dict that has all of them under strings, otherwise {}; its other leaves are not read."""
    tensors = {k: v for k, v in tree.items() if type(v) is Tensor} if isinstance(tree, dict) else {}
    return tensors if all(type(k) is str for k in tensors) else {}


def _arrays(
    tensors: Mapping[str, Tensor], file_size: int, read: Callable[[Storage], np.ndarray], *, swap: bool
) -> dict[str, np.ndarray]:
    """Reads each storage once; contiguous tensors share its memory, others are copied."""
    needed = sum(math.prod(t.shape) * t.dtype.itemsize for t in tensors.values())
    if needed > 2 * file_size + _EXTRA_MEMORY:
        raise CheckpointError(f"its tensors would take {needed} bytes, the file has {file_size}: damaged or forged")
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
        # A stride along a single value says nothing, and may be beyond what NumPy accepts.
        strides = [s * dtype.itemsize if d > 1 else 0 for d, s in zip(shape, strides, strict=True)]
        array = np.ndarray(shape, dtype, loaded[storage.key, dtype], offset * dtype.itemsize, strides)
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
