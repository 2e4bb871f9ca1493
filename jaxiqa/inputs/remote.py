"""Files at addresses such as s3://bucket/a.jpg, gs://bucket/a.jpg and https://host/a.jpg, through fsspec."""

import re
import time
from typing import Any

from jaxiqa.errors import ConfigError, DataError, printable, read_code

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[^:]+)*://")
_TRIES, _PAUSE = 3, 0.5  # of a request, and the seconds before the second one, which are doubled each time


def is_address(path: str) -> bool:
    """Whether a path is an address, PROTOCOL://..."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def file_system(address: str) -> tuple[Any, str]:
    """The file system of fsspec for an address or a local path, and the path in it.

    Raises:
      ConfigError: fsspec, or its package for the protocol, is not installed.
      DataError: there is no such protocol.
    """
    try:
        import fsspec

        return fsspec.core.url_to_fs(address)
    except ImportError as error:
        what = f"the package {error.name} is not installed" if error.name else str(error)
        raise ConfigError(  # not the fault of one image: nothing must be recorded as refused
            f'{printable(address)} cannot be read ({what}); run python -m pip install "jaxiqa[jobs]", and the package '
            "of fsspec for the protocol (s3fs, gcsfs, aiohttp)",
            code="package",
            key=address,
        ) from error
    except ValueError as error:
        raise DataError(f"{printable(address)}: {error}; give another address", code="value", key=address) from error


def read_bytes(address: str) -> bytes:
    """The file at an address. A request that fails is tried again, unless nothing is there or access is denied.

    Raises:
      ConfigError: a package is missing.
      DataError: it cannot be read.
    """
    files, path = file_system(address)
    for tries in range(1, _TRIES + 1):
        try:
            return files.cat_file(path)
        except Exception as error:  # every protocol has its own
            if tries < _TRIES and not isinstance(error, FileNotFoundError | PermissionError):
                time.sleep(_PAUSE * 2 ** (tries - 1))
                continue
            why = " ".join(f"{error}".split())[:200] or type(error).__name__
            raise DataError(
                f"cannot read {printable(address)}: {why}; check the address and the network, or leave it out",
                code=read_code(error),
                key=address,
            ) from error
    raise AssertionError
