"""Where a workdir lies: on a disk, or in a bucket (gs://...)."""

from etils import epath

from jaxiqa.errors import need_gcsfs


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
