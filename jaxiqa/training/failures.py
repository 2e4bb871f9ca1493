"""What a library that fails says: one line of it, and the same on every host."""

import contextlib
import gc
import logging
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

# Causes that users can mend; TensorStore wraps them in a page of its own.
_CAUSES = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "Permission denied",
    "Read-only file system",
)
_LOGGERS = ("absl", "asyncio", None)


@contextlib.contextmanager
def quiet():
    """Without what Orbax says beside its exception: tracebacks of coroutines, in logs and when they are collected."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except BaseException:
        gc.collect()
        raise
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        sys.unraisablehook = hook


def not_orbax(record: logging.LogRecord) -> bool:
    """A filter of logs: a save that fails in the background is reported by us, in one line."""
    return "orbax" not in record.pathname


def cause_of(error: BaseException) -> str:
    """Why, in one line."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    text = "\n".join(map(str, chain))
    for cause in _CAUSES:
        if cause in text:
            return cause
    innermost = str(chain[-1]).strip()  # what is around it says less
    return innermost.splitlines()[0][:200] if innermost else type(chain[-1]).__name__


def agreed(found: str) -> str:
    """A reason on every host where one host has one, or ""."""
    if jax.process_count() == 1:
        return found
    anywhere = multihost_utils.process_allgather(np.array(bool(found))).any()
    return found or ("another host cannot read it" if anywhere else "")


def together(what: str) -> None:
    """Wait until every host is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
