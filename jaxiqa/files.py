"""Files that are written completely or not at all, what they hold as JSON, and the folder for the caches."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np
from etils import epath

from jaxiqa.errors import ConfigError, full_disk


@contextlib.contextmanager
def replacing(path: epath.PathLike, prefix: str = "") -> Iterator[epath.Path]:
    """Yields a temporary path beside `path`: its file is renamed to `path` at the end, or removed after an error.

    `prefix` is the start of the temporary name. Readers of Parquet folders pass over names that begin with "_".

    Raises:
      DiskFull: the disk is full.
    """
    path = epath.Path(path)
    unfinished = path.with_name(f"{prefix}{path.name}.{os.getpid()}.tmp")
    try:
        with full_disk(path):
            yield unfinished
            unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: str | os.PathLike, mode: str = "wb", **how) -> Iterator[IO]:
    """Yields a new file on a local disk, opened as by open(); see `replacing`."""
    with replacing(path) as unfinished, open(unfinished, mode, **how) as file:
        yield file


def write_bytes(path: epath.PathLike, data: bytes) -> None:
    """Write a file on a disk or in a bucket; see `replacing`."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(data)


def write_json(path, values: Mapping):
    """Write indented JSON; see `json_text`."""
    write_bytes(path, (json_text(values, 2) + "\n").encode())


def json_text(values: Mapping, indent: int | None = None) -> str:
    """JSON. NaN and infinite values, which it lacks, become null; NumPy scalars and arrays become numbers and lists."""
    return json.dumps(_jsonable(values), indent=indent, allow_nan=False)


def cache_dir() -> str:
    """Returns the folder for files that jaxiqa makes for its own use: $JAXIQA_CACHE, or ~/.cache/jaxiqa.

    Raises:
      ConfigError: JAXIQA_CACHE is not set, and the user has no home folder.
    """
    return os.environ.get("JAXIQA_CACHE") or expanded(os.path.join("~", ".cache", "jaxiqa"))


def expanded(path: epath.PathLike) -> str:
    """The path with the home folder of the user in place of ~.

    Raises:
      ConfigError: the user has no home folder, as in some containers. A folder named ~ would help nobody.
    """
    path = os.path.expanduser(os.fspath(path))
    if path.split(os.sep)[0] == "~":
        raise ConfigError(
            f"{path}: this user has no home folder; set HOME (for the cache: JAXIQA_CACHE), or write the whole path",
            code="missing",
            key="HOME",
        )
    return path


def _jsonable(value):
    """The value with NumPy scalars and arrays as numbers and lists, and with None for NaN and infinite numbers."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
