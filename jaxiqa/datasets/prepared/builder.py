"""Writes prepared sets: the images of any dataset as a TFDS set of array_record files, without TensorFlow.

Examples are {"image": bytes of the file, "name", "sha256" of the bytes, "records": the image's records}, in the order
of the dataset's records. tfds.builder_from_directory(FOLDER).as_data_source("full") reads them too.

TFDS's own download_and_prepare shuffles through scratch files as large as the set, and an interrupted call starts over.
Therefore the shards are written one by one here: each appears when it is complete, unfinished.json lists those that are
done, and prepared.json is written last. TFDS is imported only in the functions that use it, because the import takes a
second.
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
from jaxiqa.files import write_bytes
from jaxiqa.version import __version__

SHARD_BYTES = 2**28  # 256 MiB: a few hundred files for the largest dataset, and little work is lost on an interruption
UNFINISHED = "unfinished.json"
TFDS_FILES = ("dataset_info.json", "features.json", "LICENSE")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a prepared set will hold. The same data have the same plan, so an interrupted run can be resumed."""

    dataset: Dataset  # as its reader returned it
    images: dict[str, list[Record]]  # {file: its records}, in the order of the records
    names: list[str]  # of the images in the set: their paths relative to the dataset's folder
    sizes: list[int]  # bytes of each image
    shards: list[tuple[int, int]]  # (first, end) numbers of the images in each file
    about: dict  # content of prepared.json without the list of files

    def shard_file(self, number: int) -> str:
        """The file name that TFDS expects."""
        return f"{self.dataset.name}-{prepared.SPLIT}.array_record-{number:05d}-of-{len(self.shards):05d}"

    def shard_bytes(self, number: int) -> int:
        """Bytes of all images in a shard."""
        first, end = self.shards[number]
        return sum(self.sizes[first:end])


def make_plan(
    dataset: Dataset, data_dir: str | os.PathLike, options: dict, decoded: bool, size: Callable[[str], int]
) -> Plan:
    """Decides which images go into which shard.

    Args:
      dataset: the dataset as its reader returned it.
      data_dir: its folder.
      options: the options of its reader that the user set.
      decoded: True stores pixels, False the bytes of the files.
      size: function that returns the bytes of the image at a path, as it will be stored.

    Raises:
      ConfigError: the dataset has transferred labels.
    """
    if dataset.transferred:
        raise ConfigError(
            f"{dataset.name} cannot be prepared; train on the folder that jaxiqa transfer wrote",
            code="value",
            key=dataset.name,
        )
    images = collections.defaultdict(list)
    for record in dataset.records:
        images[record.path].append(record)
    home = os.path.abspath(os.path.expanduser(os.fspath(data_dir)))
    names = []
    for path in images:
        inside = os.path.relpath(os.path.abspath(path), home).replace(os.sep, "/")
        names.append(os.path.basename(path) if inside.startswith("../") else inside)
    sizes = [size(path) for path in images]
    shards, first, filled = [], 0, 0
    for i, bytes_ in enumerate(sizes):
        if filled and filled + bytes_ > SHARD_BYTES:
            shards.append((first, i))
            first, filled = i, 0
        filled += bytes_
    shards.append((first, len(images)))
    about = {
        "format": prepared.FORMAT if prepared.has_spread(dataset) else 1,
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "options": {**default_options(dataset.name), **options},
        "decoded": decoded,
        "pictures": len(images),
        "shards": len(shards),
        "sources": hashlib.sha256(json.dumps([names, sizes]).encode()).hexdigest(),
    }
    return Plan(dataset, images, names, sizes, shards, json.loads(json.dumps(about)))


