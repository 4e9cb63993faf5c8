"""Addresses and routes, read and sent with their attributes as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pyroute2.netlink import NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)

from qorch_net.netlink.raw import Raw
from qorch_net.records import INET, INET6, AddressRecord, Attributes, RouteRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHANGE: Final = NLM_F_REQUEST | NLM_F_ACK


class RawLink(Raw):
    """ifinfmsg without a look into the attributes."""

    fields = (
        *(("family", "B"), ("__align", "x"), ("ifi_type", "H"), ("index", "i")),
        *(("flags", "I"), ("change", "I")),
    )


class RawAddress(Raw):
    """ifaddrmsg without a look into the attributes."""

    fields = (("family", "B"), ("prefixlen", "B"), ("flags", "B"), ("scope", "B"), ("index", "I"))


class RawRoute(Raw):
    """rtmsg without a look into the attributes."""

    fields = (
        *(("family", "B"), ("dst_len", "B"), ("src_len", "B"), ("tos", "B"), ("table", "B")),
        *(("proto", "B"), ("scope", "B"), ("type", "B"), ("flags", "I")),
    )


POLICY: Final = {RTM_NEWLINK: RawLink, RTM_NEWADDR: RawAddress, RTM_NEWROUTE: RawRoute}


def read_addresses(messages: Iterable[Any]) -> tuple[AddressRecord, ...]:
    """Read IPv4 and IPv6 addresses from a dump."""
    return tuple(
        AddressRecord(
            index=message["index"],
            family=message["family"],
            prefixlen=message["prefixlen"],
            scope=message["scope"],
            attributes=_read(message),
        )
        for message in messages
        if message["family"] in {INET, INET6}
    )


def read_routes(messages: Iterable[Any]) -> tuple[RouteRecord, ...]:
    """Read IPv4 and IPv6 routes from a dump."""
    found = [
        RouteRecord(
            family=message["family"],
            dst_len=message["dst_len"],
            src_len=message["src_len"],
            tos=message["tos"],
            protocol=message["proto"],
            scope=message["scope"],
            type=message["type"],
            flags=message["flags"],
            attributes=_read(message),
        )
        for message in messages
        if message["family"] in {INET, INET6}
    ]
    return tuple(single for route in found for single in route.split())


def make_address(record: AddressRecord, *, add: bool) -> Any:
    """Make the message that adds or removes an address."""
    message = RawAddress()
    message.update(
        family=record.family, prefixlen=record.prefixlen, scope=record.scope, index=record.index
    )
    _write(message, record.attributes)
    kind = RTM_NEWADDR if add else RTM_DELADDR
    message["header"].update(type=kind, flags=_CHANGE | (NLM_F_CREATE if add else 0))
    return message


def make_route(record: RouteRecord, *, add: bool) -> Any:
    """Make the message that adds a route behind others to the same place, or removes it."""
    message = RawRoute()
    message.update(
        family=record.family,
        dst_len=record.dst_len,
        src_len=record.src_len,
        tos=record.tos,
        proto=record.protocol,
        scope=record.scope,
        type=record.type,
        flags=record.flags,
    )
    _write(message, record.attributes)
    append = NLM_F_CREATE | NLM_F_APPEND
    kind = RTM_NEWROUTE if add else RTM_DELROUTE
    message["header"].update(type=kind, flags=_CHANGE | (append if add else 0))
    return message


def _read(message: Any) -> Attributes:
    return tuple(message["attrs"])


def _write(message: Any, attributes: Attributes) -> None:
    message["attrs"] = [[str(key), value] for key, value in attributes]
