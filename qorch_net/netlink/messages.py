"""Messages that make, change and remove interfaces."""

from __future__ import annotations

import random
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

import attrs
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_SETLINK,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from qorch_net.attributes import split_attributes
from qorch_net.plan import MacvtapMode
from qorch_net.records import INET, INET6, IpInterface

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qorch_net.plan import TapPlan

UP: Final = 1  # IFF_UP
LOOPBACK: Final = 8  # IFF_LOOPBACK
CHANGE: Final = NLM_F_REQUEST | NLM_F_ACK
CREATE: Final = CHANGE | NLM_F_CREATE | NLM_F_EXCL
_NO_LINK_LOCAL: Final = 1  # IN6_ADDR_GEN_MODE_NONE
_NODAD: Final = 0x02  # IFA_F_NODAD
_MACVLAN_MODES: Final = {  # MACVLAN_MODE_*
    MacvtapMode.PRIVATE: 1,
    MacvtapMode.VEPA: 2,
    MacvtapMode.BRIDGE: 4,
    MacvtapMode.PASSTHRU: 8,
}
_VLAN_INFO: Final = 2  # IFLA_BRIDGE_VLAN_INFO
# linux/if_bridge.h: BRIDGE_VLAN_INFO_*
_PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 2, 4, 8, 16

Attribute = tuple[str, object]


@attrs.frozen(kw_only=True)
class BridgeState:
    """What we decide about a bridge beside its name."""

    alias: str | None
    mac: str | None
    up: bool
    mtu: int | None
    stp: bool
    forward_delay: int
    vlan_filtering: bool = False
    addresses: frozenset[IpInterface] = frozenset()


def pick_index() -> int:
    """Pick an interface index: large and random, for the kernel counts up from 1."""
    return random.randrange(1 << 20, 1 << 24)  # noqa: S311


def make_link(
    index: int,
    *attributes: Attribute,
    up: bool | None = None,
    flags: int = CHANGE,
    family: int = 0,
    kind: int = RTM_NEWLINK,
) -> Any:
    """Make a message about one interface; attributes without a value are left out."""
    message = ifinfmsg()
    message["index"], message["family"] = index, family
    message["attrs"] = [list(pair) for pair in attributes if pair[1] is not None]
    if up is not None:
        message["flags"], message["change"] = UP if up else 0, UP
    message["header"].update(type=kind, flags=flags)
    return message


def make_removal(index: int) -> Any:
    """Make the message that removes an interface."""
    return make_link(index, kind=RTM_DELLINK)


def make_bridge(index: int, name: str, state: BridgeState, *, link_local: bool) -> list[Any]:
    """Make the messages that create a bridge under this index."""
    born = attrs.evolve(state, alias=None, up=False, addresses=frozenset())
    create = make_link(
        index,
        ("IFLA_IFNAME", name),
        *_attributes(born),
        ("IFLA_LINKINFO", _bridge_info(state)),
        flags=CREATE,
    )
    quiet = [] if link_local else [make_quiet(index)]
    return [create, *quiet, *make_bridge_changes(index, born, state)]


def make_bridge_changes(index: int, old: BridgeState, new: BridgeState) -> list[Any]:
    """Make the messages that lead from one state to another."""
    messages = []
    changed = [
        pair for pair, same in zip(_attributes(new), _attributes(old), strict=True) if pair != same
    ]
    if changed:
        messages.append(make_link(index, *changed))
    # A forward delay under 2 s is accepted only while STP is off.
    if old.stp and not new.stp:
        off = attrs.evolve(old, stp=False)
        messages.append(make_link(index, ("IFLA_LINKINFO", _bridge_info(off))))
    if _settings(new) != _settings(old):
        messages.append(make_link(index, ("IFLA_LINKINFO", _bridge_info(new))))
    added, gone = new.addresses - old.addresses, old.addresses - new.addresses
    messages += [make_address(index, ip, add=True) for ip in sorted(added, key=str)]
    messages += [make_address(index, ip, add=False) for ip in sorted(gone, key=str)]
    if new.up != old.up:
        messages.append(make_link(index, up=new.up))
    return messages


def make_vlan(index: int, name: str, *, lower: int, vlan: int, mtu: int | None) -> list[Any]:
    """Make the messages that create a sub-interface of the interface `lower`."""
    data = {"attrs": [("IFLA_VLAN_ID", vlan)]}
    create = make_link(
        index,
        ("IFLA_IFNAME", name),
        ("IFLA_LINK", lower),
        ("IFLA_MTU", mtu),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}),
        flags=CREATE,
    )
    return [create, make_quiet(index)]


def make_macvtap(index: int, plan: TapPlan, *, lower: int) -> list[Any]:
    """Make the messages that create a macvtap on the interface `lower`, marked."""
    data = {"attrs": [("IFLA_MACVTAP_MODE", _MACVLAN_MODES[plan.macvtap or MacvtapMode.BRIDGE])]}
    create = make_link(
        index,
        ("IFLA_IFNAME", plan.name),
        ("IFLA_LINK", lower),
        ("IFLA_ADDRESS", plan.mac),
        ("IFLA_MTU", plan.mtu),
        ("IFLA_NUM_TX_QUEUES", plan.queues if plan.queues > 1 else None),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "macvtap"), ("IFLA_INFO_DATA", data)]}),
        flags=CREATE,
    )
    return [create, make_quiet(index), make_link(index, ("IFLA_IFALIAS", plan.mark.alias))]


