"""Writes prepared sets (prepared.py): the pictures of any reader as a TFDS set of array_record files, no TensorFlow.

Examples are {"image": bytes of the file, "name", "sha256" of the bytes, "records": what the dataset says of the
picture}, in the order of the records; tfds.builder_from_directory(FOLDER).as_data_source("full") reads them too.

TFDS's own download_and_prepare shuffles through scratch files as large as the set and starts over when it is cut. So
the shards are written one by one here: each appears when it is whole, unfinished.json says which ones are done, and
prepared.json comes last. TFDS is imported where it is used: it takes a second, and datasets are found by importing
every module of this room.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxiqa.datasets import default_options, prepared, reader
from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import FULL_DISK, ConfigError, DiskFull
from jaxiqa.version import __version__

SHARD_BYTES = 2**28  # 256 MiB: a few hundred files for the largest dataset, and little to do again after a cut
UNFINISHED = "unfinished.json"
TFDS_FILES = ("dataset_info.json", "features.json", "LICENSE")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a prepared set will hold; the same for the same data, so that an interrupted run can be resumed."""

    dataset: Dataset  # of the reader
    pictures: dict[str, list[Record]]  # {file: its records}, in the order of the records
    names: list[str]  # what they are called in the set: their paths relative to the dataset's folder
    sizes: list[int]  # bytes of each picture
    shards: list[tuple[int, int]]  # (first, end) numbers of the pictures in each file
    about: dict  # what prepared.json says beside the files

    def shard_file(self, number: int) -> str:
        """The name that TFDS looks for."""
        return f"{self.dataset.name}-{prepared.SPLIT}.array_record-{number:05d}-of-{len(self.shards):05d}"

    def shard_bytes(self, number: int) -> int:
        """Bytes of all pictures in a shard."""
        first, end = self.shards[number]
        return sum(self.sizes[first:end])


def make_plan(
    dataset: Dataset, data_dir: str | os.PathLike, options: dict, decoded: bool, size: Callable[[str], int]
) -> Plan:
    """Decides what goes where.

    Args:
      decoded: whether pixels are stored and not the files' bytes.
      size: bytes of the picture at a path, as it will be stored.
    """
    if dataset.transferred:
        raise ConfigError(f"{dataset.name} is read as jaxiqa.transfer wrote it; there is nothing to prepare")
    pictures = collections.defaultdict(list)
    for record in dataset.records:
        pictures[record.path].append(record)
    home = os.path.abspath(os.path.expanduser(os.fspath(data_dir)))
    names = []
    for path in pictures:
        inside = os.path.relpath(os.path.abspath(path), home).replace(os.sep, "/")
        names.append(os.path.basename(path) if inside.startswith("../") else inside)
    sizes = [size(path) for path in pictures]
    shards, first, filled = [], 0, 0
    for i, bytes_ in enumerate(sizes):
        if filled and filled + bytes_ > SHARD_BYTES:
            shards.append((first, i))
            first, filled = i, 0
        filled += bytes_
    shards.append((first, len(pictures)))
    about = {
        "format": prepared.FORMAT,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "options": {**default_options(dataset.name), **options},
        "decoded": decoded,
        "pictures": len(pictures),
        "shards": len(shards),
        "sources": hashlib.sha256(json.dumps([names, sizes]).encode()).hexdigest(),
    }
    return Plan(dataset, pictures, names, sizes, shards, json.loads(json.dumps(about)))


def resume(plan: Plan, output: str | os.PathLike) -> dict[str, dict]:
    """Makes the folder, or looks what is there of the same set: {file: its size and SHA-256} of what is done.

    Raises:
      ConfigError: the folder cannot be written, or holds something else.
      DiskFull: as it says.
    """
    with _writing(output):
        folder = prepared.place(output)
        folder.mkdir(parents=True, exist_ok=True)
        states = [folder / name for name in (prepared.MANIFEST, UNFINISHED) if (folder / name).exists()]
        if not states:
            inside = sorted(p.name for p in folder.iterdir() if not p.name.endswith(".tmp"))
            if inside:
                raise ConfigError(f"--output {folder} holds other files ({inside[0]}); name an empty or new folder")
            _write_json(folder / UNFINISHED, {**plan.about, "files": {}})
            return {}
        try:
            state = json.loads(states[0].read_text())
            differs = [key for key, value in plan.about.items() if state.get(key) != value]
            files = state["files"].items()
            done = {file: about for file, about in files if prepared.has_size(folder / file, about["bytes"])}
        except (ValueError, AttributeError, KeyError, TypeError) as e:
            raise ConfigError(f"{states[0]} is damaged ({e}); remove {folder}, or name another --output") from e
        if differs:
            raise ConfigError(
                f"--output {folder} holds another set ({', '.join(differs)} differ); remove it, or name another folder"
            )
        if states[0].name == prepared.MANIFEST and len(done) < len(state["files"]):
            _write_json(folder / UNFINISHED, {**plan.about, "files": done})
            states[0].unlink()  # until it is whole again
        elif states[0].name == prepared.MANIFEST:
            (folder / UNFINISHED).unlink(missing_ok=True)
        return done


