"""SHA-256 of every array of a state, to compare what is restored with what was saved.

Orbax does not detect a flipped byte (of 8 flips, 8 were restored as wrong numbers). The digests of a step are inside
it, in `STEP/digests/process_N.json`, and are written before the step counts as finished: {"arrays":
{"params/conv/kernel": {"dtype", "shape", "sha256": {"": hex}}}, "about": hex, "processes": n, "sha256": hex of this
file without this entry}. A digest is of the whole array if one device holds it whole, else of a shard, with its slices
as the key, "0:128,0:64". A step may be restored on other devices: each process checks the saved pieces that its own
shards cover, and no host gathers an array.
"""

import asyncio
import hashlib
import json
import math
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from jaxiqa.runs.bucket import files_of

FOLDER = "digests"


class Digests:
    """The digests of a state that is being saved. Orbax writes them beside the state, in the background.

    The arrays are copied to the host here, because the next step may overwrite them. Until the save is finished, the
    state is in host memory a second time.

    Args:
      state: a tree of arrays.
      about: what is stored with the state; anything that is JSON.
    """

    def __init__(self, state: Any, about: Any):
        self._about = of_json(about)
        leaves = _leaves(state)
        for leaf in leaves.values():
            if isinstance(leaf, jax.Array) and leaf.is_fully_addressable:
                leaf.copy_to_host_async()
        self._copies = {name: (leaf.dtype, leaf.shape, _own(leaf)) for name, leaf in leaves.items()}

    async def save(self, directory):
        """Called by Orbax. Returns the coroutine that writes the digests in the background."""

        async def write():
            path = await directory.await_creation()
            await asyncio.to_thread(self._write, path)

        return write()

    async def load(self, directory):
        """Required by Orbax's protocol, but never called: `read` reads the digests before the arrays."""
        raise NotImplementedError

    def _write(self, folder: epath.Path) -> None:
        arrays = {
            name: {
                "dtype": str(dtype),
                "shape": list(shape),
                "sha256": {where: sha256(piece) for where, piece in pieces.items()},
            }
            for name, (dtype, shape, pieces) in self._copies.items()
        }
        found = {"processes": jax.process_count(), "about": self._about, "arrays": arrays}
        found["sha256"] = of_json(found)
        (folder / f"process_{jax.process_index()}.json").write_text(json.dumps(found))
        self._copies = {}


def read(step: epath.Path, about: Any = None) -> dict[str, dict]:
    """{array: {"dtype", "shape", "sha256"}} of a step; {} if it was saved without digests.

    Args:
      step: folder of the step.
      about: what was found beside the arrays, to be compared with its digest. None is not compared.

    Raises:
      ValueError: something is damaged; the message says what.
      OSError: a file cannot be read now.
    """
    folder, files, arrays = step / FOLDER, files_of(step), {}
    if FOLDER not in files.names(step):
        return {}
    number = processes = 0
    while number <= processes:
        name = f"process_{number}.json"
        try:
            found = files.read_json(folder / name)
            if found.pop("sha256") != of_json(found):
                raise ValueError
            processes = found["processes"] - 1
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"{FOLDER}/{name} cannot be read") from error
        if about is not None and found["about"] != of_json(about):
            raise ValueError("what is stored beside the arrays differs from what was saved")
        for array, entry in found["arrays"].items():
            arrays.setdefault(array, {**entry, "sha256": {}})["sha256"] |= entry["sha256"]
        number += 1
    return arrays


def unlike(state: Any, stored: dict[str, dict]) -> str:
    """The first difference in names or shapes between `state` and the stored arrays, in words; "" if there is none.

    Args:
      state: a tree of arrays or ShapeDtypeStructs. Their dtypes may differ from the stored ones.
      stored: from `read`.
    """
    ours = {name: list(leaf.shape) for name, leaf in _leaves(state).items()}
    theirs = {name: entry["shape"] for name, entry in stored.items()}
    for name in ours.keys() | theirs.keys():
        if ours.get(name) != theirs.get(name):
            return f"{name} is {theirs.get(name, 'absent')} in the checkpoint, {ours.get(name, 'absent')} in this model"
    return ""


