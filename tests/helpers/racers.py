"""Processes that race for one workdir, each as if on its own machine, while they are suspended and killed.

Usage: racers.py WORKDIR EVENTS SECONDS. Each process writes lines HOLD took|checked|left|lost MONOTONIC to EVENTS. HOLD
names one lease of one process. The time of `checked` is the time before a check that passed.
"""

import os
import random
import signal
import socket
import sys
import time

from jaxiqa.errors import WorkdirInUse
from jaxiqa.runs import workdir_lease

COUNT = 6
LEASE = 1.5
workdir_lease._LEASE_SECONDS, workdir_lease._BEAT_SECONDS, workdir_lease._MOMENT = LEASE, 0.15, 0.3


def race(number: int, workdir: str, events: str) -> None:
    """Takes the workdir, holds it for a while and leaves it, in an endless loop."""
    socket.gethostname = lambda: f"machine-{number}"
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    file = os.open(events, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    hold = 0

    def note(what: str, when: float) -> None:
        os.write(file, f"{os.getpid()}.{hold} {what} {when!r}\n".encode())

    while True:
        hold += 1
        try:
            with workdir_lease.WorkdirLease(workdir) as lease:
                note("took", time.monotonic())
                end = time.monotonic() + random.uniform(0.0, 1.0)
                while time.monotonic() < end:
                    before = time.monotonic()
                    lease.check()
                    note("checked", before)
                    time.sleep(0.005)
                note("left", time.monotonic())
        except WorkdirInUse as error:
            if "in use" not in str(error):
                note("lost", time.monotonic())
            time.sleep(random.uniform(0.0, 0.05))


def start(number: int, workdir: str, events: str) -> int:
    child = os.fork()
    if not child:
        try:
            race(number, workdir, events)
        finally:
            os._exit(1)
    return child


def main(workdir: str, events: str, seconds: str) -> None:
    racers = [start(number, workdir, events) for number in range(COUNT)]
    asleep, end = {}, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        time.sleep(0.05)
        for number in [n for n, wake in asleep.items() if time.monotonic() > wake]:
            os.kill(racers[number], signal.SIGCONT)
            del asleep[number]
        number = random.randrange(COUNT)
        if len(asleep) < COUNT - 2 and number not in asleep:
            if random.random() < 0.1:
                os.kill(racers[number], signal.SIGKILL)
                os.waitpid(racers[number], 0)
                racers[number] = start(number, workdir, events)
            elif random.random() < 0.3:
                os.kill(racers[number], signal.SIGSTOP)
                asleep[number] = time.monotonic() + random.uniform(0.5, 2.5) * LEASE
    for racer in racers:
        os.kill(racer, signal.SIGKILL)
        os.waitpid(racer, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
