"""Errors for users. Each has an exit code and a one-line message: what is wrong, where, and what to do.

Exit codes of every program: 0 done, 2 usage or config, 3 bad data, 4 unusable checkpoint or weights,
5 NaN or infinite loss, 6 workdir in use, 75 try again later, 130 / 143 stopped by SIGINT / SIGTERM after a save.
"""

import contextlib
import difflib
import errno
import importlib.util
import os
from collections.abc import Iterable, Iterator

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

CODES = {  # for programs that handle errors: codes are stable, but the wording of messages may change
    "missing": "a required flag, config key or column is not given",
    "unknown": "a name that does not exist: of a flag, key, model, dataset, option, column, ...",
    "value": "a value that is not valid",
    "conflict": "two settings that exclude each other",
    "changed": "something differs from what a run, a cache or a file was made with",
    "not_found": "a file, a folder, a step or an entry does not exist",
    "unreadable": "a file that cannot be read from the disk or the network",
    "unwritable": "a file or folder that cannot be written",
    "format": "a file of the wrong kind, or with invalid content",
    "damaged": "a file that is cut off, or differs from what was written",
    "unsafe": "a file whose content is refused for safety",
    "mismatch": "things that do not fit together: weights and model, images and labels, two files",
    "faults": "several faults in a dataset or a table; `faults` of the error lists them",
    "empty": "nothing is left to work on",
    "leak": "test images, or their scores, were used for training",
    "package": "a required package is not installed",
    "memory": "too little memory",
    "non_finite": "the training loss is NaN or infinite",
    "in_use": "another run uses the workdir",
    "disk_full": "the disk is full",
    "peer_lost": "another process of the run is missing",
    "run_failed": "a program that this one started has failed; its own message says why",
    "stopped": "stopped by a signal",
}


class UserError(Exception):
    """Base of all errors that end a program with one line instead of a traceback.

    Attributes:
      exit_code: exit code of the program.
      code: what went wrong, a key of CODES.
      key: the config key ("config.loss"), flag ("--crops"), name or file that the error is about; "" if there is none.
    """

    exit_code = 2
    code = ""

    def __init__(self, message: str, *, code: str = "", key: str | os.PathLike = ""):
        super().__init__(message)
        self.code, self.key = code or self.code, os.fspath(key)
        if self.code and self.code not in CODES:
            raise ValueError(f"{self.code!r} is not in CODES")


class ConfigError(UserError):
    """A flag or a config value is not valid (exit 2)."""


class DataError(UserError):
    """A dataset, label file or image cannot be used (exit 3).

    Attributes:
      faults: all faults if the code is "faults", else (). A fault has the attributes `kind` (text), `check`, `fix` and
        `where` (places).
    """

    exit_code = 3
    faults: tuple = ()


class CheckpointError(UserError):
    """A checkpoint or weight file cannot be used (exit 4)."""

    exit_code = 4


class NonFiniteError(UserError):
    """The training loss is NaN or infinite at `step` (exit 5)."""

    exit_code, code = 5, "non_finite"

    def __init__(self, message: str, step: int = 0):
        super().__init__(message)
        self.step = step


class WorkdirInUse(UserError):
    """Another run writes to the workdir (exit 6)."""

    exit_code, code = 6, "in_use"


class DiskFull(UserError):
    """The disk is full. Finished files are kept (exit 75: make room, then run the same command again)."""

    exit_code, code = 75, "disk_full"


class PeerLost(UserError):
    """A process of a run on many hosts is missing or has ended (exit 75: start all processes again)."""

    exit_code, code = 75, "peer_lost"


class Stopped(UserError):
    """The run was stopped by a signal, after a save (exit 128 + signal number)."""

    code = "stopped"

    def __init__(self, message: str, signal_number: int = 0):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA ran out of memory on a device."""
    return isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


def exit_code_of(error: BaseException) -> int:
    """The exit code of a program that ends with `error`; 1 for an unexpected error."""
    if is_out_of_memory(error):
        return ConfigError.exit_code  # a smaller batch may fit
    if any(getattr(one, "errno", None) in FULL_DISK for one in (error, error.__cause__)):
        return DiskFull.exit_code
    return getattr(error, "exit_code", 130 if isinstance(error, KeyboardInterrupt) else 1)


def read_code(error: BaseException) -> str:
    """The code of a file that cannot be opened: "not_found" if it does not exist, else "unreadable"."""
    return "not_found" if isinstance(error, FileNotFoundError) else "unreadable"


def need_gcsfs(folder: str | os.PathLike) -> None:
    """Raise ConfigError if a folder is in a Google Cloud bucket (gs://...) and gcsfs is not installed."""
    if os.fspath(folder).startswith("gs://") and not importlib.util.find_spec("gcsfs"):
        raise ConfigError(
            f"{folder} is a bucket, which needs the package gcsfs; run python -m pip install gcsfs, or name a folder",
            code="package",
            key="gcsfs",
        )


@contextlib.contextmanager
def full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Raise DiskFull in place of the OSError of a full disk. The message names the file of the OSError, else `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise DiskFull(
            f"{error.filename or os.fspath(path)} cannot be written ({error.strerror}); make room, then run the same "
            "command again"
        ) from error


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word that is most similar to `word`; "" if none reaches the similarity `cutoff`, 0..1."""
    return next(iter(difflib.get_close_matches(word, known, 1, cutoff)), "")


def suggest(word: str, known: Iterable[str]) -> str:
    """The hint for an unknown word: 'did you mean "x"?' if a known word is similar, else 'choose one of: a, b'."""
    known = list(known)
    near = nearest(word, known)
    return f'did you mean "{near}"?' if near else f"choose one of: {', '.join(known)}"


def printable(text: str) -> str:
    """The text with ? for control characters: a file name may contain commands for the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
