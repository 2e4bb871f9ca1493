"""Where a server listens. Needs no JAX, so that wrong flags are refused at once."""

import ipaddress
import socket

from jaxiqa.errors import ConfigError


def addresses(host: str, port: int) -> list[tuple]:
    """What socket.getaddrinfo returns for a host to listen at.

    Raises:
      ConfigError: there is no such host.
    """
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host} is not an address of this machine ({error}); name one, e.g. 127.0.0.1",
            code="value",
            key="--host",
        ) from error


def is_loopback(found: list[tuple]) -> bool:
    """Whether all addresses can be reached from this machine only."""
    return all(ipaddress.ip_address(address[0].partition("%")[0]).is_loopback for *_, address in found)


def listen(found: list[tuple], host: str, port: int) -> socket.socket:
    """Listens at the first address; connections wait until server.run accepts them.

    Raises:
      ConfigError: the port is in use, or not allowed.
    """
    family, *_, address = found[0]
    try:
        return socket.create_server(address, family=family)  # with the interface of a link-local address
    except OSError as error:
        raise ConfigError(
            f"--port {port}: cannot listen at {host} ({error.strerror}); name another one, or 0 for any that is free",
            code="conflict",
            key="--port",
        ) from error


def url_of(sock: socket.socket) -> str:
    """The address of the page, for people."""
    host, port = socket.getnameinfo(sock.getsockname(), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}".replace("%", "%25")  # as RFC 6874 writes interfaces
