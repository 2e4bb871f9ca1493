"""The processes of one run: they find each other before JAX connects them, agree on where to stop, and notice when one
of them is gone.

JAX itself aborts with a C++ stack where a process is missing, and hangs or aborts where one dies. So process 0 listens
beside the coordinator's port, and every other process holds one connection to it. Messages are JSON, one a line.
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

SILENCE = 30  # seconds after which a host that answers no probe of the kernel counts as gone
GRACE = 5.0  # seconds in which a process whose peer is gone may end with an error of its own, such as a bad config
_TICK = 0.2  # seconds
_REPEAT = 10.0  # seconds between two lines of progress


class _Channel:
    """A connection to one process."""

    def __init__(self, connection: socket.socket):
        self.socket, self._buffer = connection, b""
        connection.settimeout(SILENCE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", (SILENCE - 10) // 5)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

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
            messages = [json.loads(line) for line in lines]
            return messages if all(isinstance(message, dict) for message in messages) else None
        except (OSError, ValueError):
            return None


class Peers:
    """The other processes of this run; made when all of them are there.

    Args:
      host, port: of the coordinator that JAX will start; ours listens at port + 1 (65534 for 65535).
      count, index: processes in all, and which one this is.
      timeout: seconds to wait for the others.

    Raises:
      PeerLost: some did not come; they are named.
      ConfigError: the port is taken, or two processes say that they are the same one.
    """

    def __init__(self, host: str, port: int, count: int, index: int, timeout: float):
        self.count, self.index, self._timeout, self._port = count, index, timeout, port
        self._address = (host, port + 1 if port < 65535 else port - 1)
        self._channels: dict[int, _Channel] = {}
        self._done: set[int] = set()
        self._leaving, self._all_done, self._failing, self._lost = (threading.Event() for _ in range(4))
        self._stepping = threading.Condition()
        self._step, self._asked, self._deciding = -1, None, False  # of this process
        self._stop: tuple[int, int] | None = None  # the step to stop at, and the signal
        self._steps: dict[int, int] | None = None  # on process 0: where the others say they are
        self._sockets: list[socket.socket] = []
        try:
            self._call() if index else self._listen()
        except BaseException:
            self._hang_up()
            raise
        threading.Thread(target=self._watch, name="peers", daemon=True).start()

    # ---- Finding each other ------------------------------------------------------------------------------------------
    def _listen(self) -> None:
        began, said, before = time.monotonic(), 0.0, None
        self._open(self._port).close()  # where JAX's coordinator will be, which aborts if it cannot
        server = self._open(self._address[1])  # as long as the run, so that no other one takes it
        self._sockets.append(server)
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            while missing := [i for i in range(1, self.count) if i not in self._channels]:
                now, text = time.monotonic(), f"{len(missing)} of {self.count}: {_names(missing)}"
                if now - began > self._timeout:
                    why = f"waited {self._timeout:.0f} s for {text}; start all processes within --peer_timeout"
                    self._tell(refused=why, code=PeerLost.exit_code)
                    raise PeerLost(why)
                if text != before or now - said > _REPEAT:
                    self._tell(waiting=text)
                    print(f"waiting for {text}", flush=True)
                    before, said = text, now
                for key, _ in selector.select(_TICK):
                    if key.fileobj is server:
                        connection, _ = server.accept()
                        self._sockets.append(connection)
                        selector.register(connection, selectors.EVENT_READ, _Channel(connection))
                    elif self._greet(key.data):
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
        self._tell(go=True)

    def _open(self, port: int) -> socket.socket:
        family = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
        try:
            return socket.create_server(("", port), backlog=self.count, **family)
        except OSError as error:
            raise ConfigError(
                f"--coordinator: process 0 cannot listen at port {port} ({error.strerror}); is another run using it? "
                "Name another port"
            ) from error

    def _greet(self, channel: _Channel) -> bool:
        """Hear who is there; whether the connection is to be closed."""
        messages = channel.receive()
        if messages is None:  # it may come again
            self._channels = {i: c for i, c in self._channels.items() if c is not channel}
            return True
        for message in messages:
            index, count = message.get("index"), message.get("count")
            if count != self.count or index not in range(1, self.count):
                channel.send(refused=f"process {index} of {count} is none of the {self.count} of process 0", code=2)
                return True
            if index in self._channels:
                why = f"two processes say that they are process {index}; give each a --process_id of its own"
                channel.send(refused=why, code=2)
                self._tell(refused=why, code=2)
                raise ConfigError(why)
            self._channels[index] = channel
        return False

    def _call(self) -> None:
        end, said = time.monotonic() + self._timeout, 0.0
        host, port = self._address
        text = f"1 of {self.count}: process 0 at {host}:{port}"
        while (left := end - time.monotonic()) > 0:
            try:
                connection = socket.create_connection(self._address, timeout=min(left, 5.0))
            except OSError:
                if time.monotonic() - said > _REPEAT:
                    print(f"waiting for {text}", flush=True)
                    said = time.monotonic()
                time.sleep(_TICK)
                continue
            self._sockets.append(connection)
            channel = _Channel(connection)
            channel.send(index=self.index, count=self.count)
            while (left := end - time.monotonic()) > 0:
                connection.settimeout(left + 1)  # process 0, which knows who is missing, may say so first
                messages = channel.receive()
                if messages is None:  # an earlier run is just leaving, or process 0 died: call again
                    connection.close()
                    time.sleep(_TICK)
                    break
                for message in messages:
                    if "refused" in message:
                        raise (ConfigError if message["code"] == 2 else PeerLost)(message["refused"])
                    if "waiting" in message:
                        text = message["waiting"]
                        print(f"waiting for {text}", flush=True)
                    if "go" in message:
                        connection.settimeout(SILENCE)
                        self._channels[0] = channel
                        return
        raise PeerLost(f"waited {self._timeout:.0f} s for {text}; start all processes within --peer_timeout")

    def _tell(self, **message) -> None:
        for channel in list(self._channels.values()):
            channel.send(**message)

    # ---- Watching each other -----------------------------------------------------------------------------------------
    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for index, channel in self._channels.items():
                selector.register(channel.socket, selectors.EVENT_READ, index)
            while not self._all_done.is_set():
                for key, _ in selector.select(_TICK):
                    messages = self._channels[key.data].receive()
                    for message in messages or ():
                        if "failed" in message:
                            code = message["failed"]
                            return self._end(f"process {key.data} of {self.count} ended with {code}", code)
                        if "lost" in message:
                            return self._end(message["lost"], message["code"])
                        if "done" in message:
                            self._done.add(key.data)
                        else:
                            self._agree(key.data, message)
                    if messages is None:
                        selector.unregister(key.fileobj)
                        if key.data not in self._done:
                            return self._end(f"process {key.data} of {self.count} ended before the run did")
                if not self.index and self._asked:
                    self._agree(0, {"stop": self._asked})
                if len(self._done) == len(self._channels) and self._leaving.is_set():
                    if not self.index:
                        self._tell(done=True)
                    self._all_done.set()

    def _end(self, why: str, code: int = PeerLost.exit_code) -> None:
        """End this process, whatever it is waiting for, unless it ends by itself."""
        self._lost.set()
        if not self.index:
            self._tell(lost=why, code=code)
        if self._failing.wait(GRACE):
            return
        sys.stdout.flush()
        if code == PeerLost.exit_code:
            why += "; start all of them again to go on from the last checkpoint"
        print(f"{os.path.basename(sys.argv[0])}: {why}", file=sys.stderr, flush=True)
        os._exit(code)

    def leave(self) -> None:
        """Waits until the others are done, too: process 0 may be writing a report."""
        self._leaving.set()
        if self.index:
            self._tell(done=True)
        self._all_done.wait()
        self._hang_up()

    def fail(self, own: bool, code: int) -> None:
        """This process ends with an error: of its `own`, or perhaps because another one is gone, which goes first.

        An error of its own that would come again ends the others with its exit code; 0 for one that would not.
        """
        if not own and self._lost.wait(GRACE):
            threading.Event().wait()  # until _end
        self._failing.set()
        if own and code:
            self._tell(failed=code)

    def _hang_up(self) -> None:
        for one in self._sockets:
            one.close()

    # ---- Stopping together -------------------------------------------------------------------------------------------
    def stop_at(self, step: int, signal_number: int | None) -> int | None:
        """The signal by which all processes stop before this step; `signal_number` is one that this process got.

        Once one of them asks, process 0 hears from all (from their threads: who waits for a device answers too) how far
        they are, none goes further until it has said where to stop, and that is one step after the furthest.
        """
        with self._stepping:
            self._step = step
            if signal_number and not self._asked:
                self._asked, self._deciding = signal_number, self._stop is None
                if self.index:
                    self._tell(stop=signal_number)
            self._stepping.wait_for(lambda: not self._deciding)
            return self._stop[1] if self._stop and step >= self._stop[0] else None

    def _agree(self, index: int, message: dict) -> None:
        with self._stepping:
            if "stop" in message and self._steps is None:  # on process 0, once
                self._deciding, self._asked, self._steps = True, message["stop"], {0: self._step}
                self._tell(where=True)
            if "where" in message:
                self._deciding = True
                self._tell(at=self._step)
            if "at" in message:
                self._steps[index] = message["at"]
                if len(self._steps) == self.count:
                    message = {"stop_at": max(self._steps.values()) + 1, "signal": self._asked}
                    self._tell(**message)
            if "stop_at" in message:
                self._stop, self._deciding = (message["stop_at"], message["signal"]), False
                self._stepping.notify_all()


def _names(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:20])) + (", ..." if len(indices) > 20 else "")
    return f"process{'es' if len(indices) > 1 else ''} {shown}"
