"""Reads and writes PyTorch weight files without PyTorch: the two containers of the pickle and of the raw values.

Zip (torch 1.6 and later): NAME/data.pkl, NAME/data/KEY for each storage, NAME/byteorder. TorchScript
archives have more entries (torch_script.py). Legacy: pickles of a magic number, a version, a description of the
machine, the object and the list of storage keys; then each storage as an 8-byte count and its values, little-endian.
torch_pickle.py reads and writes the pickle.
"""

import itertools
import math
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from jaxiqa.errors import CheckpointError
from jaxiqa.weights import entries, torch_pickle, torch_script
from jaxiqa.weights.torch_pickle import Storage, Tensor, Unpickled, Unread

_MAX_ENTRIES = 100_000
_AGAIN = "the file is damaged or cut off: download or save it again"
_MAGIC = 0x1950A86A20F9469CFC6C
_EXTRA_MEMORY = 64 << 20  # bytes by which tensors may exceed twice the file: enough for a few expanded tensors
_MAX_PICKLE = 1 << 30  # bytes; a state_dict of 5000 tensors takes 1 MB, but tensors of a TPU are in the pickle itself
_MAX_LEGACY = 16 << 20  # bytes of all pickles of a legacy file
_MAX_DIRECTORY = 16 << 20


class Contents(NamedTuple):
    """What a weight file holds.

    Attributes:
      tensors: {name: array}, in the file's order and layout; {} if several entries may be meant. Tensors that share
        memory in the file may share it here.
      entries: {name: number of tensors} of the sets of tensors in a PyTorch file (jaxiqa/weights/entries.py); {} for
        other formats.
      entry: name of the entry that was read; "" if several may be meant, or the format has none.
      unknown: names of the classes and functions of all objects that are neither tensors nor plain data.
      prefix: what was removed from the front of all names.
    """

    tensors: dict[str, np.ndarray]
    entries: Mapping[str, int] = {}
    entry: str = ""
    unknown: Sequence[str] = ()
    prefix: str = ""

    def others(self) -> dict[str, int]:
        """The entries that were not read."""
        return {name: count for name, count in self.entries.items() if name != self.entry}


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
    if count > _MAX_ENTRIES or size > _MAX_DIRECTORY:
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


def read_zip(archive: zipfile.ZipFile, file_size: int, key: str | None) -> Contents:
    """Reads a zip file that torch.save or torch.jit.save wrote; `key` as for files.read_tensors."""
    files = archive.NameToInfo
    prefix = next(iter(files)).split("/")[0] + "/"
    script = torch_script.is_script(prefix, files)
    needed = [info for name, info in files.items() if not (script and name.startswith(prefix + torch_script.CODE))]
    if any(i.compress_type for i in needed) or not all(name.startswith(prefix) for name in files):
        raise CheckpointError(
            "its zip entries are compressed or in several folders: save it again with torch.save", code="format"
        )
    order: str = sys.byteorder
    if prefix + "byteorder" in files:
        order = {b"little": "little", b"big": "big"}[_small(archive, prefix + "byteorder")]
    unpickled = torch_pickle.read_object(_small(archive, prefix + "data.pkl"))
    if script:
        unpickled = unpickled._replace(tree=torch_script.state_dict(unpickled.tree))

    def read(storage: Storage) -> np.ndarray:
        info = files.get(f"{prefix}data/{storage.key}")
        if info is None or info.file_size != storage.nbytes:
            raise CheckpointError(
                f"storage {storage.key[:100]!r} is missing or has another size; {_AGAIN}", code="damaged"
            )
        return read_entry(archive, info)

    return _contents(unpickled, key, file_size, read, swap=order != sys.byteorder)


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _MAX_PICKLE:
        raise CheckpointError(
            "its pickle has far more bytes than weights need: save the state_dict alone", code="unsafe"
        )
    return archive.read(name)


def read_legacy(file: BinaryIO, file_size: int, key: str | None) -> Contents:
    """Reads a file in the format of torch before 1.6; `key` as for files.read_tensors."""
    file.seek(0)
    data = file.read(_MAX_LEGACY)
    magic, _, _, at = torch_pickle.read_object(data)
    if magic != _MAGIC:
        raise CheckpointError(
            "it is a pickle that torch.save did not write: save a state_dict with torch.save", code="format"
        )
    version, _, _, at = torch_pickle.read_object(data, at)
    if version != 1001:
        raise CheckpointError(
            f"torch.save of an unknown version ({str(version)[:20]}) wrote it: load it in PyTorch and save it again",
            code="format",
        )
    machine, _, _, at = torch_pickle.read_object(data, at)
    if machine["little_endian"] is not True:
        raise CheckpointError(
            "it was saved on a big-endian machine: load it in PyTorch and save it again", code="format"
        )
    unpickled = torch_pickle.read_object(data, at)
    storages = unpickled.storages
    keys, _, _, at = torch_pickle.read_object(data, unpickled.end)
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

    return _contents(unpickled, key, file_size, read, swap=sys.byteorder == "big")


def _contents(
    unpickled: Unpickled, key: str | None, file_size: int, read: Callable[[Storage], np.ndarray], *, swap: bool
) -> Contents:
    found = entries.find(unpickled.tree)
    if not found:
        raise entries.refuse_none(unpickled.tree)
    path = entries.choose(found, key)
    tensors = {} if path is None else found[path]
    for name, tensor in tensors.items():
        if isinstance(tensor, Unread):
            raise CheckpointError(f"{name[:200]} {tensor.why}", code="format")
    counts = {entries.name_of(p): len(found[p]) for p in found}
    arrays = _arrays(cast(dict[str, Tensor], tensors), file_size, read, swap=swap)
    return Contents(arrays, counts, "" if path is None else entries.name_of(path), unpickled.unknown)


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
        place = (storage.key if storage.data is None else id(storage.data), dtype)
        if place not in loaded:
            data = read(storage) if storage.data is None else np.frombuffer(storage.data, np.uint8)
            if swap and storage.data is None:
                data = data.view(f"u{dtype.itemsize}").byteswap().view(np.uint8)
            loaded[place] = data != 0 if dtype.kind == "b" else data
        if 0 in shape:
            arrays[name] = np.empty(shape, dtype)
            continue
        # The stride of an axis of length 1 has no meaning, and may be larger than NumPy accepts.
        steps = [s * dtype.itemsize if d > 1 else 0 for d, s in zip(shape, strides, strict=True)]
        array = np.ndarray(shape, dtype, loaded[place], offset * dtype.itemsize, steps)
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
