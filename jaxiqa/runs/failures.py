"""What a library that fails says: one line of it."""

import contextlib
import gc
import logging
import sys
import warnings

# Causes that users can mend; TensorStore wraps them in a page of its own.
_CAUSES = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "Permission denied",
    "Read-only file system",
)
# Causes for which what is read is not to blame.
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
_LOGGERS = ("asyncio", None)
_ORBAX = logging.getLogger("absl")  # where it logs


@contextlib.contextmanager
def quiet():
    """Without what Orbax says beside its exception: tracebacks of coroutines, in logs and when they are collected."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    _ORBAX.addFilter(_nothing)  # after those that hear of saves that fail
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
    """Keeps what Orbax logs to itself: a save that fails in the background is reported by us, in one line.

    Attributes:
      heard: the last exception that it logged as an error. In many processes it says there only, and at once, that this
        one could not write its part of a step, and then waits for the others.
    """

    def __init__(self):
        self.heard: BaseException | None = None
        _ORBAX.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by the logger: whether the record is logged."""
        if "orbax" not in record.pathname:
            return True
        if record.exc_info and record.levelno >= logging.ERROR:  # with less it goes on
            self.heard = record.exc_info[1]
        return False

    def close(self) -> None:
        """Hear no more."""
        _ORBAX.removeFilter(self)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _without_late_reads(hook):
    """The hook, deaf to reads that were under way when one failed: they find Orbax's loop closed, seconds later."""
    if getattr(hook, "__name__", "") == "late_reads":
        return hook

    def late_reads(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return late_reads


def cause_of(error: BaseException) -> str:
    """Why, in one line."""
    chain = _chain(error)
    text = "\n".join(map(str, chain))
    for cause in _CAUSES:
        if cause in text:
            return cause
    innermost = str(chain[-1]).strip()  # what is around it says less
    kind = type(chain[-1]).__name__
    if " " not in innermost:  # such as the key of a KeyError
        return f"{kind}: {innermost}" if innermost else kind
    return innermost.splitlines()[0][:200]


def is_damage(error: BaseException) -> bool:
    """Whether what could not be read may be damaged; not so where memory, rights or the network failed."""
    chain = _chain(error)
    text = "\n".join(map(str, chain))
    return not any(isinstance(e, MemoryError) for e in chain) and not any(cause in text for cause in _ELSEWHERE)


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
