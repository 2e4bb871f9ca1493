"""Where the files of a run are: on a disk, or in a bucket (gs://...). Nothing else asks which of the two it is."""

import contextlib
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from etils import epath

from jaxiqa.errors import FULL_DISK, ConfigError, DiskFull, UserError, WorkdirInUse, need_gcsfs
from jaxiqa.runs.failures import cause_of

FOLDER = "checkpoints"
QUARANTINE = "quarantine"


def files_of(workdir: epath.PathLike) -> "Disk | Bucket":
    """The files of a workdir, or of a folder in one.

    Raises:
      ConfigError: it is in a bucket, and what reads Google's buckets is not installed.
    """
    need_gcsfs(workdir)
    return (Bucket if "://" in os.fspath(workdir) else Disk)(epath.Path(workdir))


class Disk:
    """Files on a disk, local or shared. Every method may raise OSError.

    Attributes:
      workdir: the absolute path.
      in_place: whether a step is written where it stays, and cannot be moved away.
    """

    in_place = False

    def __init__(self, workdir: epath.Path):
        self.workdir = workdir.resolve()

    def names(self, folder: epath.Path) -> list[str]:
        """What is in a folder now; [] if there is none."""
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def read(self, path: epath.Path) -> bytes | None:
        """A small file as it is now, None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()

    def read_json(self, path: epath.Path) -> Any:
        """What a small file says; ValueError if it is not there, or is not JSON."""
        with contextlib.suppress(NotADirectoryError, IsADirectoryError):
            if (text := self.read(path)) is not None:
                return json.loads(text)
        raise ValueError(f"{path} is not there")

    def write(self, path: epath.Path, text: str) -> None:
        """Write a small file, whole or not at all, over what is there."""
        scratch = pathlib.Path(f"{path}.{uuid.uuid4().hex}")
        try:
            scratch.write_text(text)
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)

    def remove(self, path: epath.Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def make(self, log: str = "") -> None:
        """Make the workdir; on a disk, make sure that its file `log` can be appended to."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        if log:
            (self.workdir / log).open("a").close()

    @contextlib.contextmanager
    def run_folder(self, first: bool = True) -> Iterator["RunFolder"]:
        """Where a process writes its config, metrics and figures: the workdir; a folder to throw away if not `first`.

        In a bucket, on the first process: a copy of its files, which is pushed with each checkpoint and at the end.
        """
        with contextlib.nullcontext(self.workdir) if first else tempfile.TemporaryDirectory() as folder:
            yield RunFolder(epath.Path(folder))

    def steps(self) -> list[epath.Path]:
        """The folders of the finished steps that are not set aside, in order."""
        folder = self.workdir / FOLDER
        numbers = sorted(int(name) for name in self.names(folder) if name.isdigit())
        return [folder / str(step) for step in numbers if self._is_finished(step)]

    def set_aside(self, step: int, reason: str) -> None:
        """Take a step out of the checkpoints, for a `reason` that people may read.

        On a disk it is moved to WORKDIR/quarantine/step_N. In a bucket, where a folder cannot be renamed, a file of
        that name says that the step is not to be used.
        """
        target, again = self._aside(step), 1
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            again += 1
            target = self._aside(f"{step}_{again}")
        (self.workdir / FOLDER / str(step)).rename(target)

    def set_aside_before(self) -> list[epath.Path]:
        """What is in quarantine."""
        folder = self.workdir / QUARANTINE
        return [folder / name for name in sorted(self.names(folder)) if name.startswith("step_")]

    def release(self, step: int) -> None:
        """A step is about to be saved again: it is no longer the one that was set aside."""

    def _is_finished(self, step: int) -> bool:
        return True  # Orbax renames the folder when it is

    def _aside(self, step: int | str) -> epath.Path:
        return self.workdir / QUARANTINE / f"step_{step}"


