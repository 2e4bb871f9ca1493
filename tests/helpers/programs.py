"""Programs that tests start, as forks of one process that has imported every room.

A cold start of Python, JAX and Orbax takes seconds, a fork takes milliseconds. `start` returns a `Child`, which is used
like subprocess.Popen. The child behaves like a new process: it has its own session, standard streams, environment,
folder, limits and default signal handlers, the interpreter ends normally, and JAX has the devices of the given
environment.

A fork differs from a cold start in four ways. The children of one server hash strings alike, so they never differ in
the order of sets, and for that reason hosts.py uses two servers. The settings that the interpreter reads at its start
(PYTHON*, the locale, -O) are those of the server. Rooms are already imported, so their warnings are not repeated. A
variable JAX_* cannot be removed. Tests of these things start a process by subprocess.
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


class Child:
    """A program that `start` started.

    Attributes: args, pid, returncode (None while it runs), stdout and stderr (text files; None if not a pipe).
    """

    def __init__(self, call: dict, stdout, stderr, server: int = 0):
        self.args, self.returncode = [call["program"], *call["arguments"]], None
        self.stdout, out = _pipe() if stdout == subprocess.PIPE else (None, os.dup(stdout.fileno()))
        if stderr == subprocess.STDOUT:
            self.stderr, err = None, os.dup(out)
        else:
            self.stderr, err = _pipe() if stderr == subprocess.PIPE else (None, os.dup(stderr.fileno()))
        self._numbers, numbers = os.pipe()
        self._readers, self._texts = {}, {}
        with tempfile.TemporaryFile() as request:
            request.write(json.dumps(call).encode())
            request.flush()
            socket.send_fds(_server(server), [b"."], [request.fileno(), numbers, out, err])
        for number in (numbers, out, err):
            os.close(number)
        self.pid = self._read_number()

    def _read_number(self) -> int:
        """Reads the next number: first the pid of the child, then its exit code."""
        text = b""
        while not text.endswith(b"\n"):
            text += (part := os.read(self._numbers, 1))  # one byte at a time, because both numbers may be in the pipe
            assert part, "the server of programs has ended"
        return int(text)

    def poll(self) -> int | None:
        """Returns the exit code; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end. Returns the exit code, or minus the number of the signal that ended it.

        Raises:
          subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        if self.returncode is None:
            if not select.select([self._numbers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._read_number()
            os.close(self._numbers)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Returns the rest of standard output and standard error, once no process can write there any more.

        Raises:
          subprocess.TimeoutExpired: a process can still write there after `timeout` seconds.
        """
        files = {name: file for name in ("stdout", "stderr") if (file := getattr(self, name))}
        for name, file in files.items():
            if name not in self._readers:
                read = lambda name=name, file=file: self._texts.update({name: file.read()})  # noqa: E731
                self._readers[name] = threading.Thread(target=read, daemon=True)
                self._readers[name].start()
        for name, reader in self._readers.items():
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
            files[name].close()
        self.wait(timeout)
        return self._texts.get("stdout"), self._texts.get("stderr")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    program,
    *arguments,
    cwd=ROOT,
    env: dict[str, str] | None = None,
    file_limit: int = resource.RLIM_INFINITY,
    teardown: bool = True,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    server: int = 0,
) -> Child:
    """Starts python -m jaxiqa.PROGRAM, or python PROGRAM if the name ends in .py.

    Args:
      env: variables that are added to the environment of this process.
      file_limit: RLIMIT_FSIZE, in bytes.
      teardown: whether the interpreter ends normally after sys.exit(), which takes most of the time of a refusal.
      stdout, stderr: subprocess.PIPE or a file; for stderr subprocess.STDOUT too.
      server: number of the server; each server hashes strings differently.
    """
    call = {
        "program": str(program),
        "arguments": [str(argument) for argument in arguments],
        "cwd": str(cwd),
        "env": {**os.environ, **(env or {})},
        "file_limit": file_limit,
        "teardown": teardown,
    }
    return Child(call, stdout, stderr, server)


def run(program, *arguments, timeout: float | None = None, **how) -> subprocess.CompletedProcess:
    """Runs a program by `start` until it ends.

    Raises:
      subprocess.TimeoutExpired: it did not end within `timeout` seconds and was killed.
    """
    child = start(program, *arguments, **how)
    try:
        stdout, stderr = child.communicate(timeout)
    except BaseException:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise
    return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)


def _pipe():
    """A text file to read from a child, as subprocess opens it, and the file descriptor of the other end."""
    reading, writing = os.pipe()
    return open(reading, encoding="utf-8", errors="surrogateescape"), writing


@functools.cache
def _server(number: int) -> socket.socket:
    """Starts a server of this process, which ends with it. Returns the socket."""
    ours, its = socket.socketpair()
    command = [sys.executable, str(HERE / "program_server.py"), str(its.fileno())]
    server = subprocess.Popen(
        command, cwd=ROOT, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    its.close()

    @atexit.register
    def end():
        ours.close()
        server.wait()

    return ours
