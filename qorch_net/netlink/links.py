"""Interfaces, addresses and routes by rtnetlink.

A bridge is made in one `send`: created under an interface index that we choose, then marked, given
its address and set up by that index. Chosen, because the kernel takes the mark (the alias) only
from a second message, and that message must not reach an interface that somebody else created
under the same name in the meantime; with an index of its own, a failed creation leaves the other
messages without a target.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.iproute import IPRoute
from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE

from qorch_net.attributes import get_text, split_attributes
from qorch_net.errors import NetError
from qorch_net.expressions import make_attribute
from qorch_net.host import Address, Link, Route
from qorch_net.netlink import messages
from qorch_net.netlink.messages import LOOPBACK, UP, BridgeState
from qorch_net.netlink.records import (
    POLICY,
    RawAddress,
    RawLink,
    RawRoute,
    read_addresses,
    read_routes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.records import AddressRecord, RouteRecord

_LACKS: Final = (
    "the kernel may lack it: VLANs need 8021q (modprobe 8021q), "
    "VLAN-aware bridges CONFIG_BRIDGE_VLAN_FILTERING"
)
# linux/if_link.h: IFLA_*
_ADDRESS, _IFNAME, _MTU, _LINK, _MASTER, _LINKINFO = 1, 3, 4, 5, 10, 18
_IFALIAS, _AF_SPEC, _EXT_MASK, _LINK_NETNSID = 20, 26, 29, 37
_INFO_KIND, _INFO_DATA = 1, 2  # in IFLA_LINKINFO
_BR_FORWARD_DELAY, _BR_STP_STATE, _BR_VLAN_FILTERING = 1, 5, 7
_VLAN_ID: Final = 1
_U32: Final = struct.Struct("=I")
_SKIP_STATS: Final = 8  # RTEXT_FILTER_SKIP_STATS
_VLANS_COMPRESSED: Final = 4  # RTEXT_FILTER_BRVLAN_COMPRESSED


@attrs.define(eq=False)
class Links:
    """An open rtnetlink socket. Errors of the kernel come out as NetError."""

    _socket: Any

    def find_links(self, kind: str | None = None) -> tuple[Link, ...]:
        """Find the interfaces of this network namespace; asked for a kind, the kernel is quicker.

        Taps are many, and 0.2 ms each. A kernel that does not know the kind gives all there are.
        """
        messages = self._dump(_request_links(kind), RTM_GETLINK)
        names = {message["index"]: message.get_text(_IFNAME) for message in messages}
        found = (_make_link(message, names) for message in messages)
        return tuple(link for link in found if kind in {None, link.kind})

    def find_address_records(self) -> tuple[AddressRecord, ...]:
        """Find every address."""
        return read_addresses(self._dump(RawAddress(), RTM_GETADDR))

    def find_route_records(self) -> tuple[RouteRecord, ...]:
        """Find every route of every table."""
        return read_routes(self._dump(RawRoute(), RTM_GETROUTE))

    def find_addresses(self) -> tuple[Address, ...]:
        """Find every address by the name of its interface."""
        return tuple(
            Address(interface=_get_name(record.index) or "?", ip=record.ip)
            for record in self.find_address_records()
        )

    def find_routes(self) -> tuple[Route, ...]:
        """Find every unicast route by the name of the interface that it leads over."""
        return tuple(
            Route(
                network=record.network,
                interface=_get_name(record.indexes[0]) if len(record.indexes) == 1 else None,
            )
            for record in self.find_route_records()
            if record.is_unicast
        )

    def find_port_vlans(self, index: int) -> frozenset[int]:
        """Find the VLANs of a port of a VLAN-aware bridge."""
        request = RawLink()
        request["family"] = socket.AF_BRIDGE
        mask = _U32.pack(_SKIP_STATS | _VLANS_COMPRESSED)
        request["attrs"] = [[str(_EXT_MASK), mask]]
        found = [x for x in self._dump(request, RTM_GETLINK) if x["index"] == index]
        return (
            messages.read_port_vlans(found[0].get_bytes(_AF_SPEC) or b"") if found else frozenset()
        )

    def create_bridge(self, name: str, state: BridgeState, *, link_local: bool = False) -> int:
        """Make a bridge, all or nothing, and return its index."""
        index = messages.pick_index()
        wanted = messages.make_bridge(index, name, state, link_local=link_local)
        self.create(index, name, wanted, f"cannot make bridge {name}")
        return index

    def create(self, index: int, name: str, wanted: list[Any], failure: str) -> None:
        """Make an interface under an index that was picked for it, all or nothing."""
        try:
            self.send(wanted, failure)
        except NetError:
            if _get_name(index):
                self.delete(index, name)
            raise

    def change_bridge(self, index: int, name: str, old: BridgeState, new: BridgeState) -> None:
        """Send what differs between the two states; undone by calling it the other way round."""
        changes = messages.make_bridge_changes(index, old, new)
        self.send(changes, f"cannot change bridge {name}")

    def delete(self, index: int, name: str) -> None:
        """Remove an interface."""
        self.send([messages.make_removal(index)], f"cannot remove interface {name}")

    def send(self, wanted: list[Any], failure: str) -> None:
        """Send messages in one go; the kernel works them off before anybody can be killed.

        It goes on after one that fails. Raises NetError with the first failure.
        """
        with _translated(failure):
            if wanted:
                self._socket.nlm_request_batch(wanted)

    def try_send(self, wanted: list[Any]) -> None:
        """Send messages in one go, to undo what may have been done only in part."""
        if wanted:
            self._socket.nlm_request_batch(wanted, noraise=True)

    def _dump(self, request: Any, kind: int) -> tuple[Any, ...]:
        request["header"].update(type=kind, flags=NLM_F_REQUEST | NLM_F_DUMP)
        with _translated("cannot read the host's interfaces"):
            return tuple(self._socket.nlm_request_batch([request]))


@contextmanager
def open_links() -> Iterator[Links]:
    """Open rtnetlink in the calling thread's network namespace."""
    with IPRoute() as route:
        route.register_policy(POLICY)
        yield Links(route)