class Bucket(Disk):
    """Files in a bucket: they appear whole, and can be neither appended to nor renamed. Methods as those of a disk."""

    in_place = True

    def __init__(self, workdir: epath.Path):
        self.workdir = workdir  # which resolve() would look for on the disk

    def names(self, folder: epath.Path) -> list[str]:
        self._client.invalidate_cache()  # gcsfs remembers folders for ever, also if other processes write there
        with errors_as_oserror(), contextlib.suppress(FileNotFoundError):
            return [path.name for path in folder.iterdir()]
        return []

    def read(self, path: epath.Path) -> bytes | None:
        with errors_as_oserror(), contextlib.suppress(FileNotFoundError):
            return self._client.cat_file(str(path))

    def write(self, path: epath.Path, text: str) -> None:
        with errors_as_oserror():
            self._client.pipe_file(str(path), text.encode())

    def create(self, path: epath.Path, text: str) -> bool:
        """Write a small file if there is none: of many that do so at once, one is told True."""
        with errors_as_oserror(), contextlib.suppress(FileExistsError):
            self._client.pipe_file(str(path), text.encode(), mode="create")  # gcsfs asks for ifGenerationMatch=0
            return True
        return False

    def remove(self, path: epath.Path) -> None:
        with errors_as_oserror(), contextlib.suppress(FileNotFoundError):
            self._client.rm_file(str(path))

    def make(self, log: str = "") -> None:
        with errors_as_oserror():
            self.workdir.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def run_folder(self, first: bool = True) -> Iterator["RunFolder"]:
        with tempfile.TemporaryDirectory() as folder:
            copy = RunFolder(epath.Path(folder), self if first else None)
            copy.pull()
            try:
                yield copy
            except WorkdirInUse:  # the files there are another run's by now
                raise
            except BaseException:
                copy.push()
                raise
            copy.push()

    def set_aside(self, step: int, reason: str) -> None:
        self._aside(step).parent.mkdir(parents=True, exist_ok=True)
        self._aside(step).write_text(reason + "\n")

    def release(self, step: int) -> None:
        self.remove(self._aside(step))

    def _is_finished(self, step: int) -> bool:
        last = self.workdir / FOLDER / str(step) / "commit_success.txt"
        return last.exists() and not self._aside(step).exists()

    @property
    def _client(self):
        """Of fsspec: epath can neither create exclusively nor read past what it remembers of a folder."""
        return epath.backend.fsspec_backend.fs(self.workdir)


class RunFolder:
    """A folder of this machine that stands for a workdir. Of `Disk.run_folder`.

    Attributes:
      path: where to write; files may be appended to and renamed.
    """

    def __init__(self, path: epath.Path, bucket: Bucket | None = None):
        self.path, self._bucket, self._pushed = path, bucket, {}

    def pull(self) -> None:
        """Copy the files of the bucket, if there is one, but no folders and no lease; ConfigError if it is not read."""
        try:
            names = self._bucket.names(self._bucket.workdir) if self._bucket else []
            for name in [name for name in names if name.partition(".")[0] not in ("lease", "lock")]:
                with errors_as_oserror():
                    if not (there := self._bucket.workdir / name).is_dir():
                        (self.path / name).write_bytes(there.read_bytes())
                        self._pushed[name] = _version(self.path / name)
        except OSError as error:
            raise ConfigError(f"--workdir {self._bucket.workdir} cannot be read ({why(error)}); try again") from error

    def push(self) -> None:
        """Copy what is new to the bucket, if there is one; a warning if it cannot be reached."""
        for here in [path for path in pathlib.Path(self.path).rglob("*") if path.is_file()] if self._bucket else []:
            version, inside = _version(here), str(here.relative_to(self.path))
            if self._pushed.get(inside) != version:
                target = self._bucket.workdir / inside
                try:
                    with errors_as_oserror():
                        target.write_bytes(here.read_bytes())
                except OSError as error:
                    print(f"warning: {target} cannot be written ({why(error)}); tried again later")
                    return
                self._pushed[inside] = version


def _version(path: os.PathLike) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns


@contextlib.contextmanager
def errors_as_oserror() -> Iterator[None]:
    """Around calls of a file system and nothing else: whatever they raise is an OSError.

    What gcsfs raises often is not: its own HttpError, a ValueError, errors of aiohttp and of google.auth.
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
    """What to raise if nothing can be written to the folder of a run."""
    if error.errno in FULL_DISK:
        return DiskFull(f"--workdir {workdir} cannot be written ({why(error)}); make room, then the same command again")
    return ConfigError(f"--workdir {workdir} cannot be written ({why(error)}); name another folder")
