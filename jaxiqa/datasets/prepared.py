"""Prepared sets: a dataset in one folder of a few large files, as builder.py writes it.

| file | holds |
| --- | --- |
| prepared.json | what the set is, and size and SHA-256 of every other file; written last |
| records.json | the Dataset: its records, and whatever else its reader says |
| NAME-full.array_record-00000-of-00012, ... | the pictures as TFDS examples |
| dataset_info.json, features.json, LICENSE | what tfds.builder_from_directory(FOLDER) reads, and the terms |

The path of a record is the address of its picture, FOLDER/prepared.json#17/images/x.jpg: number 17, counted from 0,
which was images/x.jpg in the owners' folder. Whatever reads pictures (inputs/decode.py) takes such an address.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Iterator

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError, need_gcsfs
from jaxiqa.files import writing

MANIFEST, RECORDS, SPLIT = "prepared.json", "records.json", "full"
FORMAT = 1  # of the folder; a change that older readers would misread is a new number
_ADDRESS = re.compile(rf"(.*)/{re.escape(MANIFEST)}#(\d+)/(.*)", re.DOTALL)


def is_prepared(data_dir: str | os.PathLike) -> bool:
    """Whether a folder or bucket holds a whole prepared set; False for one whose writing was cut."""
    return bool(os.fspath(data_dir)) and (place(data_dir) / MANIFEST).exists()


def read_manifest(data_dir: str | os.PathLike) -> dict:
    """What prepared.json says. Raises DataError where it is damaged or of a newer format."""
    path = place(data_dir) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        newer = manifest["format"] > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path}: damaged ({e}); prepare the set again") from e
    if newer:
        raise DataError(f"{path}: written by a newer jaxiqa ({manifest['jaxiqa']}); update this one")
    return manifest


def load(name: str, data_dir: str | os.PathLike, options: dict) -> Dataset:
    """The dataset as its own reader gave it, in the same order; only the paths are addresses.

    A set in a bucket is copied to this machine's disk first, whole: into $JAXIQA_CACHE/prepared.

    Options of its reader that are given must be the ones it was prepared with.

    Raises:
      ConfigError: it was prepared with other options.
      DataError: another dataset, or files that are missing, of the wrong size or damaged.
    """
    manifest = read_manifest(data_dir)
    folder = place(data_dir)
    if manifest["dataset"] != name:
        raise DataError(f"{folder} is a prepared {manifest['dataset']}, not {name}")
    for option, value in json.loads(json.dumps(options)).items():
        prepared = manifest["options"].get(option, value)
        if prepared != value:
            raise ConfigError(
                f"{folder} was prepared with {option}={prepared!r}, not {value!r}; leave the option out, or prepare "
                "another folder with it"
            )
    bad = [file for file, about in manifest["files"].items() if not has_size(folder / file, about["bytes"])]
    if bad:
        raise DataError(f"{folder}: missing or cut: {', '.join(bad)}; prepare the set again, which writes these anew")
    text = (folder / RECORDS).read_bytes()
    if hashlib.sha256(text).hexdigest() != manifest["files"][RECORDS]["sha256"]:
        raise DataError(f"{folder / RECORDS}: damaged; remove it and prepare the set again, which writes it again")
    if not isinstance(folder, pathlib.Path):
        folder = _copy_set(folder, manifest)
    return from_json(text, folder)


def _copy_set(bucket, manifest: dict) -> pathlib.Path:
    """A folder with the files of a prepared set in a bucket (an epath): array_record reads local files.

    Its name is that of the set's contents, so that a set which is prepared again is copied again. Files that are there
    are kept, and a file appears when it is complete, so the same call resumes where it stopped, in any number of
    processes.

    Raises:
      DataError: a file is not what the manifest says.
      DiskFull: as it says.
    """
    text = json.dumps(manifest, indent=1) + "\n"
    name = f"copy-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder = pathlib.Path(cache_dir(), "prepared", name)
    folder.mkdir(parents=True, exist_ok=True)
    files = manifest["files"].items()
    missing = {name: about for name, about in files if not has_size(folder / name, about["bytes"])}
    if missing:
        size = sum(about["bytes"] for about in missing.values()) / 2**30
        print(f"copying {len(missing)} files ({size:.2f} GiB) of {bucket} to {folder}", flush=True)
    for name, about in missing.items():
        with writing(folder / name, "w+b") as here, (bucket / name).open("rb") as there:
            shutil.copyfileobj(there, here, 2**24)
            here.seek(0)
            digest = hashlib.file_digest(here, "sha256").hexdigest()
            if digest != about["sha256"]:
                raise DataError(f"{bucket / name}: {_damaged(digest, about)}; remove it and prepare again")
    if not (folder / MANIFEST).exists():
        with writing(folder / MANIFEST, "w", encoding="utf-8") as file:
            file.write(text)
    return folder


def _damaged(digest: str, about: dict) -> str:
    return f"damaged (SHA-256 {digest[:12]}..., {about['sha256'][:12]}... expected)"


def to_json(dataset: Dataset, pictures: list[str], names: list[str]) -> str:
    """All of a dataset as records.json has it: the fields of Dataset, each record's fields without their names.

    `pictures` are the files of its records, each once, and `names` what they are called in the set.
    """
    number_of = {path: i for i, path in enumerate(pictures)}
    fields = {f.name: getattr(dataset, f.name) for f in dataclasses.fields(dataset)}
    rows = [[number_of[r.path], *dataclasses.astuple(r)[1:]] for r in dataset.records]
    for row in rows:
        row[1] = None if math.isnan(row[1]) else row[1]  # JSON has no NaN
    return json.dumps({**fields, "records": rows, "pictures": names}, default=sorted)  # sorted: of a frozenset


def from_json(text: str | bytes, folder: str | os.PathLike) -> Dataset:
    """The inverse of to_json, with addresses in `folder` as paths."""
    fields = json.loads(text)
    paths = [f"{folder}/{MANIFEST}#{i}/{name}" for i, name in enumerate(fields.pop("pictures"))]
    records = []
    for number, mos, *rest, apply in fields.pop("records"):
        mos = math.nan if mos is None else mos
        records.append(Record(paths[number], mos, *rest, tuple(apply) if apply else None))
    fields["score_range"], fields["train_only"] = tuple(fields["score_range"]), frozenset(fields["train_only"])
    return Dataset(records=records, **fields)


def is_address(path: str | os.PathLike) -> bool:
    """Whether a path means a picture of a prepared set."""
    return f"/{MANIFEST}#" in os.fsdecode(path)


def folder_of(address: str | os.PathLike) -> str:
    """The prepared set that a picture is in."""
    return _ADDRESS.fullmatch(os.fsdecode(address))[1]


def read_bytes(address: str | os.PathLike) -> bytes:
    """The picture at an address, encoded as it was when the set was prepared.

    Raises:
      DataError: there is another picture than the address says.
      Exception: of array_record, whose checksums find flipped bytes.
    """
    return _read(os.fsdecode(address))["image"]


def verify(data_dir: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Reads a prepared set back, all of it: (bytes looked at, what is wrong or "") for every file and every picture.

    Raises:
      DataError: there is no prepared set, or it cannot be loaded.
    """
    manifest, folder, damaged = read_manifest(data_dir), place(data_dir), False
    for file, about in manifest["files"].items():
        if not (folder / file).exists():
            damaged = True
            yield 0, f"{file}: missing; prepare the set again, which writes it again"
            continue
        with (folder / file).open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        fault = digest != about["sha256"]
        damaged |= fault
        fix = "remove the file and prepare the set again, which writes it again"
        yield about["bytes"], f"{file}: {_damaged(digest, about)}; {fix}" if fault else ""
    if damaged:
        return
    dataset = load(manifest["dataset"], data_dir, {})
    if dataset.fingerprint != manifest["fingerprint"]:
        yield 0, f"{RECORDS}: its fingerprint is {dataset.fingerprint}, not {manifest['fingerprint']}"
    for path in dict.fromkeys(r.path for r in dataset.records):
        example = _read(path)
        same = hashlib.sha256(example["image"]).hexdigest() == example["sha256"].decode()
        yield len(example["image"]), "" if same else f"{path}: not the bytes of its SHA-256; prepare the set again"


