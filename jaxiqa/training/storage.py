"""Where a workdir lies: on a disk, or in a bucket (gs://...). Small files that appear whole, and what can go wrong."""

import contextlib
import json
import os
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from jaxiqa.errors import FULL_DISK, ConfigError, DiskFull, UserError, need_gcsfs
from jaxiqa.training.failures import cause_of


def is_local(path: epath.PathLike) -> bool:
    """Whether folders can be renamed there; buckets are written gs://..."""
    return "://" not in str(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The whole path of a folder on a disk; that of a bucket as it is, which resolve() would look for on the disk.

    Raises:
      ConfigError: what reads Google's buckets is missing.
    """
    need_gcsfs(path)
    path = epath.Path(path)
    return path.resolve() if is_local(path) else path


@contextlib.contextmanager
def errors_as_oserror() -> Iterator[None]:
    """Around calls of a file system and nothing else: whatever they raise is an OSError.

    What gcsfs raises is often none: its own HttpError, a ValueError, errors of aiohttp and of google.auth.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(cause_of(error)) from error


def why(error: OSError) -> str:
    """The reason in a few words."""
    return error.strerror or cause_of(error)


def unwritable(workdir: epath.PathLike, error: OSError) -> UserError:
    """What to raise where nothing can be written to the folder of a run."""
    if error.errno in FULL_DISK:
        return DiskFull(f"--workdir {workdir} cannot be written ({why(error)}); make room, then the same command again")
    return ConfigError(f"--workdir {workdir} cannot be written ({why(error)}); name another folder")


def read(path: epath.Path) -> bytes | None:
    """A small file as it is now, None where there is none; OSError."""
    with errors_as_oserror(), contextlib.suppress(FileNotFoundError):
        return path.read_bytes() if is_local(path) else _bucket(path).cat_file(str(path))


def read_json(path: epath.Path) -> Any:
    """What a small file says.

    Raises:
      ValueError: it is not there, or no JSON.
      OSError: it cannot be read now.
    """
    try:
        text = read(path)
    except (NotADirectoryError, IsADirectoryError):
        text = None
    if text is None:
        raise ValueError(f"there is no file {path}")
    return json.loads(text)


def write(path: epath.Path, text: str) -> None:
    """Write a small file, whole or not at all, over what is there; OSError."""
    with errors_as_oserror():
        if not is_local(path):
            _bucket(path).pipe_file(str(path), text.encode())
            return
        with _aside(path, text) as scratch:
            scratch.replace(path)


def create(path: epath.Path, text: str) -> bool:
    """Write a small file, whole, where there is none: of many who do so at once one is told True; OSError."""
    with errors_as_oserror(), contextlib.suppress(FileExistsError):
        if not is_local(path):
            _bucket(path).pipe_file(str(path), text.encode(), mode="create")  # gcsfs asks for ifGenerationMatch=0
            return True
        with _aside(path, text) as scratch:
            os.link(scratch, path)
        return True
    return False


def remove(path: epath.Path) -> None:
    """Remove a file, if it is there; OSError."""
    with errors_as_oserror(), contextlib.suppress(FileNotFoundError):
        path.unlink() if is_local(path) else _bucket(path).rm_file(str(path))


def look_anew(path: epath.Path) -> None:
    """Forget what folders held: gcsfs remembers it for ever, also where other processes write."""
    if not is_local(path):
        _bucket(path).invalidate_cache()


@contextlib.contextmanager
def _aside(path: epath.Path, text: str) -> Iterator[pathlib.Path]:
    scratch = pathlib.Path(f"{path}.{uuid.uuid4().hex}")
    try:
        scratch.write_text(text)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def _bucket(path: epath.Path):
    """The fsspec file system: epath can neither create exclusively nor read past what it remembers of a folder."""
    return epath.backend.fsspec_backend.fs(path)
