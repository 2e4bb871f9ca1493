"""Prepared sets: a dataset as one folder of a few large files, which builder.py writes.

| file | holds |
| --- | --- |
| prepared.json | description of the set, and size and SHA-256 of every other file; written last |
| records.json | the Dataset: its records and all other fields |
| NAME-full.array_record-00000-of-00012, ... | the images as TFDS examples |
| dataset_info.json, features.json, LICENSE | metadata for tfds.builder_from_directory(FOLDER), and the terms |

The path of a record is the address of its image, FOLDER/prepared.json#17/images/x.jpg: image number 17, counted from 0,
which was images/x.jpg in the owners' folder. inputs/decode.py reads such addresses as it reads files.
"""

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import threading
from collections.abc import Iterator

from jaxiqa.datasets.records import Dataset, Record
from jaxiqa.errors import ConfigError, DataError, need_gcsfs
from jaxiqa.files import cache_dir, writing

MANIFEST, RECORDS, SPLIT = "prepared.json", "records.json", "full"
FORMAT = 2  # version of the folder; it grows with every change that older versions of jaxiqa would misread


def is_prepared(data_dir: str | os.PathLike) -> bool:
    """Whether a folder or bucket holds a complete prepared set; False if its writing was interrupted."""
    return bool(os.fspath(data_dir)) and (place(data_dir) / MANIFEST).exists()


def read_manifest(data_dir: str | os.PathLike) -> dict:
    """Returns the content of prepared.json. Raises DataError if it is damaged or has a newer format."""
    path = place(data_dir) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
        newer = manifest["format"] > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path} is damaged ({e}); prepare the set again", code="damaged", key=path) from e
    if newer:
        raise DataError(
            f"{path} was written by a newer jaxiqa ({manifest['jaxiqa']}); update jaxiqa", code="format", key=path
        )
    return manifest


def load(name: str, data_dir: str | os.PathLike, options: dict) -> Dataset:
    """Reads a prepared set: the dataset as its reader returned it, with addresses as paths of the records.

    A set in a bucket is first copied completely to the local disk, into $JAXIQA_CACHE/prepared.

    Args:
      name: key of the dataset.
      data_dir: folder or bucket of the set.
      options: options of the dataset's reader. They must be the ones that the set was prepared with.

    Raises:
      ConfigError: the set was prepared with other options.
      DataError: the set is of another dataset, or files are missing, damaged or of the wrong size.
    """
    manifest = read_manifest(data_dir)
    folder = place(data_dir)
    if manifest["dataset"] != name:
        raise DataError(
            f"{folder} is a prepared set of {manifest['dataset']}, not of {name}", code="mismatch", key=folder
        )
    for option, value in json.loads(json.dumps(options)).items():
        prepared = manifest["options"].get(option, value)
        if prepared != value:
            raise ConfigError(
                f"{folder} was prepared with {option}={prepared!r}, not {value!r}; leave the option out, or prepare "
                "another folder with it",
                code="changed",
                key=option,
            )
    bad = [file for file, about in manifest["files"].items() if not has_size(folder / file, about["bytes"])]
    if bad:
        raise DataError(
            f"{folder}: files are missing or cut off: {', '.join(bad)}; prepare the set again, which writes only these",
            code="damaged",
            key=folder,
        )
    text = (folder / RECORDS).read_bytes()
    if hashlib.sha256(text).hexdigest() != manifest["files"][RECORDS]["sha256"]:
        raise DataError(
            f"{folder / RECORDS} is damaged; remove it and prepare the set again, which writes only this file",
            code="damaged",
            key=folder / RECORDS,
        )
    if not isinstance(folder, pathlib.Path):
        folder = _copy_set(folder, manifest)
    return from_json(text, folder)


