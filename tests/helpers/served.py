"""A server of jaxiqa serve in a thread of this process, and its clients."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from jaxiqa.serving import listening, server
from jaxiqa.serving.app import Limits, Service


class Answer(NamedTuple):
    """What a client received."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def values(self) -> dict:
        return json.loads(self.body)


class Served:
    """A running server.

    Attributes: service, port, ended (the future of server.run).
    """

    def __init__(self, scorer, limits: Limits, token: str, drain: float):
        self.service, self.ended = Service(scorer, limits, token), Future()
        sock = listening.listen(listening.addresses("127.0.0.1", 0), "127.0.0.1", 0)
        self.port, self._stop, started = sock.getsockname()[1], asyncio.Event(), threading.Event()

        async def main():
            self._loop = asyncio.get_running_loop()
            started.set()
            with sock:
                await server.run(self.service, sock, drain, self._stop)

        def run():
            try:
                self.ended.set_result(asyncio.run(main()))
            except BaseException as error:
                self.ended.set_exception(error)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        started.wait()

    def stop(self) -> None:
        """Asks the server to end, as SIGTERM does; once."""
        if not self.ended.done():
            self._loop.call_soon_threadsafe(self._stop.set)

    def ask(self, method: str, path: str, body=None, headers: dict | None = None) -> Answer:
        """Sends a request. A body that is an iterator is sent in chunks without a length."""
        return ask(self.port, method, path, body, headers)

    def post(self, *files: tuple[str, bytes], headers: dict | None = None) -> Answer:
        """Sends files, each (name, bytes), as a form to /score."""
        body, kind = form(files)
        return self.ask("POST", "/score", body, {"Content-Type": kind, **(headers or {})})

    def half(self, length: int = 1000, head: str = "") -> socket.socket:
        """A client that has sent a part of its body to /score."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(f"POST /score HTTP/1.1\r\nHost: x\r\n{head}Content-Length: {length}\r\n\r\nabc".encode())
        return sock

    def wait_for_places(self, count: int) -> None:
        """Waits until so many requests have a place."""
        wait_for(lambda: len(self.service._places) == count)

    def metrics(self, headers: dict | None = None) -> dict[str, float]:
        """As the function."""
        return metrics(self.port, headers)


@contextlib.contextmanager
def served(scorer, limits: Limits | None = None, token: str = "", drain: float = 5.0, wait=True) -> Iterator[Served]:
    """Yields a server, which is ready if `wait`; ends it."""
    one = Served(scorer, limits or Limits(), token, drain)
    try:
        if wait:
            wait_for(lambda: one.service.state == "ready")
        yield one
    finally:
        one.stop()
        one._thread.join()


def ask(port: int, method: str, path: str, body=None, headers: dict | None = None) -> Answer:
    """Sends a request to a server on this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {}, encode_chunked=hasattr(body, "__next__"))
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


def metrics(port: int, headers: dict | None = None) -> dict[str, float]:
    """The values at /metrics by name with labels."""
    lines = ask(port, "GET", "/metrics", headers=headers).body.decode().splitlines()
    return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}


def flat_png(height: int, width: int) -> bytes:
    """A black PNG of any size, made without its pixels in memory."""
    squeeze, row = zlib.compressobj(9), bytes(1 + 3 * width)
    data = b"".join([*(squeeze.compress(row) for _ in range(height)), squeeze.flush()])
    head = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0\0\0"
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    parts = (len(x).to_bytes(4) + kind + x + zlib.crc32(kind + x).to_bytes(4) for kind, x in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def form(files: Sequence[tuple[str, bytes]], field: str = "file") -> tuple[bytes, str]:
    """The body of a form with files, and its Content-Type."""
    boundary, parts = uuid.uuid4().hex, []
    for name, data in files:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        parts += [head.encode(), data, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


def wait_for(condition, seconds: float = 60.0) -> None:
    """Waits until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.005)