def write(
    plan: Plan,
    output: str | os.PathLike,
    done: dict[str, dict],
    read: Callable[[str], bytes],
    progress: Callable[[int], None],
) -> None:
    """Writes what is not done yet.

    Args:
      done: of resume.
      read: the bytes to store for the picture at a path; called by several threads.
      progress: is told the bytes of every picture as it is written.

    Raises:
      ConfigError: the folder cannot be written.
      DiskFull: as it says; what is done stays.
      Whatever `read` raises.
    """
    folder = prepared.place(output)
    if (folder / prepared.MANIFEST).exists():
        return
    remote = "://" in os.fspath(folder)
    files = {file: done[file] for file in map(plan.shard_file, range(len(plan.shards))) if file in done}
    with _writing(folder), tempfile.TemporaryDirectory() if remote else contextlib.nullcontext(folder) as scratch:
        for number in range(len(plan.shards)):
            file = plan.shard_file(number)
            if file not in files:
                part = os.path.join(scratch, f"{file}.{os.getpid()}.tmp")
                try:
                    files[file] = _write_shard(plan, number, part, read, progress)
                    if remote:
                        (folder / file).write_bytes(pathlib.Path(part).read_bytes())
                    else:
                        os.replace(part, folder / file)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(part)
                _write_json(folder / UNFINISHED, {**plan.about, "files": files})
        for stale in folder.glob("*.tmp"):  # of runs that were killed
            stale.unlink()
        _write_text(folder / prepared.RECORDS, prepared.to_json(plan.dataset, list(plan.pictures), plan.names))
        _write_tfds_metadata(plan, folder)
        for file in (prepared.RECORDS, *TFDS_FILES):
            content = (folder / file).read_bytes()
            files[file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {**plan.about, "jaxiqa": __version__, "files": dict(sorted(files.items()))}
        _write_json(folder / prepared.MANIFEST, manifest)
        (folder / UNFINISHED).unlink()


def _write_shard(plan: Plan, number: int, part: str, read: Callable, progress: Callable) -> dict:
    """Writes one file; what the manifest says of it."""
    from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

    first, end = plan.shards[number]
    pool = ThreadPoolExecutor(os.cpu_count())

    def examples():
        pictures = list(plan.pictures.items())[first:end]
        images = pool.map(read, [path for path, _ in pictures])  # at most a shard of them waits in memory
        for i, image, (_, records) in zip(range(first, end), images, pictures, strict=True):
            yield i, _serialise(image, plan.names[i], records)
            progress(plan.sizes[i])

    try:
        ArrayRecordFileAdapter.write_examples(part, examples())
    finally:
        pool.shutdown(cancel_futures=True)
    with open(part, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return {"examples": end - first, "bytes": os.fstat(file.fileno()).st_size, "sha256": digest}


def _serialise(image: bytes, name: str, records: list[Record]) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    digest = hashlib.sha256(image).hexdigest()
    example = {"image": image, "name": os.fsencode(name), "sha256": digest, "records": list(map(_row, records))}
    serialised = _features().serialize_example(_features().encode_example(example))
    # Its fields are in an order that changes from run to run; like this, the same data make the same files.
    return tf_example_pb2.Example.FromString(serialised).SerializeToString(deterministic=True)


def _row(r: Record) -> dict:
    """What an example says of a record; an apply_type of 0 is an image as it is."""
    type_, level = r.apply or (0, 0)
    return {
        "id": os.fsencode(r.id),
        "mos": r.mos,
        "reference": os.fsencode(r.reference),
        "distortion": os.fsencode(r.distortion),
        "level": r.level,
        "apply_type": type_,
        "apply_level": level,
    }


@functools.cache
def _features():
    import tensorflow_datasets as tfds

    text = tfds.features.Text()
    # Labels are in full in records.json. NaN is the label of an image that nobody rated.
    kinds = {bytes: text, float: tfds.features.Scalar(np.float32), int: tfds.features.Scalar(np.int64)}
    records = {key: kinds[type(value)] for key, value in _row(Record("", math.nan, "")).items()}
    return tfds.features.FeaturesDict(
        {"image": tfds.features.Image(), "name": text, "sha256": text, "records": tfds.features.Sequence(records)}
    )


def _write_tfds_metadata(plan: Plan, folder) -> None:
    import tensorflow_datasets as tfds

    module = reader(plan.dataset.name)
    split = tfds.core.SplitInfo(
        name=prepared.SPLIT, shard_lengths=[end - first for first, end in plan.shards], num_bytes=sum(plan.sizes)
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(),
        split_infos=[split],
        check_data=False,  # the check needs TensorFlow
        description=f"{plan.dataset.name} as jaxiqa.prepare wrote it. {plan.dataset.note}",
        citation=module.CITATION,
        license=module.LICENSE,
    )


# ---- Files that appear whole -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _writing(output) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # array_record raises the latter, with the system's words in it
        for number in FULL_DISK:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                raise DiskFull(
                    f"--output {os.fspath(output)}: {os.strerror(number).lower()}; make room, then the same command "
                    "goes on where it stopped"
                ) from error
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--output {os.fspath(output)} cannot be written ({reason}); name another folder") from error


def _write_json(path, value: dict) -> None:
    _write_text(path, json.dumps(value, indent=1) + "\n")


def _write_text(path, text: str) -> None:
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.write_text(text)
    part.replace(path)
