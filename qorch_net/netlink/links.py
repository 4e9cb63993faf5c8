"""Interfaces, addresses and routes by rtnetlink.

A bridge is made in one `send`: created under an interface index that we choose, then marked, given
its address and set up by that index. Chosen, because the kernel takes the mark (the alias) only
from a second message, and that message must not reach an interface that somebody else created
under the same name in the meantime; with an index of its own, a failed creation leaves the other
messages without a target.
"""

from __future__ import annotations

import random
import socket
from contextlib import contextmanager
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.iproute import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from qorch_net.errors import NetError
from qorch_net.host import Address, Link, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.plan import Mark

_UP: Final = 1  # IFF_UP
_SKIP_STATS: Final = 8  # RTEXT_FILTER_SKIP_STATS
_UNICAST: Final = 1  # RTN_UNICAST
_NO_LINK_LOCAL: Final = 1  # IN6_ADDR_GEN_MODE_NONE
_CHANGE: Final = NLM_F_REQUEST | NLM_F_ACK
_CREATE: Final = _CHANGE | NLM_F_CREATE | NLM_F_EXCL
_DUMP: Final = NLM_F_REQUEST | NLM_F_DUMP


@attrs.frozen(kw_only=True)
class BridgeState:
    """What we decide about a bridge beside its name."""

    alias: str | None
    mac: str | None
    up: bool
    mtu: int | None
    stp: bool
    forward_delay: int
    addresses: frozenset[IPv4Interface]


@attrs.define(eq=False)
class Links:
    """An open rtnetlink socket. Errors of the kernel come out as NetError."""

    _socket: Any

    def find_links(self, kind: str | None = None) -> tuple[Link, ...]:
        """Find the interfaces of this network namespace; asked for a kind, the kernel is quicker.

        Taps are many, and 0.2 ms each.
        """
        request = ifinfmsg()
        request["attrs"] = [["IFLA_EXT_MASK", _SKIP_STATS]]
        if kind:
            request["attrs"].append(["IFLA_LINKINFO", {"attrs": [["IFLA_INFO_KIND", kind]]}])
        messages = self._dump(request, RTM_GETLINK)
        names = {message["index"]: message.get_attr("IFLA_IFNAME") for message in messages}
        return tuple(_make_link(message, names) for message in messages)

    def find_addresses(self) -> tuple[Address, ...]:
        """Find every IPv4 address."""
        request = ifaddrmsg()
        request["family"] = socket.AF_INET
        return tuple(
            Address(
                interface=_get_name(message["index"]) or "?",
                ip=IPv4Interface(f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}"),
            )
            for message in self._dump(request, RTM_GETADDR)
        )

    def find_routes(self) -> tuple[Route, ...]:
        """Find every IPv4 unicast route of every table."""
        request = rtmsg()
        request["family"] = socket.AF_INET
        return tuple(
            Route(
                network=IPv4Network((message.get_attr("RTA_DST") or 0, message["dst_len"])),
                interface=_get_name(message.get_attr("RTA_OIF")),
            )
            for message in self._dump(request, RTM_GETROUTE)
            if message["type"] == _UNICAST
        )

    def create_bridge(self, name: str, state: BridgeState) -> int:
        """Make a bridge, all or nothing, and return its index."""
        # A large random index: the kernel counts up from 1.
        index = random.randrange(1 << 20, 1 << 24)  # noqa: S311
        born = attrs.evolve(state, alias=None, up=False, addresses=frozenset())
        create = _link(
            index,
            ("IFLA_IFNAME", name),
            *_attributes(born),
            ("IFLA_LINKINFO", _bridge_info(state)),
            flags=_CREATE,
        )
        messages = [create, *_without_ipv6(index), *_make_changes(index, born, state)]
        try:
            self._send(messages, f"cannot make bridge {name}")
        except NetError:
            if _get_name(index):
                self.delete(index, name)
            raise
        return index

    def change_bridge(self, index: int, name: str, old: BridgeState, new: BridgeState) -> None:
        """Send what differs between the two states; undone by calling it the other way round."""
        self._send(_make_changes(index, old, new), f"cannot change bridge {name}")

    def join(self, tap: str, *, bridge: str, mark: Mark, mtu: int | None) -> None:
        """Mark a tap, plug it into a bridge and set it up."""
        index, master = (socket.if_nametoindex(name) for name in (tap, bridge))
        details = (
            ("IFLA_IFALIAS", mark.alias),
            ("IFLA_MTU", mtu),
            ("IFLA_MASTER", master),
        )
        messages = [*_without_ipv6(index), _link(index, *details), _link(index, up=True)]
        self._send(messages, f"cannot plug tap {tap} into bridge {bridge}")

    def delete(self, index: int, name: str) -> None:
        """Remove an interface."""
        message = _link(index)
        message["header"]["type"] = RTM_DELLINK
        self._send([message], f"cannot remove interface {name}")

    def _dump(self, request: Any, kind: int) -> tuple[Any, ...]:
        request["header"].update(type=kind, flags=_DUMP)
        with _translated("cannot read the host's interfaces"):
            return tuple(self._socket.nlm_request_batch([request]))

    def _send(self, messages: list[Any], failure: str) -> None:
        with _translated(failure):
            if messages:
                self._socket.nlm_request_batch(messages)


