"""The results of a job: a folder of Parquet files, one for each shard, that the same command resumes.

| file | holds |
|---|---|
| part-000000.parquet, ... | the rows of a shard, and in its metadata the card, the weights' digest and the command |
| _job/job.json | the settings of the job, and the number of shards, which is known when the images have been listed |
| _job/000000.json, ... | the images of a shard |

Readers of Parquet folders (pandas, pyarrow, Spark, DuckDB's *.parquet) pass over names that begin with "_". A file
appears when it is complete, under a name that does not depend on when, or by which process, it is written.
"""

import contextlib
import csv
import dataclasses
import glob
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from jaxiqa.errors import ConfigError, DataError, read_code
from jaxiqa.files import json_text, replacing, write_bytes
from jaxiqa.scoring.columns import ROW_TEXTS
from jaxiqa.scoring.jobs.plan import Shard
from jaxiqa.scoring.jobs.tables import need_pyarrow

_JOB, _MANIFEST, _KEY = "_job", "job.json", b"jaxiqa"
_GROUP = 5000  # rows of a row group; so many are in memory at a time
_REPEATED = ("status", "model", "crops", "word")  # texts with few values


class Results:
    """The folder of a job.

    Args:
      folder: on a disk, or in a bucket that epath knows (gs://, s3://).
      columns: names of the columns.
      about: plain values for the metadata of every file: card, digest, command.
    """

    def __init__(self, folder: epath.PathLike, columns: Sequence[str], about: Mapping[str, Any]):
        need_pyarrow()
        self.folder = epath.Path(folder)
        self.columns, self.about = tuple(columns), dict(about)

    def start(self, settings: Mapping[str, Any], shards: Iterable[Shard]) -> int:
        """Lists the images of a new job, or finds those of a job that is there; returns the number of shards.

        The list is made once: a job that is resumed scores the images that were there when it began.

        Args:
          settings: plain values that the rows depend on.
          shards: the images; they are not taken if the list is complete.

        Raises:
          ConfigError: the folder holds the results of other settings, or other files.
        """
        manifest = self.folder / _JOB / _MANIFEST
        settings = json.loads(json_text(settings))
        if manifest.exists():
            found = json.loads(manifest.read_text())
            changed = [name for name, value in settings.items() if found["settings"].get(name) != value]
            if changed:
                before, now = (json.dumps(one.get(changed[0])) for one in (found["settings"], settings))
                raise ConfigError(
                    f"--output {self.folder} holds the results of another command: {changed[0]} was {before}, not "
                    f"{now}; give another --output, or the same command as before",
                    code="changed",
                    key="--output",
                )
            if "shards" in found:
                return found["shards"]
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise ConfigError(
                f"--output {self.folder} is a folder with other files; name a new folder",
                code="conflict",
                key="--output",
            )
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(manifest, json_text({"settings": settings}, 1).encode())
        count = 0
        for count, shard in enumerate(shards, 1):
            write_bytes(self._list(count - 1), json.dumps(dataclasses.asdict(shard)).encode())
        write_bytes(manifest, json_text({"settings": settings, "shards": count}, 1).encode())
        return count

    def shard(self, number: int) -> Shard:
        """The images of a shard."""
        values = json.loads(self._list(number).read_text())
        return Shard(**{**values, "files": tuple(values["files"])})

    def finished(self) -> set[int]:
        """The numbers of the shards that have a file."""
        names = (path.name for path in self.folder.iterdir())
        return {int(name[5:-8]) for name in names if name.startswith("part-") and name.endswith(".parquet")}

    def discard_unfinished(self) -> None:
        """Removes what a killed process was writing."""
        for path in self.folder.iterdir():
            if path.name.startswith("_part-") and path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, number: int) -> Iterator["ShardWriter"]:
        """Yields the writer of a shard's file, which appears at the end of the block, if no error ends it."""
        with replacing(self.file(number), "_") as unfinished, ShardWriter(unfinished, self) as writer:
            yield writer

    def file(self, number: int) -> epath.Path:
        """The file of a shard."""
        return self.folder / f"part-{number:06d}.parquet"

    def rows(self, columns: Sequence[str]) -> Iterator[dict]:
        """Yields some columns of the rows of all finished shards, in order."""
        for number in sorted(self.finished()):
            yield from read_rows(self.file(number), columns)

    def _list(self, number: int) -> epath.Path:
        return self.folder / _JOB / f"{number:06d}.json"


