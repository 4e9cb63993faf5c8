"""Listening sockets, as the kernel's tables show them."""

import os
import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_net.listeners import describe, find_listeners
from qorch_net.plan import Transport
from qorch_net.sockets import parse_sockets

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1
   1: 0100007F:1F91 0100007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 4712 1
"""


def test_table_is_read():
    """Who listens is told from who is connected."""
    (found,) = parse_sockets(TABLE, Transport.TCP)
    assert (str(found), found.inode) == ("127.0.0.1:8080/tcp", 4711)


@given(st.text())
def test_any_table_is_survived(text):
    """Garbage is no listener."""
    list(parse_sockets(text, Transport.UDP))


@pytest.mark.parametrize(
    ("family", "kind", "transport", "address"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, Transport.TCP, "127.0.0.1"),
        (socket.AF_INET, socket.SOCK_DGRAM, Transport.UDP, "127.0.0.1"),
        (socket.AF_INET6, socket.SOCK_STREAM, Transport.TCP, "::1"),
    ],
)
def test_listeners_are_found_with_their_process(family, kind, transport, address):
    """A socket that listens is found by its port, and with it who holds it."""
    with socket.socket(family, kind) as sock:
        sock.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        port = sock.getsockname()[1]
        (found,) = find_listeners([(transport, port)])
        assert f"(pid {os.getpid()})" in describe(found)
        assert str(found) in describe(found)
        assert found.takes(None)
        assert not found.takes(IPv4Address("10.0.0.1"))
        assert not found.takes(IPv6Address("fd00::1"))