@contextmanager
def open_links() -> Iterator[Links]:
    """Open rtnetlink in the calling thread's network namespace."""
    with IPRoute() as route:
        yield Links(route)


def _get_name(index: int | None) -> str | None:
    try:
        return socket.if_indextoname(index) if index else None
    except OSError:
        return None


def _make_changes(index: int, old: BridgeState, new: BridgeState) -> list[Any]:
    messages = []
    changed = [
        pair for pair, same in zip(_attributes(new), _attributes(old), strict=True) if pair != same
    ]
    if changed:
        messages.append(_link(index, *changed))
    # A forward delay under 2 s is accepted only while STP is off.
    if old.stp and not new.stp:
        off = attrs.evolve(old, stp=False)
        messages.append(_link(index, ("IFLA_LINKINFO", _bridge_info(off))))
    if (new.stp, new.forward_delay) != (old.stp, old.forward_delay):
        messages.append(_link(index, ("IFLA_LINKINFO", _bridge_info(new))))
    messages += [_address(index, ip, RTM_NEWADDR) for ip in new.addresses - old.addresses]
    messages += [_address(index, ip, RTM_DELADDR) for ip in old.addresses - new.addresses]
    if new.up != old.up:
        messages.append(_link(index, up=new.up))
    return messages


def _attributes(state: BridgeState) -> list[tuple[str, object]]:
    return [
        ("IFLA_IFALIAS", state.alias),
        ("IFLA_ADDRESS", state.mac),
        ("IFLA_MTU", state.mtu),
    ]


def _bridge_info(state: BridgeState) -> dict[str, Any]:
    data = [("IFLA_BR_STP_STATE", int(state.stp)), ("IFLA_BR_FORWARD_DELAY", state.forward_delay)]
    return {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]}


def _without_ipv6(index: int) -> list[Any]:
    """Ask for no IPv6 link-local address: nobody needs it on a bridge or its port.

    On the bridge it would also be tentative for a second, and dnsmasq would wait to bind it.
    """
    if not Path("/proc/sys/net/ipv6").is_dir():
        return []
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _NO_LINK_LOCAL)]}
    return [_link(index, ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]}))]


def _link(
    index: int, *attributes: tuple[str, object], up: bool | None = None, flags: int = _CHANGE
) -> Any:
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [list(pair) for pair in attributes if pair[1] is not None]
    if up is not None:
        message["flags"], message["change"] = _UP if up else 0, _UP
    message["header"].update(type=RTM_NEWLINK, flags=flags)
    return message


def _address(index: int, ip: IPv4Interface, kind: int) -> Any:
    message = ifaddrmsg()
    message.update(family=socket.AF_INET, prefixlen=ip.network.prefixlen, index=index)
    message["attrs"] = [
        ["IFA_LOCAL", str(ip.ip)],
        ["IFA_ADDRESS", str(ip.ip)],
        ["IFA_BROADCAST", str(ip.network.broadcast_address)],
    ]
    create = NLM_F_CREATE | NLM_F_EXCL if kind == RTM_NEWADDR else 0
    message["header"].update(type=kind, flags=_CHANGE | create)
    return message


def _make_link(message: Any, names: dict[int, str]) -> Link:
    info = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    data = info.get_attr("IFLA_INFO_DATA") if kind == "bridge" else None
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        up=bool(message["flags"] & _UP),
        mac=message.get_attr("IFLA_ADDRESS"),
        mtu=message.get_attr("IFLA_MTU"),
        kind=kind,
        alias=message.get_attr("IFLA_IFALIAS"),
        master=names.get(message.get_attr("IFLA_MASTER")),
        stp=bool(data and data.get_attr("IFLA_BR_STP_STATE")),
        forward_delay=data.get_attr("IFLA_BR_FORWARD_DELAY") if data else 0,
    )


@contextmanager
def _translated(failure: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        raise NetError(f"{failure}: {error.args[1]}") from error