class ShardWriter:
    """Writes the rows of one shard to a Parquet file, in row groups."""

    def __init__(self, path: epath.Path, results: Results):
        import pyarrow as pa
        import pyarrow.parquet

        few = pa.dictionary(pa.int32(), pa.string())
        kinds = {name: few if name in _REPEATED else pa.string() for name in ROW_TEXTS}
        about = {_KEY: json_text(results.about).encode()}
        self._schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in results.columns], about)
        self._file = path.open("wb")
        self._writer = pyarrow.parquet.ParquetWriter(self._file, self._schema, compression="zstd")
        self._rows: list[dict] = []

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        with self._file, self._writer:
            if kind is None:
                self._flush()

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds a row."""
        self._rows.append({name: _storable(row.get(name)) for name in self._schema.names})
        if len(self._rows) == _GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows = []


def _storable(value: Any) -> Any:
    """NaN as nothing, and text that UTF-8 can hold: what it cannot, in names of files, becomes an escape sequence."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return None if isinstance(value, float) and math.isnan(value) else value


def read_rows(file: epath.PathLike, columns: Sequence[str] | None) -> Iterator[dict]:
    """Yields some columns, or all, of the rows of a Parquet file of a job, as they were written: NaN for no number."""
    import pyarrow.parquet

    with epath.Path(file).open("rb") as opened:
        for batch in pyarrow.parquet.ParquetFile(opened).iter_batches(_GROUP, columns=columns and list(columns)):
            for row in batch.to_pylist():
                yield {k: math.nan if v is None and k not in ROW_TEXTS else v for k, v in row.items()}


def is_result(path: str) -> bool:
    """Whether a file or folder is a result of `jaxiqa score`, and not predictions of rated images."""
    if os.path.isdir(path) or path.endswith((".parquet", ".jsonl", ".json")):
        return True
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            header = next(csv.reader(file), [])
    except OSError:
        return False
    return path.endswith(".csv") and "status" in header and "mos" not in header


def read_result(path: str) -> Iterator[dict]:
    """Yields the rows of a result: a folder of Parquet files or one of them, a CSV, JSON or JSON Lines file.

    Raises:
      DataError: it cannot be read, or lacks a column.
    """
    needed = {"path", "score", "status"}
    try:
        if os.path.isdir(path) or path.endswith(".parquet"):
            need_pyarrow()
            rows = _of_files(sorted(glob.glob(os.path.join(glob.escape(path), "part-*.parquet"))) or [path])
        elif path.endswith(".jsonl"):
            rows = _of_lines(path)
        elif path.endswith(".json"):
            rows = _of_json(path)
        else:
            rows = _of_csv(path)
        for row in rows:
            if lacking := needed - row.keys():
                raise DataError(
                    f"{path} has no column {sorted(lacking)[0]!r}; give results of jaxiqa score",
                    code="missing",
                    key=path,
                )
            yield row
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error})", code=read_code(error), key=path) from error
    except ValueError as error:  # also of pyarrow
        raise DataError(f"{path} is not a result of jaxiqa score ({error})", code="format", key=path) from error


def _of_files(files: Sequence[str]) -> Iterator[dict]:
    for file in files:
        yield from read_rows(file, None)


def _of_lines(path: str) -> Iterator[dict]:
    with open(path, encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def _of_json(path: str) -> Iterator[dict]:
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    if not isinstance(found, dict) or not isinstance(rows := found.get("pictures"), list):
        raise ValueError('it has no list "pictures"')
    yield from rows


def _of_csv(path: str) -> Iterator[dict]:
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        yield from csv.DictReader(file)


def metadata_of(file: epath.PathLike) -> dict:
    """The metadata that a job wrote to a Parquet file: card, digest, command.

    Raises:
      DataError: it is not a Parquet file of a job.
    """
    need_pyarrow()
    import pyarrow.parquet

    try:
        with epath.Path(file).open("rb") as opened:
            return json.loads(pyarrow.parquet.read_schema(opened).metadata[_KEY])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not a result of jaxiqa score ({error})", code="format", key=file) from error