def _copy_set(bucket, manifest: dict) -> pathlib.Path:
    """Copies a prepared set from a bucket (an epath) to a local folder, because array_record reads local files only.

    The name of the folder is a digest of the manifest, so a set that is prepared again is copied again. A file appears
    when it is complete, and existing files are kept, so the same call resumes an interrupted copy. Several processes
    may copy at the same time.

    Raises:
      DataError: a file differs from its digest in the manifest.
      DiskFull: there is no room on the disk.
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
        digest = hashlib.sha256()
        with writing(folder / name) as here, (bucket / name).open("rb") as there:
            while block := there.read(2**24):
                digest.update(block)
                here.write(block)
            if digest.hexdigest() != about["sha256"]:
                raise DataError(
                    f"{bucket / name} is {_damaged(digest.hexdigest(), about)}; remove it and prepare the set again",
                    code="damaged",
                    key=bucket / name,
                )
    if not (folder / MANIFEST).exists():
        with writing(folder / MANIFEST, "w", encoding="utf-8") as file:
            file.write(text)
    return folder


def _damaged(digest: str, about: dict) -> str:
    return f"damaged (SHA-256 {digest[:12]}..., {about['sha256'][:12]}... expected)"


def to_json(dataset: Dataset, images: list[str], names: list[str]) -> str:
    """Returns a dataset as the text of records.json: the fields of Dataset; for each record a list of its fields.

    `images` are the files of the records, each once, and `names` their names in the set. Spreads of ratings are a field
    of their own, if there are any: [std, histogram] of each record.
    """
    number_of = {path: i for i, path in enumerate(images)}
    fields = {f.name: getattr(dataset, f.name) for f in dataclasses.fields(dataset)}
    if has_spread(dataset):
        fields["spread"] = [[r.std, r.histogram] for r in dataset.records]
    else:
        del fields["categories"]
    rows = [[number_of[r.path], *dataclasses.astuple(r)[1:-2]] for r in dataset.records]
    for row in rows:
        row[1] = None if math.isnan(row[1]) else row[1]  # JSON has no NaN
    return json.dumps(
        {**fields, "records": rows, "pictures": names}, default=sorted
    )  # a frozenset becomes a sorted list


def has_spread(dataset: Dataset) -> bool:
    """Whether records have std or histogram, which need format 2."""
    return any(r.std is not None or r.histogram for r in dataset.records)


def from_json(text: str | bytes, folder: str | os.PathLike) -> Dataset:
    """Returns the dataset of a records.json, with addresses in `folder` as paths; the inverse of to_json."""
    fields = json.loads(text)
    paths = [f"{folder}/{MANIFEST}#{i}/{name}" for i, name in enumerate(fields.pop("pictures"))]
    records, rows = [], fields.pop("records")
    spread = fields.pop("spread", [[None, ()]] * len(rows))
    for (number, mos, id_, reference, distortion, level, apply), (std, histogram) in zip(rows, spread, strict=True):
        mos = math.nan if mos is None else mos
        apply = tuple(apply) if apply else None
        records.append(Record(paths[number], mos, id_, reference, distortion, level, apply, std, tuple(histogram)))
    fields["categories"] = tuple(fields.get("categories", ()))
    fields["score_range"], fields["train_only"] = tuple(fields["score_range"]), frozenset(fields["train_only"])
    return Dataset(records=records, **fields)


def is_address(path: str | os.PathLike) -> bool:
    """Whether a path is the address of an image in a prepared set."""
    return f"/{MANIFEST}#" in os.fsdecode(path)


def folder_of(address: str | os.PathLike) -> str:
    """Returns the folder of the prepared set that an address points to."""
    return _parts(os.fsdecode(address))[0]


def read_bytes(address: str | os.PathLike) -> bytes:
    """Returns the encoded image at an address.

    Raises:
      DataError: the set has another image at this address.
      Exception: array_record found damaged bytes by its checksums; the type of the exception is array_record's.
    """
    return _read(os.fsdecode(address))["image"]


def verify(data_dir: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Reads a complete prepared set and compares it with its digests.

    Yields:
      (bytes checked, fault or "") for every file, then, if the files are intact, for every image.

    Raises:
      DataError: there is no prepared set, or it cannot be loaded.
    """
    manifest, folder, damaged = read_manifest(data_dir), place(data_dir), False
    for file, about in manifest["files"].items():
        if not (folder / file).exists():
            damaged = True
            yield 0, f"{file} is missing; prepare the set again, which writes only this file"
            continue
        with (folder / file).open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        fault = digest != about["sha256"]
        damaged |= fault
        fix = "remove the file and prepare the set again, which writes only this file"
        yield about["bytes"], f"{file} is {_damaged(digest, about)}; {fix}" if fault else ""
    if damaged:
        return
    dataset = load(manifest["dataset"], data_dir, {})
    if dataset.fingerprint != manifest["fingerprint"]:
        yield (
            0,
            f"{RECORDS}: fingerprint {dataset.fingerprint}, not {manifest['fingerprint']}; prepare the set again",
        )
    for path in dict.fromkeys(r.path for r in dataset.records):
        example = _read(path)
        same = hashlib.sha256(example["image"]).hexdigest() == example["sha256"].decode()
        yield len(example["image"]), "" if same else f"{path} does not match its SHA-256; prepare the set again"


def place(data_dir: str | os.PathLike):
    """Returns a folder as pathlib.Path, a bucket as epath.Path. Raises ConfigError if gcsfs is needed but missing."""
    folder = os.path.expanduser(os.fspath(data_dir))
    if "://" not in folder:
        return pathlib.Path(folder)
    need_gcsfs(folder)
    import tensorflow_datasets as tfds  # the import takes a second, and few datasets are in buckets

    return tfds.core.Path(folder)


def has_size(path, size: int) -> bool:
    """Whether a file exists with its full size; in a bucket, whether it exists."""
    if not isinstance(path, pathlib.Path):  # in a bucket, where only complete files appear
        return path.exists()
    return path.is_file() and path.stat().st_size == size


def _parts(address: str) -> tuple[str, int, str]:
    """Folder of the set, number and name of the image."""
    folder, _, rest = address.rpartition(f"/{MANIFEST}#")
    number, _, name = rest.partition("/")
    return folder, int(number), name


def _read(address: str) -> dict:
    folder, number, name = _parts(address)
    with _OPENING:
        examples, parse = _examples(folder)
    example = parse(examples[number])
    if example["name"] != os.fsencode(name):
        raise DataError(
            f"{address}: at this index the shards hold {os.fsdecode(example['name'])!r}; prepare the set again",
            code="damaged",
            key=address,
        )
    return example


_OPENING = threading.Lock()  # threads that import TensorFlow Datasets at the same time deadlock


@functools.cache
def _examples(folder: str):
    """The serialised examples of a prepared set, and the function that parses name, image and digest of one."""
    import tensorflow_datasets as tfds  # slow to import, as above

    raw = tfds.decode.DeserializeMethod.RAW_BYTES
    examples = tfds.builder_from_directory(folder).as_data_source(SPLIT, deserialize_method=raw)
    text = tfds.features.Text()  # any bytes
    wanted = tfds.features.FeaturesDict({"name": text, "image": text, "sha256": text})
    return examples, wanted.deserialize_example_np
