"""A socket that tells when somebody changes the packet filter.

Each transaction of nf_tables is announced to the multicast group NFNLGRP_NFTABLES, our own ones,
too: whoever listens compares what is there with what should be. Nothing here imports pyroute2.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from qorch_net.rules import make_table_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_NETLINK_NETFILTER: Final = 12
_NFNLGRP_NFTABLES: Final = 7
_SIZE: Final = 1 << 16
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILY: Final = 4  # bytes of struct nfgenmsg
_ATTRIBUTE: Final = struct.Struct("=HH")  # struct nlattr
_TABLE: Final = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE: all 1


@contextmanager
def open_watch() -> Iterator[socket.socket]:
    """Listen to changes in the calling thread's network namespace, without blocking.

    Raises OSError on a kernel without nf_tables.
    """
    family, kind = socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(family, kind, _NETLINK_NETFILTER) as watch:
        watch.bind((0, 1 << (_NFNLGRP_NFTABLES - 1)))
        yield watch


def find_changes(watch: socket.socket, owner: str) -> bool:
    """Read all that has been announced; whether any of it is about this owner's tables."""
    name = make_table_name(owner)
    found = False
    while True:
        try:
            data = watch.recv(_SIZE)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            found = True  # too much at once: some of it is lost, and may have been about us
        else:
            found = found or name in find_tables(data)


def find_tables(data: bytes) -> set[str]:
    """Find the names of the tables that some messages are about."""
    found = set()
    while len(data) >= _HEADER.size:
        length = max(_HEADER.unpack_from(data)[0], _HEADER.size)
        start = _HEADER.size + _FAMILY
        attribute = data[start:length]
        if len(attribute) >= _ATTRIBUTE.size:
            size, number = _ATTRIBUTE.unpack_from(attribute)
            if number == _TABLE:
                text = attribute[_ATTRIBUTE.size : size].rstrip(b"\0")
                found.add(text.decode(errors="replace"))
        data = data[length + -length % 4 :]
    return found
