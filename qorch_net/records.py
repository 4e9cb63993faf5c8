"""Addresses and routes as the kernel tells them, to be compared and put on another interface.

Their attributes stay the bytes that they are (linux/rtnetlink.h, linux/if_addr.h): lifetimes,
scopes, labels, metrics, nexthops, encapsulations and what future kernels add all survive a move,
whether this code knows them or not. Numbers are in the host's byte order, as in netlink.
"""

from __future__ import annotations

import enum
import struct
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Final, TypeAlias

import attrs

INET: Final = 2  # AF_INET
INET6: Final = 10  # AF_INET6

IpInterface: TypeAlias = IPv4Interface | IPv6Interface
IpNetwork: TypeAlias = IPv4Network | IPv6Network
Attributes: TypeAlias = tuple[tuple[int, bytes], ...]

_U32 = struct.Struct("=I")
_CLOCK_TICKS: Final = 100  # USER_HZ, in which the kernel gives lifetimes of routes


class Ifa(enum.IntEnum):
    """Attributes of addresses: IFA_*."""

    ADDRESS = 1
    LOCAL = 2
    LABEL = 3
    BROADCAST = 4
    CACHEINFO = 6
    FLAGS = 8


class Rta(enum.IntEnum):
    """Attributes of routes: RTA_*."""

    DST = 1
    OIF = 4
    GATEWAY = 5
    PRIORITY = 6
    MULTIPATH = 9
    CACHEINFO = 12
    TABLE = 15
    EXPIRES = 23
    NH_ID = 30


_PERMANENT: Final = 0x80  # IFA_F_*: of these the kernel decides
_NODAD: Final = 0x02
_STATES: Final = 0x01 | 0x04 | 0x08 | 0x20 | 0x40 | _PERMANENT
_ONLINK: Final = 4  # RTNH_F_ONLINK: the one flag of a route that is not the kernel's to decide
_UNICAST: Final = 1  # RTN_UNICAST
_KERNEL: Final = 2  # RTPROT_KERNEL
_LOCAL_TABLE: Final = 255  # RT_TABLE_LOCAL
_NEXTHOP = struct.Struct("=HBBi")  # struct rtnexthop: len, flags, hops, ifindex
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: len, type


@attrs.frozen(kw_only=True)
class AddressRecord:
    """An address on the interface `index`."""

    index: int
    family: int
    prefixlen: int
    scope: int
    attributes: Attributes

    def get(self, key: Ifa) -> bytes | None:
        """The bytes of an attribute."""
        return next((value for kind, value in self.attributes if kind == key), None)

    @property
    def ip(self) -> IpInterface:
        """The address with its prefix."""
        local = self.get(Ifa.LOCAL) or self.get(Ifa.ADDRESS) or b""
        return ip_interface((ip_address(local), self.prefixlen))

    @property
    def flags(self) -> int:
        """IFA_F_*."""
        return int(_U32.unpack(self.get(Ifa.FLAGS) or bytes(4))[0])

    @property
    def identity(self) -> tuple[int, int, bytes | None, bytes | None]:
        """What no other address of an interface has."""
        return self.family, self.prefixlen, self.get(Ifa.LOCAL), self.get(Ifa.ADDRESS)

    @property
    def is_link_local(self) -> bool:
        """Whether IPv6 made it up for the link."""
        return self.family == INET6 and self.ip.is_link_local

    def move(self, index: int, name: str) -> AddressRecord:
        """The same on the interface `index`; `name` is that of the interface it was on.

        An IPv6 address is used at once, without asking again whether somebody else has it.
        """
        flags = self.flags & ~_STATES | (_NODAD if self.family == INET6 else 0)
        label = name.encode() + b"\0"  # the kernel's default is the name of the new interface
        kept = tuple(
            (key, value)
            for key, value in self.attributes
            if key != Ifa.FLAGS and (key, value) != (Ifa.LABEL, label)
        )
        return attrs.evolve(
            self, index=index, attributes=(*kept, (Ifa.FLAGS.value, _U32.pack(flags)))
        )


