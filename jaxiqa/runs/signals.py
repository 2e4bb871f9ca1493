"""Signals that ask a run to stop."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that receives the signal that asks the run to stop (SIGTERM or Ctrl-C); the third one ends it at once.

    A hang-up of the terminal or of ssh counts as SIGTERM, but not beside one: systemd sends both. A thread other than
    the main one receives none.
    """
    received = []

    def note(number, _):
        if number == signal.SIGHUP:
            if received:
                return
            number = signal.SIGTERM
        received.append(number)
        if len(received) == 2:  # the third must not find a handler that waits for a save
            for s in before:
                signal.signal(s, signal.SIG_DFL)

    with _handling((signal.SIGTERM, signal.SIGINT, *hang_ups()), note) as before:
        yield received


@contextlib.contextmanager
def as_sigterm() -> Iterator[None]:
    """Ctrl-C and hang-ups become SIGTERM, which JAX tells all processes of a run; the third one ends this process."""
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
    """SIGHUP, if a hang-up is not to be ignored, as nohup wants it."""
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