def resume(plan: Plan, output: str | os.PathLike) -> dict[str, dict]:
    """Creates the folder, or finds what an interrupted run wrote of the same set.

    Returns:
      {file: its size and SHA-256} of the files that are done.

    Raises:
      ConfigError: the folder cannot be written, or holds something else.
      DiskFull: there is no room on the disk.
    """
    with _writing(output):
        folder = prepared.place(output)
        folder.mkdir(parents=True, exist_ok=True)
        states = [folder / name for name in (prepared.MANIFEST, UNFINISHED) if (folder / name).exists()]
        if not states:
            inside = sorted(p.name for p in folder.iterdir() if not p.name.endswith(".tmp"))
            if inside:
                raise ConfigError(
                    f"--output {folder} holds other files ({inside[0]}); name an empty or new folder",
                    code="conflict",
                    key="--output",
                )
            _write_json(folder / UNFINISHED, {**plan.about, "files": {}})
            return {}
        try:
            state = json.loads(states[0].read_text())
            state["options"] = (
                default_options(plan.dataset.name) | state["options"]
            )  # options that newer versions added
            differs = [key for key, value in plan.about.items() if state.get(key) != value]
            files = state["files"].items()
            done = {file: about for file, about in files if prepared.has_size(folder / file, about["bytes"])}
        except (ValueError, AttributeError, KeyError, TypeError) as e:
            raise ConfigError(
                f"{states[0]} is damaged ({e}); remove {folder}, or name another --output",
                code="damaged",
                key=states[0],
            ) from e
        if differs:
            raise ConfigError(
                f"--output {folder} holds a set with another {', '.join(differs)}; remove it, or name another folder",
                code="changed",
                key="--output",
            )
        if states[0].name == prepared.MANIFEST and len(done) < len(state["files"]):
            _write_json(folder / UNFINISHED, {**plan.about, "files": done})
            states[0].unlink()  # it is written again when the set is complete
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
    """Writes the files that are not done yet.

    Args:
      plan: of make_plan.
      output: folder or bucket.
      done: of resume.
      read: function that returns the bytes to store for the image at a path; several threads call it.
      progress: is called with the bytes of each image when it is written.

    Raises:
      ConfigError: the folder cannot be written.
      DiskFull: there is no room on the disk; complete files stay.
      Exception: any exception of `read`.
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
        for stale in folder.glob("*.tmp"):  # left by runs that were killed
            stale.unlink()
        write_bytes(folder / prepared.RECORDS, prepared.to_json(plan.dataset, list(plan.images), plan.names).encode())
        _write_tfds_metadata(plan, folder)
        for file in (prepared.RECORDS, *TFDS_FILES):
            content = (folder / file).read_bytes()
            files[file] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest = {**plan.about, "jaxiqa": __version__, "files": dict(sorted(files.items()))}
        _write_json(folder / prepared.MANIFEST, manifest)
        (folder / UNFINISHED).unlink()


def _write_shard(plan: Plan, number: int, part: str, read: Callable, progress: Callable) -> dict:
    """Writes one shard; returns its entry in the manifest."""
    from tensorflow_datasets.core.file_adapters import ArrayRecordFileAdapter

    first, end = plan.shards[number]
    pool = ThreadPoolExecutor(os.cpu_count())

    def examples():
        wanted = list(plan.images.items())[first:end]
        images = pool.map(read, [path for path, _ in wanted])  # at most one shard of images is in memory
        for i, image, (_, records) in zip(range(first, end), images, wanted, strict=True):
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
    # The order of the fields changes from run to run; serialised again like this, the same data make the same files.
    return tf_example_pb2.Example.FromString(serialised).SerializeToString(deterministic=True)


def _row(r: Record) -> dict:
    """The fields of a record in an example; apply_type 0 means that the image is used as it is."""
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
    # float32 is enough here: records.json has the exact labels. NaN is the label of an image without ratings.
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


# ---- Files that appear only when complete ----------------------------------------------------------------------------


@contextlib.contextmanager
def _writing(output) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError) as error:  # array_record raises RuntimeError with the text of the system error
        for number in FULL_DISK:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                raise DiskFull(
                    f"--output {os.fspath(output)}: {os.strerror(number).lower()}; make room, then repeat the command, "
                    "which resumes"
                ) from error
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--output {os.fspath(output)} cannot be written ({reason}); name another folder",
            code="unwritable",
            key="--output",
        ) from error


def _write_json(path, value: dict) -> None:
    write_bytes(path, (json.dumps(value, indent=1) + "\n").encode())
