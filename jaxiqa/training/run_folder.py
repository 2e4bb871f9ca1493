"""Where a run keeps what one process writes: its config, its metrics, its figures; everything but checkpoints."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import jax
from etils import epath

from jaxiqa.errors import ConfigError, WorkdirInUse
from jaxiqa.training import lock, storage


class RunFolder:
    """A folder of this machine that stands for a workdir. Of open_run_folder.

    Attributes:
      path: where to write; files may be appended to and renamed.
    """

    def __init__(self, path: epath.Path, bucket: epath.Path | None = None):
        self.path, self._bucket, self._pushed = path, bucket, {}

    def pull(self) -> None:
        """Copy the files of the bucket, but no folders and no lock: what a resumed run goes on with.

        Raises:
          ConfigError: the bucket cannot be read.
        """
        try:
            with storage.errors_as_oserror():
                there = list(self._bucket.iterdir()) if self._bucket.exists() else []
                for path in [p for p in there if not lock.is_lock(p) and not p.is_dir()]:
                    here = self.path / path.name
                    here.write_bytes(path.read_bytes())
                    self._pushed[path.name] = _version(here)
        except OSError as error:
            raise ConfigError(f"--workdir {self._bucket} cannot be read ({storage.why(error)}); try again") from error

    def push(self) -> None:
        """Copy what is new to the bucket, where there is one; a warning where it cannot be reached."""
        if self._bucket is None:
            return
        for folder, _, names in os.walk(self.path):
            for name in names:
                here = os.path.join(folder, name)
                version, inside = _version(here), os.path.relpath(here, self.path)
                if self._pushed.get(inside) != version:
                    try:
                        with storage.errors_as_oserror():
                            (self._bucket / inside).write_bytes(epath.Path(here).read_bytes())
                    except OSError as error:
                        reason = storage.why(error)
                        print(f"warning: {self._bucket / inside} cannot be written ({reason}); tried again later")
                        return
                    self._pushed[inside] = version


def _version(path: os.PathLike) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns


@contextlib.contextmanager
def open_run_folder(workdir: epath.Path) -> Iterator[RunFolder]:
    """The workdir itself. For a bucket, whose files cannot be appended to, a copy of it that is pushed with each
    checkpoint and at the end; on all processes but the first, a folder that is thrown away.
    """
    bucket = not storage.is_local(workdir)
    if jax.process_index() == 0 and not bucket:
        yield RunFolder(workdir)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = RunFolder(epath.Path(folder), workdir if jax.process_index() == 0 else None)
        if jax.process_index():
            yield copy
            return
        copy.pull()
        try:
            yield copy
        except WorkdirInUse:  # the files there are another run's by now
            raise
        except BaseException:
            copy.push()
            raise
        copy.push()
