"""A port of this machine that leads to another one's, and stays open when that end is gone.

JAX's client aborts its process, with a C++ stack, the moment its connection to the coordinator closes. Through here it
does not see that, and the process can be ended in order (peers.py). This is a process of its own, because JAX may wait
for the coordinator while no Python thread can run. It ends with the one that started it.
"""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time


def start_relay(host: str, port: int) -> tuple[subprocess.Popen, int]:
    """The process, to be kept, and the port of 127.0.0.1 that leads to host:port."""
    command = [sys.executable, "-I", "-S", __file__, host, str(port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    return process, int(process.stdout.readline())


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def _connect(inner: socket.socket, address: tuple[str, int]) -> None:
    while True:
        try:
            outer = socket.create_connection(address)
            break
        except OSError:  # process 0 has yet to start its coordinator
            time.sleep(0.1)
    threading.Thread(target=_pump, args=(outer, inner), daemon=True).start()
    _pump(inner, outer)
    outer.close()


def _main(host: str, port: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # may be sent to all of a machine's processes
        signal.signal(number, signal.SIG_IGN)
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)

    def serve():
        while True:
            inner, _ = server.accept()
            threading.Thread(target=_connect, args=(inner, (host, int(port))), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
