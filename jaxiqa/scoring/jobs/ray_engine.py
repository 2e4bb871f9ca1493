"""The engine of many machines: a pipeline of Ray Data, on a cluster or embedded in this process.

  shards -> read -> decode (tasks, one for each core) -> score (one actor for each device) -> files of shards

A task reads and decodes one shard, in parts, as fast as the actors take them: Ray Data holds it back if the object
store fills up. A task or an actor that dies is started again, and its part is computed again. This process receives the
rows, which are small, and writes the file of a shard when it has all of them. So a stopped job resumes by shard.
"""

import collections
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxiqa.errors import ConfigError, DataError
from jaxiqa.scoring.columns import REASON, TILES
from jaxiqa.scoring.jobs.results import Results

if TYPE_CHECKING:
    from jaxiqa.scoring.batch_scorer import BatchScorer

OBJECT_STORE = 2 * 2**30  # bytes of the embedded engine; a cluster has its own
_DECODED, _SCORED = 16, 64  # images that a call of the two stages takes
_END = "end"  # the column that marks the row after the last image of a shard
_KEYS = ("shard", "position", _END, "path")


def write_shards(
    results: Results,
    numbers: Sequence[int],
    scorer: "BatchScorer",
    column: str | None = None,
    address: str | None = None,
) -> Iterator[dict]:
    """Scores shards of a job and writes their files. Yields each row when its shard is written.

    Args:
      results: the started job. All machines must see its folder and the images under the same paths.
      numbers: numbers of the shards to score.
      scorer: gives the values of a row. It is best loaded on a CPU, because the actors need the devices.
      column: column of tables that holds the images; None to find it.
      address: of a cluster, e.g. "auto" or "ray://host:10001"; None to start the embedded engine.

    Raises:
      ConfigError: as connect.
    """
    ray = connect(address)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    actors, device = _devices(ray.cluster_resources(), len(nodes))
    size = ray.cluster_resources().get("object_store_memory", 0) / 2**30
    of = ", ".join(f"{name} {count}" for name, count in device.items()) or "the CPU of a node"
    print(f"Ray: {len(nodes)} node(s), {actors} actor(s) with {of}, object store {size:.1f} GiB", file=sys.stderr)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = (
        ray.data.from_items([{"shard": number} for number in numbers], override_num_blocks=len(numbers))
        .flat_map(_Read(results, column))
        .map_batches(_Decode(scorer), batch_size=_DECODED, batch_format="numpy")
        .map_batches(
            _Score,
            fn_constructor_args=(scorer,),
            batch_size=_SCORED,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=0,  # the model's threads are those of JAX
            **device,
        )
    )
    try:
        yield from _written(results, rows.iter_batches(batch_size=None, batch_format="pyarrow"))
    finally:
        ray.shutdown()


def connect(address: str | None) -> Any:
    """Starts the embedded engine, or connects to the cluster at an address, if that is not done yet.

    The engine is best started before JAX is imported: JAX warns of the processes that Ray starts.

    Returns:
      the module ray.

    Raises:
      ConfigError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            '--engine=ray needs the extra [ray]: run python -m pip install "jaxiqa[ray]"',
            code="package",
            key="--engine",
        ) from error
    if ray.is_initialized():
        return ray
    where = {"address": address} if address else {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    try:
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        ray.init(**where, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--ray_address={address}: {' '.join(str(error).split())[:200]}; start a cluster, or leave out the address",
            code="not_found",
            key="--ray_address",
        ) from error
    return ray


def _devices(resources: dict, nodes: int) -> tuple[int, dict]:
    """(number of actors, what each needs): one for each GPU or TPU; on CPUs one for each node, with all its threads."""
    if gpus := int(resources.get("GPU", 0)):
        return gpus, {"num_gpus": 1}
    if tpus := int(resources.get("TPU", 0)):
        return tpus, {"resources": {"TPU": 1}}
    return nodes, {}


class _Read:
    """A shard's number to a row for each of its images, and one that marks the end."""

    def __init__(self, results: Results, column: str | None):
        self._results, self._column, self._folder = results, column, os.getcwd()

    def __call__(self, item: dict) -> Iterator[dict]:
        os.chdir(self._folder)  # relative paths start there
        number, position = int(item["shard"]), -1
        for position, (name, image) in enumerate(self._results.shard(number).rows(self._column)):
            is_path = isinstance(image, str)
            yield {
                "shard": number,
                "position": position,
                _END: False,
                "path": name.encode("utf-8", "surrogateescape"),
                "file": os.fsencode(str(image)) if is_path else b"",
                "bytes": image if isinstance(image, bytes) else b"",
                REASON: str(image) if isinstance(image, DataError) else "",
            }
        end = {"shard": number, "position": position + 1, _END: True, "path": b"", "file": b"", "bytes": b""}
        yield {**end, REASON: "the end of the shard"}


class _Decode:
    """Rows of images to rows of crops."""

    def __init__(self, scorer: "BatchScorer"):
        self._scorer = scorer

    def __call__(self, rows: dict[str, np.ndarray]) -> Any:
        import pyarrow as pa

        images = [
            DataError(str(reason), code="unreadable") if reason else os.fsdecode(file) if file else data
            for file, data, reason in zip(rows["file"], rows["bytes"], rows[REASON], strict=True)
        ]
        found = self._scorer.decode({"image": images, **{name: rows[name] for name in _KEYS}})
        found[TILES] = pa.array(found[TILES], pa.large_binary())  # more than 2 GiB, if the images are large
        return pa.table({name: column if name == TILES else list(column) for name, column in found.items()})


class _Score:
    """Rows of crops to rows of scores, by an actor that holds a device."""

    def __init__(self, scorer: "BatchScorer"):
        self._scorer = scorer

    def __call__(self, rows: dict[str, np.ndarray]) -> dict:
        return self._scorer.score(rows)


def _written(results: Results, tables: Iterable[Any]) -> Iterator[dict]:
    """Writes the file of each shard when all of its rows are there."""
    parts: dict[int, list[dict]] = collections.defaultdict(list)
    counts: dict[int, int] = {}
    for table in tables:
        for row in table.to_pylist():
            number = row.pop("shard")
            if row.pop(_END):
                counts[number] = row["position"]
            else:
                parts[number].append({**row, "path": row["path"].decode("utf-8", "surrogateescape")})
        for number in [number for number, count in counts.items() if len(parts[number]) == count]:
            rows = sorted(parts.pop(number), key=lambda row: row["position"])
            del counts[number]
            with results.writing(number) as writer:
                for row in rows:
                    writer.write(row)
            yield from rows
