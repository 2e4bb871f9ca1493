"""A bucket in a folder: its files appear complete, cannot be appended to, and can be created exclusively."""

import os
import tempfile

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


class Bucket(DirFileSystem):
    """Replaces gcsfs in fsspec. With `reachable` = False every request fails."""

    protocol = ("gs", "gcs")
    cachable = False

    def __init__(self, folder: os.PathLike):
        super().__init__(os.fspath(folder), LocalFileSystem(auto_mkdir=True))
        self.reachable = True

    def on_disk(self, path: os.PathLike) -> str:
        """The path of a file of the bucket on this disk."""
        return self._join(os.fspath(path))

    def _join(self, path):
        return super()._join(path.removeprefix("gs://") if isinstance(path, str) else path)

    def open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode, "files in a bucket cannot be appended to"
        self.ask()
        return super().open(path, mode, **options)

    def pipe_file(self, path, value, mode="overwrite"):
        self.ask()
        target = self.on_disk(path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path) as folder:
            scratch = os.path.join(folder, "scratch")
            with open(scratch, "wb") as file:
                file.write(value)
            (os.link if mode == "create" else os.replace)(scratch, target)

    def rm_file(self, path):
        self.ask()
        super().rm_file(path)

    def ask(self) -> None:
        """Fails if the network cannot be reached; every request calls it."""
        if not self.reachable:
            raise HttpError("no route to host")


class HttpError(Exception):
    """Like the one of gcsfs, it is not an OSError."""
