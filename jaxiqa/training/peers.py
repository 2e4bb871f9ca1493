"""The processes of one run: they find each other before JAX connects them, and notice when one of them is gone.

JAX itself aborts with a C++ stack where a process is missing, and hangs or aborts where one dies. So process 0 listens
beside the coordinator's port, every other process holds one connection to it, and both ends say every few seconds
that they live. Messages are JSON, one a line.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time

from jaxiqa.errors import ConfigError, PeerLost

HEARTBEAT = 5.0  # seconds between two signs of life
SILENCE = 30.0  # seconds without one after which a process counts as lost; JAX's own limit is 100
GRACE = 5.0  # seconds in which a process whose peer is gone may end with an error of its own, such as a bad config
_REPEAT = 10.0  # seconds between two lines of progress


class _Channel:
    """A connection to one process."""

    def __init__(self, connection: socket.socket):
        self.socket, self.heard, self._buffer = connection, time.monotonic(), b""
        connection.settimeout(HEARTBEAT)  # of sending; it is read only when something is there

    def send(self, **message) -> None:
        with contextlib.suppress(OSError):  # whoever is gone is noticed by reading
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict] | None:
        """Messages that have arrived, None where the other end is gone (or speaks another language)."""
        try:
            data = self.socket.recv(65536)
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            if not data or len(self._buffer) > 65536:
                return None
            self.heard = time.monotonic()
            messages = [json.loads(line) for line in lines]
            return messages if all(isinstance(message, dict) for message in messages) else None
        except (OSError, ValueError):
            return None


class Peers:
    """The other processes of this run; returns when all of them are there.

    Args:
      host, port: of the coordinator that JAX will start; ours listens at port + 1 (65534 for 65535).
      count, index: processes in all, and which one this is.
      timeout: seconds to wait for the others.

    Raises:
      PeerLost: some did not come; they are named.
      ConfigError: the port is taken, or two processes say that they are the same one.
    """

    def __init__(self, host: str, port: int, count: int, index: int, timeout: float):
        self.count, self.index, self._timeout = count, index, timeout
        self._address = (host, port + 1 if port < 65535 else port - 1)
        self._channels: dict[int, _Channel] = {}
        self._done: set[int] = set()
        self._leaving, self._all_done, self._failing, self._lost = (threading.Event() for _ in range(4))
        if index:
            self._call()
        else:
            self._listen()
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    # ---- Finding each other ------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        began, said, before = time.monotonic(), -_REPEAT, None
        try:
            family = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
            # Open as long as the run, so that no other one takes the port.
            self._server = socket.create_server(("", self._address[1]), backlog=self.count, **family)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"--coordinator: process 0 cannot listen at port {self._address[1]} ({reason}); is another run "
                "using it? Name another port"
            ) from error
        selector = selectors.DefaultSelector()
        selector.register(self._server, selectors.EVENT_READ)
        while missing := [i for i in range(1, self.count) if i not in self._channels]:
            now = time.monotonic()
            text = f"{len(missing)} of {self.count}: {_names(missing)}"
            if now - began > self._timeout:
                why = f"waited {self._timeout:.0f} s for {text}; start all processes within --peer_timeout"
                self._tell(refused=why, code=PeerLost.exit_code)
                raise PeerLost(why)
            if text != before or now - said > _REPEAT:
                self._tell(waiting=text)
                print(f"waiting for {text}", flush=True)
                before, said = text, now
            for key, _ in selector.select(0.2):
                if key.fileobj is self._server:
                    connection, _ = self._server.accept()
                    selector.register(connection, selectors.EVENT_READ, _Channel(connection))
                else:
                    self._greet(selector, key.data)
        selector.close()
        self._tell(go=True)

    def _greet(self, selector, channel: _Channel) -> None:
        messages = channel.receive()
        index, count = next(((m.get("index"), m.get("count")) for m in messages or () if "index" in m), (None, None))
        gone = messages is None
        if gone:
            for i, c in list(self._channels.items()):
                if c is channel:  # it may come again
                    del self._channels[i]
        elif index is not None and (count != self.count or index not in range(1, self.count)):
            channel.send(refused=f"process {index} of {count} is none of the {self.count} of process 0", code=2)
            gone = True
        elif index in self._channels:
            why = f"two processes say that they are process {index}; give each another --process_id"
            channel.send(refused=why, code=2)
            self._tell(refused=why, code=2)
            raise ConfigError(why)
        elif index is not None:
            self._channels[index] = channel
        if gone:
            selector.unregister(channel.socket)
            channel.socket.close()

    def _call(self) -> None:
        began, said = time.monotonic(), -_REPEAT
        host, port = self._address
        text = f"1 of {self.count}: process 0 at {host}:{port}"
        while (left := self._timeout - (time.monotonic() - began)) > 0:
            try:
                channel = _Channel(socket.create_connection(self._address, timeout=min(left, HEARTBEAT)))
            except OSError:
                if time.monotonic() - said > _REPEAT:
                    print(f"waiting for {text}", flush=True)
                    said = time.monotonic()
                time.sleep(min(0.3, left))
                continue
            channel.send(index=self.index, count=self.count)
            while (left := self._timeout - (time.monotonic() - began)) > 0:
                channel.socket.settimeout(left + 1)  # process 0, which knows who is missing, may say so first
                messages = channel.receive()
                if messages is None:  # an earlier run was just leaving, or process 0 died: call again
                    channel.socket.close()
                    time.sleep(0.3)
                    break
                for message in messages:
                    if "refused" in message:
                        raise (ConfigError if message.get("code") == 2 else PeerLost)(message["refused"])
                    if "waiting" in message:
                        text = message["waiting"]
                        print(f"waiting for {text}", flush=True)
                    if "go" in message:
                        channel.socket.settimeout(HEARTBEAT)
                        self._channels[0] = channel
                        return
        raise PeerLost(f"waited {self._timeout:.0f} s for {text}; start all processes within --peer_timeout")

    def _tell(self, **message) -> None:
        for channel in list(self._channels.values()):
            channel.send(**message)

    # ---- Watching each other -----------------------------------------------------------------------------------------
    def _watch(self) -> None:
        selector = selectors.DefaultSelector()
        for index, channel in self._channels.items():
            channel.heard = time.monotonic()
            selector.register(channel.socket, selectors.EVENT_READ, index)
        beat = 0.0
        while not self._all_done.is_set():
            if time.monotonic() - beat > HEARTBEAT:
                self._tell(alive=True)
                beat = time.monotonic()
            for key, _ in selector.select(0.5):
                messages = self._channels[key.data].receive()
                if messages is None:
                    selector.unregister(key.fileobj)
                    if key.data not in self._done:
                        return self._end(f"process {key.data} of {self.count} ended before the run did")
                for message in messages or ():
                    if "lost" in message:
                        return self._end(message["lost"])
                    if "done" in message:
                        self._done.add(key.data)
            for index, channel in self._channels.items():
                if index not in self._done and time.monotonic() - channel.heard > SILENCE:
                    return self._end(f"process {index} of {self.count} has not been heard of for {SILENCE:.0f} s")
            if len(self._done) == len(self._channels) and self._leaving.is_set():
                if not self.index:
                    self._tell(done=True)
                self._all_done.set()

    def _end(self, why: str) -> None:
        """End this process, whatever it is waiting for, unless it ends by itself."""
        self._lost.set()
        if not self.index:
            self._tell(lost=why)
        if self._failing.wait(GRACE):
            return
        sys.stdout.flush()
        name = os.path.basename(sys.argv[0])
        print(f"{name}: {why}; start all of them again to go on from the last checkpoint", file=sys.stderr, flush=True)
        os._exit(PeerLost.exit_code)

    def leave(self) -> None:
        """Waits until the others are done, too: process 0 may be writing a report."""
        self._leaving.set()
        if self.index:
            self._tell(done=True)
        self._all_done.wait()

    def fail(self, own: bool) -> None:
        """This process ends with an error: of its `own`, or perhaps because another one is gone, which goes first."""
        if not own and self._lost.wait(HEARTBEAT):
            threading.Event().wait()  # until _end
        self._failing.set()


def relay(host: str, port: int) -> int:
    """A port of this machine that leads to host:port, and stays open when that end is gone.

    JAX's client aborts its process the moment its connection to the coordinator closes. Through here it does not see
    that, and Peers can end the process in order.
    """
    server = socket.create_server(("127.0.0.1", 0))
    kept = []  # a socket that is garbage is closed

    def pump(source: socket.socket, target: socket.socket, then_close: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        if then_close:
            target.close()

    def connect(inner: socket.socket) -> None:
        while True:
            try:
                outer = socket.create_connection((host, port))
                break
            except OSError:  # process 0 has yet to start it
                time.sleep(0.1)
        kept.append((inner, outer))
        threading.Thread(target=pump, args=(outer, inner, False), daemon=True).start()
        pump(inner, outer, True)

    def serve() -> None:
        while True:
            inner, _ = server.accept()
            threading.Thread(target=connect, args=(inner,), daemon=True).start()

    threading.Thread(target=serve, name="relay", daemon=True).start()
    return server.getsockname()[1]


def _names(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:20])) + (", ..." if len(indices) > 20 else "")
    return f"process{'es' if len(indices) > 1 else ''} {shown}"