def _get_name(index: int | None) -> str | None:
    try:
        return socket.if_indextoname(index) if index else None
    except OSError:
        return None


def _request_links(kind: str | None) -> RawLink:
    request = RawLink()
    request["attrs"] = [[str(_EXT_MASK), _U32.pack(_SKIP_STATS)]]
    if kind:
        request["attrs"].append([str(_LINKINFO), make_attribute(_INFO_KIND, kind.encode())])
    return request


def _make_link(message: Any, names: dict[int, str]) -> Link:
    info = message.get_nested(_LINKINFO)
    kind = get_text(info.get(_INFO_KIND))
    data = dict(split_attributes(info.get(_INFO_DATA, b"")))
    bridge, vlan = (data if kind == what else {} for what in ("bridge", "vlan"))
    mac = message.get_bytes(_ADDRESS)
    elsewhere = message.get_bytes(_LINK_NETNSID) is not None
    return Link(
        index=message["index"],
        name=message.get_text(_IFNAME),
        up=bool(message["flags"] & UP),
        loopback=bool(message["flags"] & LOOPBACK),
        mac=mac.hex(":") if mac else None,
        mtu=message.get_number(_MTU) or 0,
        kind=kind,
        alias=message.get_text(_IFALIAS),
        master=_find_name(message.get_number(_MASTER), names),
        lower=None if elsewhere else _find_name(message.get_number(_LINK), names),
        vlan=int.from_bytes(vlan[_VLAN_ID], sys.byteorder) if vlan else None,
        stp=any(bridge.get(_BR_STP_STATE, b"")),
        forward_delay=int.from_bytes(bridge.get(_BR_FORWARD_DELAY, b""), sys.byteorder),
        vlan_filtering=any(bridge.get(_BR_VLAN_FILTERING, b"")),
    )


def _find_name(index: int | None, names: dict[int, str]) -> str | None:
    return names.get(index) or _get_name(index) if index else None


@contextmanager
def _translated(failure: str) -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        lacks = error.code == errno.EOPNOTSUPP
        raise NetError(f"{failure}: {error.args[1]}", _LACKS if lacks else None) from error
