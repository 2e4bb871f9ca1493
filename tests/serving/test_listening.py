"""Where a server listens."""

import socket
import types

import pytest

from jaxiqa.serving import listening

LINK_LOCAL = "fe80::1%" + socket.if_indextoname(1)


def test_a_link_local_address_keeps_its_interface(monkeypatch):
    """Of the system only the binding is replaced, because few machines have this address."""
    bound = []
    monkeypatch.setattr(socket, "create_server", lambda address, family: bound.append((address, family)))
    found = listening.addresses(LINK_LOCAL, 8000)
    assert not listening.is_loopback(found)
    listening.listen(found, LINK_LOCAL, 8000)
    assert bound == [(("fe80::1", 8000, 0, 1), socket.AF_INET6)]
    sock = types.SimpleNamespace(getsockname=lambda: bound[0][0])
    assert listening.url_of(sock) == f"http://[{LINK_LOCAL.replace('%', '%25')}]:8000"


@pytest.mark.parametrize("host, url", [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_for_people(host, url):
    with listening.listen(listening.addresses(host, 0), host, 0) as sock:
        assert listening.url_of(sock) == f"http://{url}:{sock.getsockname()[1]}"
