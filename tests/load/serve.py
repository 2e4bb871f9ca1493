"""A server under many requests, good and bad ones, killed ones and hostile ones."""

import concurrent.futures
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

from served import ask, flat_png, form, metrics, wait_for

from tests.load.job import write_images

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
GROWTH = 0.10  # of the highest memory during warm-up


class Seen(NamedTuple):
    """What the clients saw."""

    statuses: dict[int, int]  # of the mixed requests: how many have this status
    wrong: int  # mixed requests with another status than the one expected
    seconds: list[float]  # of the mixed requests, ascending
    memory: dict[str, int]  # bytes of the server; "warm" and "peak" are the highest so far
    shapes: tuple[float, float]  # compiled shapes, after warm-up and at the end
    random_bytes: set[int]  # statuses of random byte strings
    bomb: int  # status of an image of 178 megapixels
    left: float  # requests in flight after all clients that were killed in the middle of a request
    stop: tuple[
        int, list[int], int, float
    ]  # requests in progress at SIGTERM; statuses; the exit code; seconds to the end

    def faults(self) -> list[str]:
        """The bars that are missed."""
        after, end = self.memory["warm"], self.memory["mixed"]
        bars = {
            "an answer is not the documented one": not self.wrong,
            "the memory grows": end / after - 1 <= GROWTH,
            "something is compiled after warm-up": self.shapes[0] == self.shapes[1],
            "random bytes are not all 415": self.random_bytes == {415},
            "the bomb is not 413": self.bomb == 413,
            "the bomb or random bytes take memory": self.memory["bad"] / after - 1 <= GROWTH,
            "a killed request keeps its place": self.left == 0,
            # Requests that arrive after the signal are answered with 503.
            "SIGTERM loses requests": self.stop[1].count(200) >= self.stop[0]
            and set(self.stop[1]) <= {200, 503}
            and self.stop[2] == 0,
        }
        return [text for text, holds in bars.items() if not holds]


def run(good: list[bytes], bad: list[bytes], warm: int, count: int, at_once: int, *options: str) -> Seen:
    """Starts jaxiqa serve, sends mixed requests, `at_once` at a time, then hostile ones, and stops it.

    Memory and times are those of the `count` requests after the first `warm` ones. The memory is compared with the
    highest until then: the allocator of the system returns memory and takes it again.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jaxiqa", "serve", f"--port={port}", *options]
    rng, memory = random.Random(0), {}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: _is_ready(port), 600)
            first, mixed = ([_request(rng, good, bad) for _ in range(n)] for n in (warm, count))
            with concurrent.futures.ThreadPoolExecutor(at_once) as clients:
                send = lambda request: _timed(port, request)  # noqa: E731
                list(clients.map(send, first))
                memory["warm"], shapes = _memory(server.pid, "VmHWM"), metrics(port)["jaxiqa_compiled_shapes"]
                found = list(clients.map(send, mixed))
                memory["mixed"] = _memory(server.pid)
                for _ in range(3 * at_once):
                    _kill_half_way(port)
                wait_for(lambda: metrics(port)["jaxiqa_requests_in_flight"] == 0)
                left = metrics(port)["jaxiqa_requests_in_flight"]
                strings = [("", rng.randbytes(rng.randrange(1, 100_000)), {}) for _ in range(200)]
                statuses = {ask(port, "POST", "/score", body).status for _, body, _ in strings}
                bomb = ask(port, "POST", "/score", flat_png(13_000, 13_690)).status
                memory["bad"], memory["peak"] = _memory(server.pid), _memory(server.pid, "VmHWM")
                shapes = (shapes, metrics(port)["jaxiqa_compiled_shapes"])
                last = [clients.submit(ask, port, "POST", "/score", good[i % len(good)]) for i in range(at_once)]
                wait_for(lambda: metrics(port)["jaxiqa_requests_in_flight"] or all(x.done() for x in last))
                in_work = int(metrics(port)["jaxiqa_requests_in_flight"])
                began = time.monotonic()
                server.send_signal(signal.SIGTERM)
                code = server.wait(60)
                # A client that had not yet connected is refused by the system.
                stop = (in_work, [x.result().status for x in last if not x.exception()], code, time.monotonic() - began)
        finally:
            server.kill()
    wrong = sum(status != expected for (*_, expected), (status, _) in zip(mixed, found, strict=True))
    by_status = {status: sum(s == status for s, _ in found) for status in sorted({s for s, _ in found})}
    seconds = sorted(seconds for _, seconds in found)
    return Seen(by_status, wrong, seconds, memory, shapes, statuses, bomb, left, stop)


def _request(rng: random.Random, good: list[bytes], bad: list[bytes]) -> tuple[bytes, dict, int]:
    """Body, head and expected status of a request: one image as the body, or a form with up to four files."""
    files = [rng.choice(bad if rng.random() < 0.2 else good) for _ in range(rng.choice((1, 1, 2, 4)))]
    expected = 200 if any(any(file is one for one in good) for file in files) else 415
    if len(files) == 1 and rng.random() < 0.5:
        return files[0], {}, expected
    body, kind = form([(f"{i}.jpg", file) for i, file in enumerate(files)])
    return body, {"Content-Type": kind}, expected


def _timed(port: int, request: tuple[bytes, dict, int]) -> tuple[int, float]:
    began = time.monotonic()
    return ask(port, "POST", "/score", *request[:2]).status, time.monotonic() - began


def _kill_half_way(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(5000))


def _is_ready(port: int) -> bool:
    try:
        return ask(port, "GET", "/healthz").status == 200
    except OSError:
        return False


def _memory(pid: int, what: str = "VmRSS") -> int:
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{what}:"))


def write_files(folder: pathlib.Path) -> tuple[list[bytes], list[bytes]]:
    """Images of different sizes, and files that are none or that are cut off."""
    write_images(folder, 1)
    files = {path.stem: path.read_bytes() for path in sorted((folder / "kinds").iterdir())}
    bad = [files.pop("cut"), files.pop("none"), b"", b"<!doctype html>"]
    return list(files.values()), bad


def main(count: int) -> int:
    """Sends requests, 32 at a time, to the weights that ship, and prints what is seen. Returns 1 if a bar is missed."""
    with tempfile.TemporaryDirectory(prefix="jaxiqa-load-") as name:
        seen = run(*write_files(pathlib.Path(name)), count // 2, count, 32)
    at = lambda part: 1000 * seen.seconds[min(count - 1, int(part * count))]  # noqa: E731
    memory = {name: f"{size / 2**20:.0f} MiB" for name, size in seen.memory.items()}
    print(f"{count:,} requests after {count // 2:,}, 32 at a time: {seen.statuses}, {seen.wrong} not as documented")
    print(f"time of a request: p50 {at(0.5):.0f} ms, p99 {at(0.99):.0f} ms")
    print(f"highest memory before them {memory['warm']}, after them {memory['mixed']}; compiled shapes {seen.shapes}")
    print(f"200 random byte strings: {seen.random_bytes}; a PNG of 178 megapixels: {seen.bomb}; then {memory['bad']}")
    print(f"highest memory of the server {memory['peak']}; places held by 96 killed requests: {seen.left:.0f}")
    in_work, answers, code, took = seen.stop
    counts = {status: answers.count(status) for status in sorted({*answers})}
    print(f"SIGTERM: {in_work} requests in progress, answers {counts}; exit code {code} after {took:.1f} s")
    faults = seen.faults()
    print("; ".join(faults) or "all bars are met")
    return int(bool(faults))
