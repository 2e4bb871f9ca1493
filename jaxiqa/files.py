"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from typing import IO

from jaxiqa.errors import full_disk


@contextlib.contextmanager
def writing(path: str | os.PathLike, mode: str = "wb", **how) -> Iterator[IO]:
    """A new file on this machine's disk, opened as by open(); it has the name `path` once it is complete.

    Until then it is called PATH.PID.tmp. Raises DiskFull if there is no room.
    """
    unfinished = f"{os.fspath(path)}.{os.getpid()}.tmp"
    try:
        with full_disk(path), open(unfinished, mode, **how) as file:
            yield file
        os.replace(unfinished, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
