"""Signals that ask a run to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Yields a list that collects the signals that ask the run to stop: SIGTERM and Ctrl-C.

    The third signal ends the process at once. A hang-up (SIGHUP of a terminal or of ssh) counts as SIGTERM, but not
    after another signal, because systemd sends both. Outside the main thread, the list stays empty.
    """
    received = []

    def note(number, _):
        if number == signal.SIGHUP:
            if received:
                return
            number = signal.SIGTERM
        received.append(number)
        if len(received) == 2:  # the third signal ends the process, even if it waits for a save
            for s in before:
                signal.signal(s, signal.SIG_DFL)

    with _handling((signal.SIGTERM, signal.SIGINT, *hang_ups()), note) as before:
        yield received


@contextlib.contextmanager
def as_sigterm() -> Iterator[None]:
    """Turn Ctrl-C and hang-ups into SIGTERM, which JAX passes on to all processes. The third one ends this process."""
    count = 0

    def note(*_):
        nonlocal count
        count += 1
        if count == 3:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    with _handling((signal.SIGINT, *hang_ups()), note):
        yield


def hang_ups() -> list[int]:
    """[SIGHUP], or [] if it is ignored, as under nohup."""
    return [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]


@contextlib.contextmanager
def _handling(numbers, handler) -> Iterator[dict]:
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers} if main else {}
    try:
        yield before
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
