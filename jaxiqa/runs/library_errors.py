"""The errors of Orbax and TensorStore, reduced to one line."""

import contextlib
import gc
import logging
import sys
import warnings

# Causes that users can remove. TensorStore hides them in a page of text.
_CAUSES = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "Permission denied",
    "Read-only file system",
)
# Causes that do not mean that the file is damaged.
_ELSEWHERE = (
    "RESOURCE_EXHAUSTED",
    "Permission denied",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "Too many open files",
    "Input/output error",
    "Stale file handle",
)
_ORBAX = logging.getLogger("absl")  # Orbax logs to it


@contextlib.contextmanager
def quiet():
    """Suppress what Orbax prints besides its exception: tracebacks of coroutines, in logs and at garbage collection."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    loggers = [logging.getLogger(name) for name in ("asyncio", None)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    _ORBAX.addFilter(_nothing)  # after the Listeners, which must see the records
    try:
        yield
    except BaseException:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            gc.collect()
        hook = _without_late_reads(hook)
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        _ORBAX.removeFilter(_nothing)
        sys.unraisablehook = hook


class Listener:
    """Keeps the log records of Orbax from being printed. Failed background saves are reported by Checkpoints.

    Attributes:
      heard: the last exception that Orbax logged as an error. In a run of many processes, this log record is the only
        sign that this process could not write its part of a step: Orbax then waits for the other processes.
    """

    def __init__(self):
        self.heard: BaseException | None = None
        _ORBAX.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by the logger. Returns whether the record is logged."""
        if "orbax" not in record.pathname:
            return True
        if record.exc_info and record.levelno >= logging.ERROR:  # from warnings Orbax recovers
            self.heard = record.exc_info[1]
        return False

    def close(self) -> None:
        """Stop listening."""
        _ORBAX.removeFilter(self)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _without_late_reads(hook):
    """Wraps the hook: it ignores errors of reads in flight when another failed. They find Orbax's loop closed."""
    if getattr(hook, "__name__", "") == "late_reads":
        return hook

    def late_reads(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return late_reads


def cause_of(error: BaseException) -> str:
    """The cause of an error, in one line."""
    chain = _chain(error)
    text = "\n".join(map(str, chain))
    for cause in _CAUSES:
        if cause in text:
            return cause
    innermost = str(chain[-1]).strip()  # the outer exceptions say less
    kind = type(chain[-1]).__name__
    if " " not in innermost:  # one word says little, such as the key of a KeyError
        return f"{kind}: {innermost}" if innermost else kind
    return innermost.splitlines()[0][:200]


def is_damage(error: BaseException) -> bool:
    """Whether the file that could not be read may be damaged. False if memory, permission or the network failed."""
    chain = _chain(error)
    text = "\n".join(map(str, chain))
    return not any(isinstance(e, MemoryError) for e in chain) and not any(cause in text for cause in _ELSEWHERE)


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
