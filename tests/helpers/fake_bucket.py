"""A bucket that is a folder: its files cannot be appended to, and can be created only where there are none."""

import os

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem


class Bucket(DirFileSystem):
    """What gcsfs is to fsspec. Set `reachable` to False to cut it off."""

    protocol = ("gs", "gcs")
    cachable = False

    def __init__(self, folder: os.PathLike):
        super().__init__(os.fspath(folder), LocalFileSystem(auto_mkdir=True))
        self.reachable = True

    def on_disk(self, path: os.PathLike) -> str:
        """Where a file of the bucket lies."""
        return self._join(os.fspath(path))

    def _join(self, path):
        return super()._join(path.removeprefix("gs://") if isinstance(path, str) else path)

    def open(self, path, mode="rb", **options):
        assert "a" not in mode and "+" not in mode, "files in a bucket cannot be appended to"
        if not self.reachable:
            raise OSError("no route to host")
        return super().open(path, mode, **options)

    def pipe_file(self, path, value, mode="overwrite"):
        with self.open(path, "xb" if mode == "create" else "wb") as file:
            file.write(value)
