"""A server from its start to its end: uvicorn, the signals and the draining."""

import asyncio
import contextlib
import signal
import socket
import sys
import time

import uvicorn

from jaxiqa.errors import Stopped
from jaxiqa.runs.signals import hang_ups
from jaxiqa.serving.app import Service
from jaxiqa.serving.listening import url_of

_KEEP_ALIVE = 5  # seconds that a connection may be idle
_LAST = 2  # seconds for the last answers to be sent


class _Server(uvicorn.Server):
    """Leaves the signals to `run`."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


async def run(service: Service, sock: socket.socket, drain: float, stop: asyncio.Event | None = None) -> None:
    """Serves until SIGTERM, Ctrl-C or a hang-up, then finishes the requests that it has and refuses new ones.

    Args:
      service: the application. Its threads are ended too.
      sock: from listening.listen.
      drain: seconds for the requests; later they are answered with 503. A second signal ends this time.
      stop: when this event is set, the server ends as after a signal. Tests set it, because a server in a thread gets
        no signals.

    Raises:
      Stopped: requests were left after `drain` seconds, or at a second signal.
      Exception: that of a failed warm-up.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []
    stop, hurry = stop or asyncio.Event(), asyncio.Event()

    def note(number):
        (hurry if received else stop).set()
        received.append(number)

    config = uvicorn.Config(
        service.app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_LAST,
    )
    server, began = _Server(config), time.monotonic()
    numbers = [signal.SIGINT, signal.SIGTERM, *hang_ups()]
    with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
        for number in numbers:
            loop.add_signal_handler(number, note, number)
    scorer = service.scoring.scorer
    where = f"{url_of(sock)}{', with a token' if service.needs_token else ''}"
    _say(f"{scorer.model}, crops {scorer.card.crops}, at {where}")  # now, so that who reads it may send a signal
    serving, stopping = asyncio.ensure_future(server.serve([sock])), asyncio.ensure_future(stop.wait())
    ready = asyncio.wrap_future(service.scoring.ready)
    left = 0
    try:
        await asyncio.wait((ready, stopping, serving), return_when=asyncio.FIRST_COMPLETED)
        if ready.done():
            ready.result()
            service.set_state("ready")
            _say(f"ready after {time.monotonic() - began:.1f} s")
        await asyncio.wait((stopping, serving), return_when=asyncio.FIRST_COMPLETED)
        service.set_state("draining")
        _say("ends: finishing the requests that it has, and refusing new ones")
        asked = time.monotonic()
        idle, hurried = asyncio.ensure_future(service.idle()), asyncio.ensure_future(hurry.wait())
        await asyncio.wait((idle, hurried), timeout=drain, return_when=asyncio.FIRST_COMPLETED)
        left, waited = service.abort(), time.monotonic() - asked
        await service.idle()
        for task in (idle, hurried, stopping):
            task.cancel()
    finally:
        server.should_exit = True
        await serving
        ready.cancel()
        await asyncio.to_thread(service.scoring.close)
    if left:
        raise Stopped(f"{left} requests were not finished after {waited:.1f} s", received[0] if received else 0)


def _say(text: str) -> None:
    print(f"jaxiqa serve: {text}", file=sys.stderr, flush=True)