def differing(state: Any, stored: dict[str, dict]) -> str:
    """Name of the first array of `state` whose digest differs from the stored one; "" if there is none.

    With many processes, all must call it for the same arrays: a saved piece that no process holds whole is copied to
    all of them.
    """
    found = []
    for name, leaf in _leaves(state).items():
        entry = stored.get(name)
        if entry is None:
            found.append(name)
        elif leaf.dtype.name == entry["dtype"]:  # else the restore has cast it, as requested
            pieces = {where: _piece(leaf, _slices(where, leaf.shape)) for where in entry["sha256"]}
            saved = entry["sha256"]
            if not pieces or any(piece is not None and sha256(piece) != saved[k] for k, piece in pieces.items()):
                found.append(name)
    return next(iter(found), "")


def of_json(value: Any) -> str:
    """SHA-256 of a JSON value, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256(array: np.ndarray) -> str:
    """SHA-256 of the bytes of an array in row-major order, in hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8)).hexdigest()


def _leaves(state) -> dict[str, Any]:
    flat, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def _own(leaf) -> dict[str, np.ndarray]:
    """{slices: copy on the host} of the parts of an array that this process digests."""
    if not isinstance(leaf, jax.Array):
        return {"": np.asarray(leaf)} if jax.process_index() == 0 else {}
    copy = True if jax.default_backend() == "cpu" else None  # on a CPU, asarray is a view, which will be overwritten
    if leaf.is_fully_replicated:
        return {"": np.array(leaf.addressable_data(0), copy=copy)} if jax.process_index() == 0 else {}
    first = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
    return {_where(shard.index, leaf.shape): np.array(shard.data, copy=copy) for shard in first}


def _piece(leaf, piece: tuple[slice, ...]) -> np.ndarray | None:
    """A piece of an array, assembled from the shards of this process; None if another process must check it."""
    if not isinstance(leaf, jax.Array) or not leaf.size:
        return np.asarray(leaf)[piece]
    places = {}  # the parts of the piece that each process holds
    for device, index in leaf.sharding.devices_indices_map(leaf.shape).items():
        if (overlap := _overlap(piece, index, leaf.shape)) is not None:
            places.setdefault(device.process_index, {})[str(overlap)] = overlap
    volume = lambda part: math.prod(s.stop - s.start for s in part)  # noqa: E731
    whole = {p for p, parts in places.items() if sum(map(volume, parts.values())) == volume(piece)}
    if not whole:
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
        return np.asarray(jax.jit(lambda x: x[piece], out_shardings=everywhere)(leaf).addressable_data(0))
    if jax.process_index() not in whole:
        return None
    found = np.empty([s.stop - s.start for s in piece], leaf.dtype)
    for shard in {str(shard.index): shard for shard in leaf.addressable_shards}.values():  # without replicas
        if (overlap := _overlap(piece, shard.index, leaf.shape)) is not None:
            found[_within(overlap, piece)] = np.asarray(shard.data)[_within(overlap, shard.index)]
    return found


def _within(part: tuple[slice, ...], whole: tuple[slice, ...]) -> tuple[slice, ...]:
    """A place in an array, counted from the corner of another one that contains it."""
    corner = [s.start or 0 for s in whole]
    return tuple(slice(p.start - base, p.stop - base) for p, base in zip(part, corner, strict=True))


def _overlap(piece: tuple[slice, ...], index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    """The intersection of two places in an array; None if it is empty. () is the whole of a scalar."""
    bounds = [s.indices(n)[:2] for s, n in zip(index, shape, strict=True)]
    both = tuple(slice(max(p.start, a), min(p.stop, b)) for p, (a, b) in zip(piece, bounds, strict=True))
    return both if all(s.start < s.stop for s in both) else None


def _where(index: tuple[slice, ...], shape: tuple[int, ...]) -> str:
    return ",".join("{}:{}".format(*s.indices(n)[:2]) for s, n in zip(index, shape, strict=True))


def _slices(where: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    if not where:
        return tuple(slice(0, n) for n in shape)
    return tuple(slice(*map(int, part.split(":"))) for part in where.split(","))
