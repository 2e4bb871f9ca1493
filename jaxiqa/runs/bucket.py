"""The files of a run, on a disk or in a bucket (gs://...). Other code need not know which of the two it is."""

import contextlib
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from etils import epath

from jaxiqa.errors import FULL_DISK, ConfigError, DiskFull, UserError, WorkdirInUse, need_gcsfs
from jaxiqa.files import write_bytes
from jaxiqa.runs.library_errors import cause_of

FOLDER = "checkpoints"
QUARANTINE = "quarantine"


def files_of(workdir: epath.PathLike) -> "Disk | Bucket":
    """The files of a workdir, or of a folder in it.

    Raises:
      ConfigError: it is in a Google Cloud bucket, and gcsfs is not installed; or TensorStore, which writes names in
        UTF-8, would take its name for another.
    """
    need_gcsfs(workdir)
    name = os.fspath(workdir)
    if os.fsencode(name) != name.encode("utf-8", "replace"):
        raise ConfigError(
            f"the folder {name!a} has a name that is not UTF-8, or Python runs in another encoding "
            f"({sys.getfilesystemencoding()}); start Python with -X utf8, or rename the folder",
            code="value",
            key=name,
        )
    return (Bucket if "://" in os.fspath(workdir) else Disk)(epath.Path(workdir))


class Disk:
    """Files on a disk, local or shared. Every method may raise OSError.

    Attributes:
      workdir: the absolute path.
      in_place: whether a step is written to its final place and cannot be moved away.
    """

    in_place = False

    def __init__(self, workdir: epath.Path):
        self.workdir = workdir.resolve()

    def names(self, folder: epath.Path) -> list[str]:
        """The names in a folder now; [] if there is no such folder."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # any other error is not an empty folder
            return [path.name for path in folder.iterdir()]
        return []

    def read(self, path: epath.Path) -> bytes | None:
        """The content of a small file now; None if there is no such file."""
        with contextlib.suppress(FileNotFoundError):
            return path.read_bytes()

    def read_json(self, path: epath.Path) -> Any:
        """The content of a small JSON file; ValueError if it does not exist or is not JSON."""
        with contextlib.suppress(NotADirectoryError, IsADirectoryError):
            if (text := self.read(path)) is not None:
                return json.loads(text)
        raise ValueError(f"{path} does not exist")

    def write(self, path: epath.Path, text: str) -> None:
        """Write or replace a small file, completely or not at all."""
        write_bytes(path, text.encode())

    def remove(self, path: epath.Path) -> None:
        """Remove a file, if it exists."""
        path.unlink(missing_ok=True)

    def make(self, log: str = "") -> None:
        """Create the workdir. On a disk, make sure that its file `log` can be appended to."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        if log:
            (self.workdir / log).open("a").close()

    @contextlib.contextmanager
    def run_folder(self, first: bool = True) -> Iterator["RunFolder"]:
        """Yields the folder where a process writes its config, split and metrics.

        It is the workdir on the `first` process, and a temporary folder on the others. If the workdir is in a bucket,
        it is a local copy of its files, which the first process pushes with each checkpoint and at the end.
        """
        with contextlib.nullcontext(self.workdir) if first else tempfile.TemporaryDirectory() as folder:
            yield RunFolder(epath.Path(folder))

    def steps(self) -> list[epath.Path]:
        """The folders of the finished steps in order, without those that are set aside."""
        folder = self.workdir / FOLDER
        numbers = sorted(int(name) for name in self.names(folder) if name.isdigit())
        return [folder / str(step) for step in numbers if self._is_finished(step)]

    def set_aside(self, step: int, reason: str) -> None:
        """Take a step out of the checkpoints, for a `reason` in words.

        On a disk it is moved to WORKDIR/quarantine/step_N. A folder in a bucket cannot be renamed, so a file of that
        name marks the step as unusable.
        """
        target, again = self._aside(step), 1
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            again += 1
            target = self._aside(f"{step}_{again}")
        (self.workdir / FOLDER / str(step)).rename(target)

    def set_aside_before(self) -> list[epath.Path]:
        """The paths in quarantine."""
        folder = self.workdir / QUARANTINE
        return [folder / name for name in sorted(self.names(folder)) if name.startswith("step_")]

    def release(self, step: int) -> None:
        """Forget that a step was set aside, because it is saved again."""

    def _is_finished(self, step: int) -> bool:
        return True  # Orbax renames the folder when the step is finished

    def _aside(self, step: int | str) -> epath.Path:
        return self.workdir / QUARANTINE / f"step_{step}"