def place(data_dir: str | os.PathLike):
    """A folder as pathlib.Path, a bucket as epath.Path; ConfigError where what reads Google's buckets is missing."""
    folder = os.path.expanduser(os.fspath(data_dir))
    if "://" not in folder:
        return pathlib.Path(folder)
    need_gcsfs(folder)
    import tensorflow_datasets as tfds  # takes a second, and few datasets are in buckets

    return tfds.core.Path(folder)


def cache_dir() -> str:
    """Where the program keeps what it makes for itself: $JAXIQA_CACHE, or ~/.cache/jaxiqa."""
    return os.environ.get("JAXIQA_CACHE") or os.path.join(os.path.expanduser("~"), ".cache", "jaxiqa")


def has_size(path, size: int) -> bool:
    """Whether a file is there with all its bytes."""
    if not isinstance(path, pathlib.Path):  # in a bucket, where files appear whole
        return path.exists()
    return path.is_file() and path.stat().st_size == size


def _read(address: str) -> dict:
    match = _ADDRESS.fullmatch(address)
    with _OPENING:
        examples, parse = _examples(match[1])
    example = parse(examples[int(match[2])])
    if example["name"] != os.fsencode(match[3]):
        raise DataError(f"{address}: its shards hold {os.fsdecode(example['name'])!r} there; prepare the set again")
    return example


_OPENING = threading.Lock()  # threads that import TensorFlow Datasets at the same time wait for one another for ever


@functools.cache
def _examples(folder: str):
    """The serialised examples of a prepared set, and the function that gives name, picture and digest of one."""
    import tensorflow_datasets as tfds  # as above

    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    examples = tfds.builder_from_directory(folder).as_data_source(SPLIT, deserialize_method=raw)
    text = tfds.features.Text()  # bytes as they are
    wanted = tfds.features.FeaturesDict({"name": text, "image": text, "sha256": text})
    return examples, wanted.deserialize_example_np
