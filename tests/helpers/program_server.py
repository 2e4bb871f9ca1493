"""The server of programs.py: a process that has imported every room and forks for each program.

Its argument is the file descriptor of a socket. For each call it receives one byte with four files: the request (JSON),
a pipe for numbers, standard output and standard error. The child writes its pid to the pipe, and the server its exit
code. The server and its children end when the socket is closed.
"""

import contextlib
import gc
import importlib
import json
import os
import pathlib
import pkgutil
import resource
import runpy
import select
import signal
import socket
import sys

LAZY = ("matplotlib.figure", "matplotlib.backends.backend_agg", "scipy.optimize", "scipy.stats")  # of many programs


def import_rooms() -> None:
    """Imports every module except programs, whose flags share names. JAX starts no thread before its first use."""
    import jaxiqa

    for module in pkgutil.walk_packages(jaxiqa.__path__, "jaxiqa."):
        if module.name.count(".") >= 2 and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LAZY:
        importlib.import_module(name)


def serve(calls: socket.socket) -> dict | None:
    """Forks for each call until the socket is closed. Returns the request in a child, None in the server."""
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the default handler would not wake select
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests handle Ctrl-C and end the server
    running: dict[int, int] = {}  # pid of a child: the pipe for its exit code
    while True:
        ready, _, _ = select.select([calls, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            for pid in list(running):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                        os.write(running[pid], b"%d\n" % os.waitstatus_to_exitcode(status))
                    os.close(running.pop(pid))
        if calls in ready:
            call, files, *_ = socket.recv_fds(calls, 1, 4)
            if not call:
                for pid in running:
                    os.killpg(pid, signal.SIGKILL)
                return None
            pid = os.fork()
            if not pid:
                calls.close()
                for number in (woken, waking, *running.values()):
                    os.close(number)
                return prepare(*files)
            running[pid] = files[1]
            for number in (files[0], *files[2:]):
                os.close(number)


def prepare(request: int, numbers: int, stdout: int, stderr: int) -> dict:
    """Makes this child like a new process. Returns the request."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.write(numbers, b"%d\n" % os.getpid())  # from now on it can receive signals
    for number, stream in ((stdout, 1), (stderr, 2)):
        os.dup2(number, stream)
    for number in (numbers, stdout, stderr):
        os.close(number)
    with open(request) as file:
        call = json.loads(os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (call["file_limit"], call["file_limit"]))
    os.chdir(call["cwd"])
    set_environment(call["env"])
    # New streams: Python remembers of the old ones whether their files are seekable.
    sys.stdout = sys.__stdout__ = _stream(1, sys.stdout, line_buffering="PYTHONUNBUFFERED" in call["env"])
    sys.stderr = sys.__stderr__ = _stream(2, sys.stderr, line_buffering=True)
    return call


def _stream(number: int, like, line_buffering: bool):
    buffering = 1 if line_buffering else -1
    return open(number, "w", buffering, encoding=like.encoding, errors=like.errors, closefd=False)


def set_environment(environment: dict[str, str]) -> None:
    """Sets the environment, also in the JAX options that JAX reads from it at import."""
    import jax

    before = dict(os.environ)
    for name in before.keys() - environment.keys():
        del os.environ[name]
    for name, text in environment.items() - before.items():
        os.environ[name] = text
        if (option := name.lower()) in jax.config.values:
            kind = type(jax.config.values[option])
            value = text.lower() in ("1", "true") if kind is bool else int(text) if kind is int else text
            jax.config.update(option, value)


def main() -> None:
    """Serves calls; in a child, runs the program and ends as it does."""
    calls = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = os.getcwd()  # python -m looks here first, for the package of this checkout
    import_rooms()
    gc.freeze()  # so that memory stays shared with the children
    call = serve(calls)
    if call is None:
        return
    sys.argv = [call["program"], *call["arguments"]]
    if call["program"].endswith(".py"):
        sys.path[0] = str(pathlib.Path(call["program"]).parent)
        program = lambda: runpy.run_path(call["program"], run_name="__main__")  # noqa: E731
    else:
        sys.path[0] = call["cwd"]
        program = lambda: runpy.run_module(f"jaxiqa.{call['program']}", run_name="__main__", alter_sys=True)  # noqa: E731
    try:
        program()
    except SystemExit as end:
        if call["teardown"] or not isinstance(end.code, int):
            raise
        sys.stdout.flush()
        os._exit(end.code)


if __name__ == "__main__":
    main()
