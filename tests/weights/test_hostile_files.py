"""Hostile files are refused with one line, run nothing and take little memory."""

import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest
import torch_writer as w
from refused import refused

from jaxiqa.errors import CheckpointError
from jaxiqa.weights.files import read_tensors

FOUR = np.arange(4, dtype=np.float32)
GOOD = w.mapping({"a": w.tensor()})


class Gadget:
    def __reduce__(self):
        return os.system, (f"touch {w.CANARY}",)


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def bomb(size, declared=None):
    """Returns deflated zeros, and the fields of a zip entry that holds them."""
    packer = zlib.compressobj(1, wbits=-15)
    crc, parts = 0, []
    for _ in range(size >> 20):
        crc = zlib.crc32(bytes(1 << 20), crc)
        parts.append(packer.compress(bytes(1 << 20)))
    data = b"".join([*parts, packer.flush()])
    return data, {"method": 8, "size": declared or size, "crc": crc}


def zips():
    good = w.zip_file(GOOD)
    base = {"x/data.pkl": w.pickled(GOOD), "x/data/0": FOUR.tobytes()}
    deflated, fields = bomb(4 << 20)
    inner, longer = w.archive({"x/data/0": b""}), len(base["x/data.pkl"]) + 300
    script = {"x/constants.pkl": b"", "x/code/a.py": b"import os"}
    both, central = (lambda **f: {"both": {"x/data/0": f}}), (lambda **f: {"central": {"x/data/0": f}})
    return {
        "zip: wrong checksum": (good.replace(FOUR.tobytes(), FOUR[::-1].tobytes()), "damaged", "CRC-32"),
        "zip: wrong checksum of the pickle": (good.replace(b"FloatStorage", b"IntStorage\n\n"), "damaged", "CRC-32"),
        "zip: entry twice": (w.archive([*base.items(), ("x/data/0", FOUR.tobytes())]), "unsafe", "same name"),
        "zip: pickle twice": (w.archive([*base.items(), ("x/data.pkl", w.pickled(b"N"))]), "unsafe", "same name"),
        "zip: ../ entry": (w.archive(base | {"x/../../y": b""}), "unsafe", "x/../../y"),
        "zip: absolute entry": (w.archive(base | {"/etc/y": b""}), "unsafe", "/etc/y"),
        "zip: Windows path": (w.archive(base | {"x\\y": b""}), "unsafe", "zip entry"),
        "zip: name with a line break": (w.archive(base | {"x/a\nb": b""}), "unsafe", "zip entry"),
        "zip: two folders": (w.archive(base | {"y/data.pkl": b""}), "format", "several folders"),
        "zip: other name in the directory": (w.archive(base, **central(name=b"x/data/1")), "damaged", "storage"),
        "zip: other size in the directory": (w.archive(base, **central(size=8, stored=8)), "damaged", "storage"),
        "zip: other checksum in the directory": (w.archive(base, **central(crc=1)), "damaged", "CRC-32"),
        "zip: other method in the directory": (w.archive(base, **central(method=8)), "format", "compressed"),
        "zip: two sizes": (w.archive(base, **both(size=2**31)), "unsafe", "zip entry"),
        "zip: size beyond the file": (w.archive(base, **both(size=2**31, stored=2**31)), "damaged", "overlap"),
        "zip: offset beyond the file": (w.archive(base, **central(offset=2**31)), "damaged", "overlap"),
        "zip: overlapping entries": (w.archive(base, **both(offset=0)), "damaged", "overlap"),
        "zip: entry inside an entry": (
            w.archive({"x/data.pkl": inner, "x/data/0": b""}, **central(offset=40)), "damaged", "overlap"
        ),
        "zip: entry over its successor": (
            w.archive(base, both={"x/data.pkl": {"size": longer, "stored": longer}}), "damaged", "overlap"
        ),
        "zip: encrypted": (w.archive(base, **both(flags=1)), "unsafe", "zip entry"),
        "zip: unknown method": (w.archive(base, **both(method=14)), "unsafe", "zip entry"),
        "zip: deflated": (w.archive(base | {"x/data/0": deflated}, **both(**fields)), "format", "compressed"),
        "zip: nothing in it": (b"PK\5\6" + bytes(18), "format", "empty zip file"),
        "zip: end only": (good[:30] + b"PK\5\6" + bytes(18), "damaged", "directory"),
        "zip: cut in the middle": (good[: len(good) // 2], "damaged", "end of a zip file"),
        "zip: cut at the end": (good[:-1], "damaged", "end of a zip file"),
        "zip: something behind it": (good + b"\0", "damaged", "end of a zip file"),
        "zip: comment": (w.zip_file(GOOD, comment=b"hello"), "damaged", "end of a zip file"),
        "zip: directory elsewhere": (changed(good, len(good) - 6, struct.pack("<L", 5)), "damaged", "directory"),
        "zip: more entries than listed": (changed(good, len(good) - 12, struct.pack("<H", 9)), "damaged", "directory"),
        "zip: fewer entries than listed": (changed(good, len(good) - 12, struct.pack("<H", 2)), "damaged", "overlap"),
        "zip: false zip64 record": (
            good[:-22] + b"PK\6\6" + bytes(52) + b"PK\6\7" + bytes(16) + good[-22:], "damaged", "directory"
        ),
        "zip: hidden start": (b"PK\3\4" + bytes(60) + good, "damaged", "directory"),
        "zip: storage missing": (w.zip_file(GOOD, {}), "damaged", "storage"),
        "zip: storage shorter": (w.zip_file(GOOD, {"0": FOUR[:3]}), "damaged", "storage"),
        "zip: storage longer": (w.zip_file(GOOD, {"0": np.ones(2**20)}), "damaged", "storage"),
        "zip: storage is another file": (
            w.zip_file(w.mapping({"a": w.tensor(w.storage("../../../etc/passwd"))})), "damaged", "storage"
        ),
        "zip: storage is no storage": (
            w.zip_file(w.mapping({"a": w.tensor(w.storage("x/version"))})), "damaged", "storage"
        ),
        "zip: TorchScript without a module": (w.zip_file(GOOD, extra=script), "format", "TorchScript"),
        "zip: unknown byte order": (w.zip_file(GOOD, extra={"x/byteorder": b"middle"}), "damaged"),
        "zip: no pickle": (w.archive({"x/data/0": b""}), "format", "zip file"),
        "zip: no folder": (w.archive({"data.pkl": w.pickled(GOOD)}), "format", "zip file"),
        "zip: Gadget": (w.zip_file(pickle.dumps(Gadget())[2:-1]), "unsafe", "posix.system"),
    }  # fmt: skip


def legacies():
    good = w.legacy_file(GOOD)
    two = {"0": FOUR, "1": FOUR}
    return {
        "legacy: plain pickle": (pickle.dumps(Gadget()), "unsafe", "posix.system"),
        "legacy: wrong magic": (w.legacy_file(GOOD, magic=5), "format", "torch.save"),
        "legacy: wrong version": (w.legacy_file(GOOD, version=1002), "format", "torch.save"),
        "legacy: big-endian": (w.legacy_file(GOOD, little_endian=False), "format", "big-endian"),
        "legacy: Gadget for a magic number": (pickle.dumps(Gadget()) + good, "unsafe", "posix.system"),
        "legacy: Gadget for the keys": (
            good[: good.rindex(b"\x80\x02")] + pickle.dumps(Gadget()),
            "unsafe",
            "posix.system",
        ),
        "legacy: count too large": (w.legacy_file(GOOD, counts={"0": 2**62}), "damaged", "4 values"),
        "legacy: count too small": (w.legacy_file(GOOD, counts={"0": 3}), "damaged", "4 values"),
        "legacy: negative count": (w.legacy_file(GOOD, counts={"0": -1}), "damaged", "4 values"),
        "legacy: count that both agree on": (
            w.legacy_file(w.mapping({"a": w.tensor(w.storage(numel=2**40), shape=(2**40,))}), counts={"0": 2**40}),
            "damaged",
            "cut off",
        ),
        "legacy: cut": (good[:-1], "damaged", "cut off"),
        "legacy: cut in the pickle": (good[:100], "damaged"),
        "legacy: something behind it": (good + b"\0", "damaged", "1 bytes"),
        "legacy: storage missing": (w.legacy_file(GOOD, {}), "damaged", "list of storages"),
        "legacy: storage too many": (w.legacy_file(GOOD, two), "damaged", "list of storages"),
        "legacy: storage twice": (w.legacy_file(GOOD, keys=["0", "0"]), "damaged", "list of storages"),
    }


def safetensors(header, data=bytes(16), length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def others():
    info = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    empty = {"shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}
    twin = json.dumps({"a": info}).encode()[:-1] + b", " + json.dumps({"a": info}).encode()[1:]
    tar, npy, objects = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO(b""))
    np.save(npy, FOUR)
    np.save(objects, np.array([Gadget()], object), allow_pickle=True)
    npy = npy.getvalue()
    large, fields = bomb(96 << 20)
    lies = bomb(8 << 20, declared=1000)

    def npy_header(shape):
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return file.getvalue()

    def npz(data, **fields):
        return w.archive({"a.npy": data}, both={"a.npy": fields})

    return {
        "safetensors: name twice": (safetensors(twin), "unsafe", "twice"),
        "safetensors: header beyond the file": (safetensors({"a": info}, length=2**40), "format", "known format"),
        "safetensors: huge header": (safetensors(b"{" + b" " * (5 << 20) + b"}"), "unsafe", "5242882 bytes"),
        "safetensors: many objects": (safetensors(b'{"a":[' + b"{}," * 1_300_000 + b"0]}"), "unsafe", "objects"),
        "safetensors: many dicts": (safetensors(b'{"a":[' + b'{"":0},' * 590_000 + b"0]}"), "unsafe", "objects"),
        "safetensors: deep header": (safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "damaged"),
        "safetensors: long number": (safetensors(b'{"a":' + b"9" * 100_000 + b"}"), "damaged"),
        "safetensors: no JSON": (safetensors(b"{'a'"), "damaged"),
        "safetensors: no UTF-8": (safetensors(b'{"\xff": 1}'), "damaged"),
        "safetensors: no object": (safetensors({"a": 5}), "damaged"),
        "safetensors: unknown type": (
            safetensors({"a": info | {"dtype": "F8_E4M3", "shape": [16]}}), "format", "F8_E4M3"
        ),
        "safetensors: cut": (safetensors({"a": info}, bytes(15)), "damaged", "not fully covered"),
        "safetensors: something behind it": (safetensors({"a": info}, bytes(17)), "damaged", "not fully covered"),
        "safetensors: huge shape": (
            safetensors({"a": info | {"shape": [2**40, 0, 2**40, 4]}}), "damaged", "invalid shape"
        ),
        "safetensors: other shape": (safetensors({"a": info | {"shape": [5]}}), "damaged", "invalid shape"),
        "safetensors: negative shape": (safetensors({"a": info | {"shape": [-2, -2]}}), "damaged", "`-2`"),
        "safetensors: negative place": (safetensors({"a": info | {"data_offsets": [-16, 0]}}), "damaged", "`-16`"),
        "safetensors: floating place": (
            safetensors({"a": info | {"data_offsets": [0.0, 16.0]}}), "damaged", "floating point"
        ),
        "safetensors: overlap": (safetensors({"a": info, "b": info}), "damaged", "invalid offset"),
        "safetensors: hole": (
            safetensors({"a": info | {"data_offsets": [4, 20]}}, bytes(20)), "damaged", "invalid offset"
        ),
        "safetensors: huge empty shape": (safetensors({"a": info | empty}, b""), "damaged", "overflow"),
        "safetensors: 65 dimensions": (safetensors({"a": info | {"shape": [1] * 64 + [4]}}), "damaged"),
        "safetensors: names": (safetensors({"a": info, "__metadata__": {"jaxiqa.names": "["}}), "damaged"),
        "npz: objects": (npz(objects.getvalue()), "unsafe", "object"),
        "npz: shape that lies": (npz(npy.replace(b"(4,)", b"(9,)")), "damaged", "a.npy"),
        "npz: huge shape": (npz(npy_header((2**40, 9))), "damaged", "a.npy"),
        "npz: huge empty shape": (npz(npy_header((2**62, 2**62, 0))), "damaged"),
        "npz: negative shape": (npz(npy_header((-2, -2)) + bytes(16)), "damaged", "a.npy"),
        "npz: code for a header": (npz(npy.replace(b"'<f4'", b"quit()")), "damaged"),
        "npz: text": (npz(npy.replace(b"<f4", b"<U1")), "format", "<U1"),
        "npz: later version": (npz(changed(npy, 6, b"\x09")), "damaged"),
        "npz: no array": (npz(b"hello"), "damaged"),
        "npz: bomb": (npz(large, **fields), "unsafe", str(96 << 20)),
        "npz: bomb that lies": (npz(lies[0], **lies[1]), "damaged", "CRC-32"),
        "npz: declares too much": (npz(large, **fields | {"size": 2**32 - 2}), "unsafe", str(2**32 - 2)),
        "npz: no deflate": (npz(npy, method=8), "damaged"),
        "npz: array twice": (w.archive([("a.npy", npy), ("a.npy", npy)]), "unsafe", "same name"),
        "npz: something else in it": (w.archive({"a.npy": npy, "b.pkl": pickle.dumps(Gadget())}), "format", "zip file"),
        "other: nothing": (b"", "damaged", "empty"),
        "other: web page": (b"\n<!doctype html><html>", "format", "web page"),
        "other: Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "format", "git lfs pull"),
        "other: tar": (tar.getvalue(), "format", "tar archive"),
        "other: gzip": (gzip.compress(w.zip_file(GOOD)), "format", "gzip"),
        "other: 7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "format", "compressed archive"),
        "other: HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "format", "HDF5"),
        "other: JSON": (b' {"a": 1}', "format", "JSON"),
        "other: deep JSON": (b'{"weight_map":' * 100_000, "format", "JSON"),
        "other: index of a file elsewhere": (b'{"weight_map": {"a": "../a.pth"}}', "unsafe", "../a.pth"),
        "other: index of itself": (b'{"weight_map": {"a": "x.index.json"}}', "unsafe", "x.index.json"),
        "other: index of a number": (b'{"weight_map": {"a": 5}}', "unsafe", "5"),
        "other: PyTorch before 0.2": (b"sys_info".ljust(257, b"\0") + b"ustar", "format", "before 0.2"),
        "other: old pickle": (pickle.dumps(Gadget(), protocol=0), "format", "known format"),
    }  # fmt: skip


def cases():
    """name -> (file's bytes, code of the error, values that the message names)"""
    files = {}
    for name, (body, *refusal) in (w.CALLS | w.DATA).items():
        beside = body if name in w.DATA else b"}(" + w.text("a") + w.tensor() + w.text("b") + body + b"u"
        files[f"zip, {name}"] = w.zip_file(beside), *refusal
        if not name.startswith(("bomb", "dict", "list")):
            files[f"legacy, {name}"] = w.legacy_file(beside), *refusal
    return files | zips() | legacies() | others()


CASES = cases()
READ_ALL = """
import json, pathlib, re, resource
from jaxiqa.errors import CheckpointError
from jaxiqa.weights.files import read_tensors

def peak():  # the peak that getrusage knows on Linux includes that of the parent before exec
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

read_tensors("good")
before, found = peak(), {}
for path in sorted(pathlib.Path("cases").iterdir(), key=lambda p: int(p.name)):
    try:
        found[path.name] = ["read", str(list(read_tensors(path)))[:100], ""]
    except CheckpointError as error:
        found[path.name] = [error.code, str(error), error.key]
    except BaseException as error:
        found[path.name] = ["escaped", repr(error)[:300], ""]
print(json.dumps({"growth": peak() - before, "found": found}))
"""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """A separate process reads all cases, so that its peak memory is theirs."""
    root = tmp_path_factory.mktemp("hostile")
    (root / "cases").mkdir()
    (root / "good").write_bytes(w.zip_file(GOOD))
    for i, (data, *_) in enumerate(CASES.values()):
        (root / "cases" / str(i)).write_bytes(data)
    run = subprocess.run([sys.executable, "-c", READ_ALL], cwd=root, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    return found | {"left": sorted(p.name for p in root.iterdir()), "stderr": run.stderr}


@pytest.mark.parametrize("name", CASES)
def test_is_refused(outcome, name):
    number = list(CASES).index(name)
    verdict, message, key = outcome["found"][str(number)]
    _, code, *values = CASES[name]
    assert (verdict, key) == (code, f"cases/{number}"), message
    assert message.isprintable() and len(message) < 500
    assert all(value in message for value in values), message


def test_nothing_ran_and_memory_stayed_small(outcome):
    assert outcome["left"] == ["cases", "good"]
    assert outcome["growth"] < 200e6
    assert len(CASES) >= 45


def test_the_gadgets_are_live(tmp_path):
    """The refused pickles would run code in an ordinary unpickler."""
    body = w.pickled(w.CALLS["posix.system"][0])
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.loads({body!r})"], cwd=tmp_path, check=True)
    assert (tmp_path / w.CANARY).exists()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("missing", "not_found"),
        ("folder", "format"),
        ("fifo", "format"),
        ("link to itself", "unreadable"),
        ("zero byte", "damaged"),
    ],
)
def test_no_file(tmp_path, kind, code):
    path = tmp_path / "x.pth"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to itself":
        path.symlink_to(path)
    name = f"{tmp_path}/x\0.pth" if kind == "zero byte" else path
    with refused(CheckpointError, code, name, str(tmp_path)) as refusal:
        read_tensors(name)
    assert str(refusal.value).isprintable()
