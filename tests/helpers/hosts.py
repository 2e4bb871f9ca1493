"""Runs in several processes of this machine, which stand for hosts."""

import contextlib
import pathlib
import re
import socket
import subprocess
import tempfile
import time

import programs
from tiny_run import CNNIQA, options

# Compiled steps run only briefly, so they are compiled without optimisation.
_QUICK = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",  # goldens were made with the flag alone
    "PYTHONUNBUFFERED": "1",
}


class Hosts:
    """`count` processes of jaxiqa NAME, each with `devices` fake devices. A context manager.

    Process 0 is a fork of one server of programs, the others are forks of another. They hash strings differently, as on
    other machines, so that a test fails if a result depends on the order of sets.
    """

    def __init__(self, name: str, arguments, count: int, devices: int, only=None, peer_timeout: int = 120):
        self._folder = tempfile.TemporaryDirectory()
        address = f"localhost:{free_port()}"
        self.processes = {}
        for i in range(count) if only is None else only:
            cluster = []
            if count > 1:
                cluster = ["--coordinator", address, "--num_processes", count, "--process_id", i]
                cluster += ["--peer_timeout", peer_timeout]
            environment = {**_QUICK, "JAX_NUM_CPU_DEVICES": str(devices)}
            how = {"env": environment, "stderr": subprocess.STDOUT, "server": min(i, 1)}
            with open(self._log(i), "w") as log:
                self.processes[i] = programs.start(name, *cluster, *arguments, stdout=log, **how)

    def _log(self, i: int) -> pathlib.Path:
        return pathlib.Path(self._folder.name) / f"{i}.log"

    def output(self, i: int) -> str:
        """The output of process i so far."""
        return self._log(i).read_text()

    def until(self, found, seconds: float = 600) -> None:
        """Waits until found() is true. No process may end earlier."""
        limit = time.monotonic() + seconds
        while not found():
            assert time.monotonic() < limit, [self.output(i) for i in self.processes]
            assert all(p.poll() is None for p in self.processes.values()), [self.output(i) for i in self.processes]
            time.sleep(0.02)

    def wait(self, seconds: float = 600) -> list[int]:
        """Exit codes, in order."""
        limit = time.monotonic() + seconds
        return [p.wait(max(0.1, limit - time.monotonic())) for _, p in sorted(self.processes.items())]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        self._folder.cleanup()


def training(workdir, pictures, count: int, devices: int, total: int, config=CNNIQA, **changes) -> Hosts:
    """jaxiqa train on the fixture `pictures`. It evaluates and saves only at the end."""
    rare = {"total": f"{total} steps", "eval_every": f"{total} steps", "save_every": f"{total} steps"}
    changed = [f"--config.{key}={value}" for key, value in options(pictures, config, **rare | changes).items()]
    return Hosts("train", ["--config", config, "--workdir", workdir, *changed], count, devices)


def last_line(output: str) -> str:
    """The last line that is not from Gloo, the library of collectives."""
    return [line for line in output.splitlines() if "[Gloo]" not in line][-1]


def has_stack(output: str) -> bool:
    """Whether the output contains a C++ stack or a Python traceback."""
    return bool(re.search(r"^\s+@ +0x|Traceback|stack trace|terminate called|Fatal Python", output, re.MULTILINE))


def free_port() -> int:
    """A free port; the port after it is free too."""
    while True:
        with socket.create_server(("", 0)) as first, contextlib.suppress(OSError, OverflowError):
            port = first.getsockname()[1]
            with socket.create_server(("", port + 1)):
                return port
