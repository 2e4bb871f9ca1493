"""Errors a user can act on: one line that says what is wrong, where, and what to do, plus an exit code.

Exit codes of every program: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint or weights,
5 non-finite loss, 6 workdir in use, 75 try again later, 130 / 143 stopped by SIGINT / SIGTERM after a good save.
"""

import contextlib
import difflib
import errno
import importlib.util
import os
from collections.abc import Iterable, Iterator

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Base of all errors that end a program with one line instead of a traceback."""

    exit_code = 2


class ConfigError(UserError):
    """A flag or config value that cannot work (exit 2)."""


class DataError(UserError):
    """A dataset, label file or picture that cannot be used (exit 3)."""

    exit_code = 3


class CheckpointError(UserError):
    """A checkpoint or weight file that cannot be used (exit 4)."""

    exit_code = 4


class NonFiniteError(UserError):
    """The training loss became NaN or infinite in `step` (exit 5)."""

    exit_code = 5

    def __init__(self, message: str, step: int):
        super().__init__(message)
        self.step = step


class WorkdirInUse(UserError):
    """Another run writes to the workdir (exit 6)."""

    exit_code = 6


class DiskFull(UserError):
    """There is no room left; what is done stays (exit 75: make room, then the same command again)."""

    exit_code = 75


class PeerLost(UserError):
    """A process of a run on many hosts is missing or gone (exit 75: start all of them again)."""

    exit_code = 75


class Stopped(UserError):
    """Stopped by a signal after a good save (exit 128 + signal number)."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA found too little memory on a device."""
    return isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def exit_code_of(error: BaseException) -> int:
    """The exit code of a program that `error` ends; 1 for what nobody expected."""
    if is_out_of_memory(error):
        return ConfigError.exit_code  # a smaller batch may fit
    if any(getattr(one, "errno", None) in FULL_DISK for one in (error, error.__cause__)):
        return DiskFull.exit_code
    return getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)


def need_gcsfs(folder: str | os.PathLike) -> None:
    """ConfigError where a folder is in one of Google's buckets and what reads them is missing."""
    if os.fspath(folder).startswith("gs://") and not importlib.util.find_spec("gcsfs"):
        raise ConfigError(f"{folder}: buckets need gcsfs: python -m pip install gcsfs, or give a folder")


@contextlib.contextmanager
def full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Raises DiskFull in place of the system's own error; it names `path` where that names no file."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise DiskFull(
            f"{error.filename or os.fspath(path)} cannot be written ({error.strerror}); make room, then the same "
            "command again"
        ) from error


def suggest(word: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown word: 'did you mean "x"?' where one is near, else 'choose one of: a, b'."""
    known = list(known)
    near = difflib.get_close_matches(word, known, 1)
    return f'did you mean "{near[0]}"?' if near else f"choose one of: {', '.join(known)}"


def printable(text: str) -> str:
    """The text with ? for what a terminal may take for commands: names of files hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)