def make_simple(index: int, name: str, kind: str, alias: str) -> list[Any]:
    """Make the messages that create an interface of a kind without settings, marked and up."""
    info = {"attrs": [("IFLA_INFO_KIND", kind)]}
    create = make_link(index, ("IFLA_IFNAME", name), ("IFLA_LINKINFO", info), flags=CREATE)
    return [create, make_quiet(index), make_link(index, ("IFLA_IFALIAS", alias), up=True)]


def make_quiet(index: int) -> Any:
    """Ask for no IPv6 link-local address: nobody needs it on a bridge or its port.

    On the bridge it would also be tentative for a second, and dnsmasq would wait to bind it.
    Where there is no IPv6 the kernel has nothing against it.
    """
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _NO_LINK_LOCAL)]}
    return make_link(index, ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]}))


def make_port(index: int, plan: TapPlan) -> Any:
    """Make the message that sets what a bridge does with a port."""
    data = [
        ("IFLA_BRPORT_LEARNING", int(plan.learning)),
        ("IFLA_BRPORT_UNICAST_FLOOD", int(plan.flood)),
        ("IFLA_BRPORT_ISOLATED", int(plan.isolated)),
    ]
    info = [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": data})]
    return make_link(index, ("IFLA_LINKINFO", {"attrs": info}))


def make_port_vlans(
    index: int, tagged: Iterable[int], untagged: int | None, *, drop_default: bool
) -> list[Any]:
    """Make the messages that put a port of a VLAN-aware bridge into these VLANs."""
    messages = [_port_vlan(index, [(1, 0)], RTM_DELLINK)] if drop_default else []
    ranges = [_vlan_range(first, last) for first, last in find_ranges(tagged)]
    messages += [_port_vlan(index, entries, RTM_SETLINK) for entries in ranges]
    if untagged is not None:
        messages.append(_port_vlan(index, [(untagged, _PVID | _UNTAGGED)], RTM_SETLINK))
    return messages


def make_port_vlan_removals(index: int, vlans: Iterable[int]) -> list[Any]:
    """Make the messages that take a port out of these VLANs."""
    ranges = [_vlan_range(first, last) for first, last in find_ranges(vlans)]
    return [_port_vlan(index, entries, RTM_DELLINK) for entries in ranges]


def read_port_vlans(spec: bytes) -> frozenset[int]:
    """Read the VLANs of a port from a dump that shows them compressed: its IFLA_AF_SPEC."""
    vlans: set[int] = set()
    first = 0
    for number, info in split_attributes(spec):
        if number != _VLAN_INFO:
            continue
        flags, vid = struct.unpack("=HH", info)
        if flags & _RANGE_BEGIN:
            first = vid
        vlans |= set(range(first, vid + 1)) if flags & _RANGE_END else {vid}
    return frozenset(vlans)


def find_ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Find the runs of consecutive numbers: first and last of each."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def make_address(index: int, ip: IpInterface, *, add: bool) -> Any:
    """Make the message that adds an address to an interface or removes it."""
    message = ifaddrmsg()
    family = INET if ip.version == 4 else INET6
    message.update(family=family, prefixlen=ip.network.prefixlen, index=index)
    message["attrs"] = [["IFA_LOCAL", str(ip.ip)], ["IFA_ADDRESS", str(ip.ip)]]
    if ip.version == 4:
        message["attrs"].append(["IFA_BROADCAST", str(ip.network.broadcast_address)])
    elif add:
        message["attrs"].append(["IFA_FLAGS", _NODAD])  # usable at once
    create = NLM_F_CREATE | NLM_F_EXCL if add else 0
    kind = RTM_NEWADDR if add else RTM_DELADDR
    message["header"].update(type=kind, flags=CHANGE | create)
    return message


def _attributes(state: BridgeState) -> list[Attribute]:
    return [
        ("IFLA_IFALIAS", state.alias),
        ("IFLA_ADDRESS", state.mac),
        ("IFLA_MTU", state.mtu),
    ]


def _settings(state: BridgeState) -> tuple[bool, int, bool]:
    return state.stp, state.forward_delay, state.vlan_filtering


def _bridge_info(state: BridgeState) -> dict[str, Any]:
    data = [("IFLA_BR_STP_STATE", int(state.stp)), ("IFLA_BR_FORWARD_DELAY", state.forward_delay)]
    if state.vlan_filtering:
        data.append(("IFLA_BR_VLAN_FILTERING", 1))
    return {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]}


def _vlan_range(first: int, last: int) -> list[tuple[int, int]]:
    return [(first, 0)] if first == last else [(first, _RANGE_BEGIN), (last, _RANGE_END)]


def _port_vlan(index: int, entries: list[tuple[int, int]], kind: int) -> Any:
    infos = [("IFLA_BRIDGE_VLAN_INFO", {"vid": vid, "flags": flags}) for vid, flags in entries]
    return make_link(index, ("IFLA_AF_SPEC", {"attrs": infos}), family=socket.AF_BRIDGE, kind=kind)
