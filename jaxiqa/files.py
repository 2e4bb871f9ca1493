"""Files that are written completely or not at all."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import IO

import numpy as np
from etils import epath

from jaxiqa.errors import full_disk


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[epath.Path]:
    """Yields a temporary path beside `path`: its file is renamed to `path` at the end, or removed after an error.

    Raises:
      DiskFull: the disk is full.
    """
    path = epath.Path(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
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
    """Write indented JSON. NumPy scalars and arrays become numbers and lists. NaN and infinite values become null."""
    write_bytes(path, (json.dumps(jsonable(values), indent=2, allow_nan=False) + "\n").encode())


def jsonable(value):
    """The value with NumPy scalars and arrays as numbers and lists, and with None for NaN and infinite numbers."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