class Bucket(Disk):
    """Files in a bucket. They appear completely and cannot be appended to or renamed. The methods are as in Disk."""

    in_place = True

    def __init__(self, workdir: epath.Path):
        self.workdir = workdir  # resolve() would look for it on the disk

    def names(self, folder: epath.Path) -> list[str]:
        self._client.invalidate_cache()  # gcsfs caches listings, although other processes write too
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
        """Write a small file if it does not exist. If many processes do so at once, one of them gets True."""
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
            except WorkdirInUse:  # the files in the bucket belong to another run by now
                raise
            except BaseException:
                copy.push()
                raise
            copy.push(last=True)

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
        """The fsspec file system, because epath can neither create exclusively nor bypass its cache of listings."""
        return epath.backend.fsspec_backend.fs(self.workdir)


class RunFolder:
    """A local folder that stands for a workdir. Made by `Disk.run_folder`.

    Attributes:
      path: the folder. Its files may be appended to and renamed.
    """

    def __init__(self, path: epath.Path, bucket: Bucket | None = None):
        self.path, self._bucket, self._pushed = path, bucket, {}

    def pull(self) -> None:
        """Copy the files of the bucket, if any, without folders and leases; ConfigError if it cannot be read."""
        try:
            names = self._bucket.names(self._bucket.workdir) if self._bucket else []
            for name in [name for name in names if name.partition(".")[0] not in ("lease", "lock")]:
                with errors_as_oserror():
                    if not (there := self._bucket.workdir / name).is_dir():
                        (self.path / name).write_bytes(there.read_bytes())
                        self._pushed[name] = _version(self.path / name)
        except OSError as error:
            raise ConfigError(
                f"--workdir {self._bucket.workdir} cannot be read ({why(error)}); try again",
                code="unreadable",
                key="--workdir",
            ) from error

    def push(self, last: bool = False) -> None:
        """Copy new and changed files to the bucket, if any.

        If the bucket cannot be reached, it prints a warning; the `last` time, it raises ConfigError or DiskFull.
        """
        for here in [path for path in pathlib.Path(self.path).rglob("*") if path.is_file()] if self._bucket else []:
            version, inside = _version(here), str(here.relative_to(self.path))
            if self._pushed.get(inside) != version:
                target = self._bucket.workdir / inside
                try:
                    with errors_as_oserror():
                        target.write_bytes(here.read_bytes())
                except OSError as error:
                    if last:
                        raise unwritable(self._bucket.workdir, error) from error
                    print(f"warning: {target} cannot be written ({why(error)}); the next save tries again")
                    return
                self._pushed[inside] = version


def _version(path: os.PathLike) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns


@contextlib.contextmanager
def errors_as_oserror() -> Iterator[None]:
    """Raise an OSError for whatever the calls of a file system inside raise.

    gcsfs also raises its own HttpError, ValueError, and errors of aiohttp and google.auth.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(cause_of(error)) from error


def why(error: OSError) -> str:
    """The reason of an OSError in a few words."""
    return error.strerror or cause_of(error)


def unwritable(workdir: epath.PathLike, error: OSError) -> UserError:
    """The error to raise if nothing can be written to the folder of a run."""
    if error.errno in FULL_DISK:
        return DiskFull(
            f"--workdir {workdir} cannot be written ({why(error)}); make room, then run the same command again"
        )
    return ConfigError(
        f"--workdir {workdir} cannot be written ({why(error)}); name another folder", code="unwritable", key="--workdir"
    )
