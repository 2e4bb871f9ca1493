"""Good weight files with random mutations: they are read or refused in one line; nothing crashes or hangs."""

import argparse
import collections
import io
import pathlib
import pickle
import random
import tempfile
import time

import numpy as np
import torch_writer as w

from jaxiqa.errors import CheckpointError
from jaxiqa.weights.files import read_tensors, write_tensors

SECONDS = 5  # of computing, for one small file
TENSORS = {f"layer{i}.weight": np.arange(i, i + 6, dtype=np.float32).reshape(2, 3) for i in range(3)}
CODES = ("damaged", "unsafe", "format", "missing")


def good_files() -> dict[str, list[bytes]]:
    """Small files by format. The PyTorch ones hold options, a NumPy array and an optimiser state beside the weights."""
    arrays = {str(i): array for i, array in enumerate(TENSORS.values())}
    weights = w.mapping({name: w.whole(str(i), array) for i, (name, array) in enumerate(TENSORS.items())})
    beside = {
        "args": pickle.dumps(argparse.Namespace(out=pathlib.PurePosixPath("a"), lr=0.1), 2)[2:-1],
        "history": pickle.dumps(np.arange(3.0), 2)[2:-1],
        "optimizer": w.mapping({"state": w.mapping({"0": w.mapping({"exp_avg": w.whole("0", arrays["0"])})})}),
    }
    bodies = [w.mapping({"state_dict": weights}), w.mapping(beside | {"state_dict": weights}, ordered=False)]
    files = collections.defaultdict(list)
    for body in bodies:
        files["zip"].append(w.zip_file(body, arrays))
        files["legacy"].append(w.legacy_file(body, arrays))
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in (("a.pth", "zip"), ("a.safetensors", "safetensors")):
            write_tensors(pathlib.Path(folder) / name, TENSORS)
            files[kind].append((pathlib.Path(folder) / name).read_bytes())
    for save in (np.savez, np.savez_compressed):
        save(file := io.BytesIO(), **TENSORS)
        files["npz"].append(file.getvalue())
    return files


def mutated(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The file with one to eight mutations; parts of `other` are put into it."""
    new = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at, length = rng.randrange(len(new)), rng.randrange(1, 40)
        match rng.choice(["flip", "flip", "set", "cut", "remove", "splice", "repeat"]):
            case "flip":
                new[at] ^= 1 << rng.randrange(8)
            case "set":
                new[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f", b"(", b"R"]) * length
            case "cut":
                del new[max(1, at) :]
            case "remove":
                del new[at : at + length]
                new = new or bytearray(b"x")
            case "splice":
                start = rng.randrange(len(other))
                new[at : at + length] = other[start : start + rng.randrange(1, 40)]
            case "repeat":
                new[at:at] = new[at : at + length]
    return bytes(new)


def mutate(number: int) -> tuple[collections.Counter, float]:
    """Reads `number` mutated files. Returns how many of each format were read and refused, and the longest time."""
    rng, files, counts, slowest = random.Random(0), good_files(), collections.Counter(), 0.0
    every = [data for some in files.values() for data in some]
    # Legacy files have no checksums, so damage reaches the scan of the pickle; they are drawn more often.
    kinds = [*files, "legacy", "legacy"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "damaged"
        for _ in range(number):
            kind = rng.choice(kinds)
            path.write_bytes(mutated(rng.choice(files[kind]), rng.choice(every), rng))
            began = time.process_time()
            try:
                read_tensors(path)
                counts[kind, "read"] += 1
            except CheckpointError as error:
                assert error.code in CODES and str(error).isprintable() and len(str(error)) < 2500
                counts[kind, "refused"] += 1
            slowest = max(slowest, time.process_time() - began)
    return counts, slowest


def test_mutated_files():
    counts, slowest = mutate(500)
    assert min(counts[kind, verdict] for kind in ("zip", "legacy") for verdict in ("read", "refused")) > 5, counts
    assert sum(counts.values()) == 500 and slowest < SECONDS
