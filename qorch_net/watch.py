"""Sockets that tell when somebody changes the packet filter, or interfaces and addresses.

Each change is announced to multicast groups of netlink, our own ones, too: whoever listens compares
what is there with what should be. Nothing here imports pyroute2.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.attributes import get_text, split_attributes
from qorch_net.rules import make_table_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NETLINK_ROUTE: Final = 0
_NETLINK_NETFILTER: Final = 12
_NFNLGRP_NFTABLES: Final = 7
_SIZE: Final = 1 << 16
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_FAMILY: Final = 4  # bytes of struct nfgenmsg
_TABLE: Final = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE: all 1
# linux/rtnetlink.h
_LINK_GROUPS: Final = (1, 5, 9)  # RTNLGRP_LINK, _IPV4_IFADDR, _IPV6_IFADDR
_NEWLINK, _DELLINK, _DELADDR = 16, 17, 21
_LINK: Final = struct.Struct("=BBHiII")  # struct ifinfomsg
_ADDRESS: Final = struct.Struct("=BBBBI")  # struct ifaddrmsg
_IFNAME: Final = 3  # IFLA_IFNAME
_UP: Final = 1  # IFF_UP
_ALL_FLAGS: Final = 0xFFFFFFFF  # what has changed about an interface that is new


@attrs.frozen(kw_only=True)
class LinkChanges:
    """Interfaces by name.

    `lost`: removed, taken out of a bridge, or without an address that they had. `down`: set down,
    and not up again. `made`: new. `missed`: too much at once, some of it was not told.
    """

    lost: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    made: frozenset[str] = frozenset()
    missed: bool = False

    def is_about(self, own: set[str], others: set[str]) -> bool:
        """Whether something that is `own` was taken away, or `others`' was, or is there anew.

        Who sets down what is not ours means it.
        """
        gone = self.lost & (own | others) | self.down & own | self.made & others
        return self.missed or bool(gone)


@contextmanager
def open_watch() -> Iterator[socket.socket]:
    """Listen to changes in the calling thread's network namespace, without blocking.

    Raises OSError on a kernel without nf_tables.
    """
    with _open(_NETLINK_NETFILTER, (_NFNLGRP_NFTABLES,)) as watch:
        yield watch


@contextmanager
def open_link_watch() -> Iterator[socket.socket]:
    """Listen to changes of interfaces and addresses, likewise."""
    with _open(_NETLINK_ROUTE, _LINK_GROUPS) as watch:
        yield watch


@contextmanager
def _open(protocol: int, groups: Collection[int]) -> Iterator[socket.socket]:
    family, kind = socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(family, kind, protocol) as watch:
        watch.bind((0, sum(1 << (group - 1) for group in groups)))
        yield watch


def find_changes(watch: socket.socket, owner: str) -> bool:
    """Read all that has been announced; whether any of it is about this owner's tables."""
    name = make_table_name(owner)
    found = False
    for data in _receive(watch):  # all of it; what is missing may have been about us
        found = found or data is None or name in find_tables(data)
    return found


def find_link_changes(watch: socket.socket) -> LinkChanges:
    """Read all that has been announced of interfaces."""
    changes = LinkChanges()
    for data in _receive(watch):
        changes = attrs.evolve(changes, missed=True) if data is None else note(changes, data)
    return changes


def _receive(watch: socket.socket) -> Iterator[bytes | None]:
    """Read what is there; None where there was more than the socket could hold."""
    while True:
        try:
            yield watch.recv(_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield None


def find_tables(data: bytes) -> set[str]:
    """Find the names of the tables that some messages are about."""
    found = set()
    for _, message in _split(data):
        for number, value in split_attributes(message[_FAMILY:]):
            if number == _TABLE:
                found.add(get_text(value) or "")
            break  # it is the first
    return found


def note(changes: LinkChanges, data: bytes) -> LinkChanges:
    """Add what some messages say."""
    lost, down, made = set(changes.lost), set(changes.down), set(changes.made)
    for kind, message in _split(data):
        if kind == _DELADDR and len(message) >= _ADDRESS.size:
            with suppress(OSError):  # it went with its interface, of which we are told, too
                lost.add(socket.if_indextoname(_ADDRESS.unpack_from(message)[4]))
        elif kind in {_NEWLINK, _DELLINK} and len(message) >= _LINK.size:
            _, _, _, _, flags, changed = _LINK.unpack_from(message)
            name = _find_name(message[_LINK.size :])
            if kind == _DELLINK:
                lost.add(name)
                continue
            (down.discard if flags & _UP else down.add)(name)
            if changed == _ALL_FLAGS:
                made.add(name)
    return attrs.evolve(changes, lost=frozenset(lost), down=frozenset(down), made=frozenset(made))


def _find_name(attributes: bytes) -> str:
    found = (value for number, value in split_attributes(attributes) if number == _IFNAME)
    return get_text(next(found, b"")) or ""


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The types and contents of messages."""
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        length = max(length, _HEADER.size)
        yield kind, data[_HEADER.size : length]
        data = data[length + -length % 4 :]