@attrs.frozen(kw_only=True)
class RouteRecord:
    """A route of any table."""

    family: int
    dst_len: int
    src_len: int
    tos: int
    protocol: int
    scope: int
    type: int
    flags: int
    attributes: Attributes

    def get(self, key: Rta) -> bytes | None:
        """The bytes of an attribute."""
        return next((value for kind, value in self.attributes if kind == key), None)

    def _number(self, key: Rta) -> int | None:
        value = self.get(key)
        return None if value is None else int(_U32.unpack(value)[0])

    @property
    def network(self) -> IpNetwork:
        """Where it leads."""
        empty = bytes(4 if self.family == INET else 16)
        return ip_network((self.get(Rta.DST) or empty, self.dst_len))

    @property
    def table(self) -> int:
        """The routing table."""
        return self._number(Rta.TABLE) or 0

    @property
    def indexes(self) -> tuple[int, ...]:
        """The interfaces that it leads over."""
        if (oif := self._number(Rta.OIF)) is not None:
            return (oif,)
        return tuple(index for _, index in _find_nexthops(self.get(Rta.MULTIPATH) or b""))

    @property
    def is_unicast(self) -> bool:
        """Whether it leads to somebody else, and not to this host, to all, or nowhere."""
        return self.type == _UNICAST

    @property
    def is_automatic(self) -> bool:
        """Whether it comes and goes with an address: those of local and broadcast addresses."""
        return self.table == _LOCAL_TABLE and self.protocol == _KERNEL

    @property
    def has_gateway(self) -> bool:
        """Whether somebody else passes the packets on."""
        return self.get(Rta.GATEWAY) is not None or self.get(Rta.MULTIPATH) is not None

    @property
    def has_nexthop_object(self) -> bool:
        """Whether its nexthop is an object of its own (`ip nexthop`)."""
        return self.get(Rta.NH_ID) is not None

    def split(self) -> tuple[RouteRecord, ...]:
        """Each nexthop as a route of its own, which is what IPv6 has and shows as one."""
        multipath = self.get(Rta.MULTIPATH)
        if self.family != INET6 or multipath is None:
            return (self,)
        rest = tuple(pair for pair in self.attributes if pair[0] != Rta.MULTIPATH)
        return tuple(
            _make_single(self, rest, multipath, offset) for offset, _ in _find_nexthops(multipath)
        )

    def move(self, source: int, target: int) -> RouteRecord:
        """The same over the interface `target` where it led over `source`."""
        attributes = []
        for key, value in self.attributes:
            if key == Rta.OIF and value == _U32.pack(source):
                attributes.append((key, _U32.pack(target)))
            elif key == Rta.MULTIPATH:
                attributes.append((key, _move_nexthops(value, source, target)))
            elif key == Rta.CACHEINFO:
                attributes += _make_expiry(value)
            else:
                attributes.append((key, value))
        return attrs.evolve(self, flags=self.flags & _ONLINK, attributes=tuple(attributes))

    @property
    def identity(self) -> tuple[object, ...]:
        """What must be the same in two routes for one of them to be too many."""
        changing = {Rta.CACHEINFO, Rta.EXPIRES, Rta.MULTIPATH}
        kept = frozenset((key, value) for key, value in self.attributes if key not in changing)
        nexthops = _without_state(self.get(Rta.MULTIPATH) or b"")
        return (self.family, self.dst_len, self.src_len, self.tos, self.type, kept, nexthops)


def _find_nexthops(multipath: bytes) -> list[tuple[int, int]]:
    """The offset and the interface of each nexthop."""
    found, offset = [], 0
    while offset + _NEXTHOP.size <= len(multipath):
        length, _, _, index = _NEXTHOP.unpack_from(multipath, offset)
        found.append((offset, index))
        offset += max(-(-length // 4) * 4, _NEXTHOP.size)
    return found


def _make_single(
    route: RouteRecord, rest: Attributes, multipath: bytes, offset: int
) -> RouteRecord:
    length, flags, hops, index = _NEXTHOP.unpack_from(multipath, offset)
    nexthop = multipath[offset : offset + length]
    if hops:  # the weight less one, for which a route has no other place
        return attrs.evolve(route, attributes=(*rest, (Rta.MULTIPATH.value, nexthop)))
    own = ((Rta.OIF.value, _U32.pack(index)), *parse_attributes(nexthop[_NEXTHOP.size :]))
    return attrs.evolve(route, flags=route.flags | flags, attributes=(*rest, *own))


def parse_attributes(data: bytes) -> Attributes:
    """Read netlink attributes that follow each other: length, type, value, padding."""
    found, offset = [], 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        found.append((kind, data[offset + _ATTRIBUTE.size : offset + length]))
        offset += max(-(-length // 4) * 4, _ATTRIBUTE.size)
    return tuple(found)


def _move_nexthops(multipath: bytes, source: int, target: int) -> bytes:
    moved = bytearray(_without_state(multipath))
    for offset, index in _find_nexthops(multipath):
        if index == source:
            _U32.pack_into(moved, offset + 4, target)
    return bytes(moved)


def _without_state(multipath: bytes) -> bytes:
    clean = bytearray(multipath)
    for offset, _ in _find_nexthops(multipath):
        clean[offset + 2] &= _ONLINK
    return bytes(clean)


def _make_expiry(cacheinfo: bytes) -> Attributes:
    """The seconds that a route has left (struct rta_cacheinfo), as the kernel wants them."""
    (expires,) = struct.unpack_from("=i", cacheinfo, 8)
    return ((Rta.EXPIRES.value, _U32.pack(expires // _CLOCK_TICKS)),) if expires > 0 else ()
