"""The interfaces of a network: made as planned, and removed by their mark."""

from __future__ import annotations

import socket
from functools import partial
from ipaddress import IPv6Interface
from typing import TYPE_CHECKING

import attrs

from qorch_net.enslave import enslave, release
from qorch_net.errors import NetError
from qorch_net.host import Link
from qorch_net.netlink.messages import (
    BridgeState,
    make_link,
    make_port_vlan_removals,
    make_port_vlans,
    make_vlan,
    pick_index,
)
from qorch_net.notes import find_notes, make_alias
from qorch_net.plan.names import VLANS
from qorch_net.rules import make_link_local
from qorch_net.sysctl import allow_localnet, refuse_routers
from qorch_net.uplink import Note

if TYPE_CHECKING:
    from qorch_net.host import HostNetwork
    from qorch_net.netlink.links import Links
    from qorch_net.plan import Mark, NetworkPlan
    from qorch_net.records import IpInterface
    from qorch_net.steps import Report, Undo


def find_related(plan: NetworkPlan, links: Links) -> tuple[Link, ...]:
    """Find the bridges; all interfaces where more than a bridge of our own is asked for."""
    if plan.uplink is not None or not plan.makes_bridge:
        return links.find_links()
    found = links.find_links("bridge")
    try:
        socket.if_nametoindex(plan.bridge or "")
    except OSError:
        return found
    return found if any(link.name == plan.bridge for link in found) else links.find_links()


def find_ours(links: Links) -> tuple[Link, ...]:
    """Find the interfaces of networks, of whatever owner."""
    found = (*links.find_links("vlan"), *links.find_links("bridge"))
    return tuple(link for link in found if link.mark)


def ensure_interfaces(
    plan: NetworkPlan,
    host: HostNetwork,
    notes: frozenset[str],
    links: Links,
    report: Report,
    undo: Undo,
) -> None:
    """Make the network's interfaces be as planned. What is not ours stays as it is.

    `notes`: of what was switched on for networks.
    """
    bridge = None
    if plan.makes_bridge and plan.bridge is not None:
        bridge = _ensure_bridge(plan, plan.bridge, host, notes, links, report, undo)
    if plan.subinterface and plan.uplink:
        _ensure_subinterface(plan, plan.subinterface, bridge, host, links, report, undo)
    if plan.enslaved and bridge and (uplink := host.find_link(plan.enslaved)):
        enslave(uplink, bridge, links, report, undo, mtu=plan.mtu)
        if plan.vlan_filtering:
            _ensure_trunk(plan, uplink, links, report, undo)


def remove_interfaces(
    mark: Mark, found: tuple[Link, ...], links: Links, report: Report
) -> frozenset[str]:
    """Remove those of a network; give the names of the owner's networks that have some left."""
    for link in found:
        if link.mark != mark:
            continue
        if link.kind == "vlan":
            report("vlan")
            links.delete(link.index, link.name)
        else:
            _remove_bridge(link, links, report)
    left = {x.mark.network for x in found if x.mark and x.mark.owner == mark.owner}
    return frozenset(name for name in left if name and name != mark.network)


def _remove_bridge(bridge: Link, links: Links, report: Report) -> None:
    note = Note.from_alias(bridge.alias)
    if note is None:
        report("bridge")
        links.delete(bridge.index, bridge.name)
        return
    found = links.find_links()
    uplink = next((link for link in found if link.name == note.uplink), None)
    ours = uplink if uplink and uplink.master in {bridge.name, None} else None
    release(bridge, ours, links, report)


def _ensure_bridge(
    plan: NetworkPlan,
    name: str,
    host: HostNetwork,
    notes: frozenset[str],
    links: Links,
    report: Report,
    undo: Undo,
) -> Link:
    link = host.find_bridge(plan)
    old = _make_state(link, host) if link else None
    new = _plan_state(plan, link, old, host, notes)
    if link is None or old is None:
        report("bridge")
        index = links.create_bridge(name, new, link_local=plan.enslaved is not None)
        undo.append(partial(links.delete, index, name))
        link = Link(index=index, name=name, up=True, mac=new.mac, kind="bridge", alias=new.alias)
        if plan.enslaved or plan.vlan_filtering:  # what the kernel made of it matters there
            link = _find_made(index, links)
    elif old != new:
        report("bridge")
        undo.append(partial(links.change_bridge, link.index, name, new, old))
        links.change_bridge(link.index, name, old, new)
    if plan.vlan_filtering and not link.vlan_filtering:
        raise NetError(
            f"bridge {name} does not learn about VLANs: this kernel has no VLAN filtering",
            "use mode vlan, or a kernel with CONFIG_BRIDGE_VLAN_FILTERING",
        )
    if plan.gateway6:
        refuse_routers(name)
    if plan.mode.is_served:
        allow_localnet(name, undo, on=bool(plan.forwards))
    return link


def _plan_state(
    plan: NetworkPlan,
    link: Link | None,
    old: BridgeState | None,
    host: HostNetwork,
    notes: frozenset[str],
) -> BridgeState:
    """What the bridge shall be. Addresses are ours to decide only where we serve the network."""
    if link:  # a bridge keeps those that it has, and gets those that no other one has
        ours = (x for x in host.links if x.mark and x.mark.owner == plan.owner)
        notes = find_notes([link]) | (notes - find_notes(ours))
    state = BridgeState(
        alias=make_alias(plan.mark, notes if plan.mode.is_served else ()),
        mac=plan.mac,
        up=True,
        mtu=plan.mtu or (old.mtu if old else None),
        stp=plan.stp,
        forward_delay=plan.forward_delay,  # by default a port need not wait 15 s to pass frames
        vlan_filtering=plan.vlan_filtering,
        addresses=_plan_addresses(plan) if plan.mode.is_served or not old else old.addresses,
    )
    uplink = host.find_link(plan.enslaved or "")
    if uplink is None:
        return state
    kept = Note.from_alias(link.alias if link else None)
    note = Note(
        uplink=uplink.name,
        mtu=uplink.mtu if plan.mtu and plan.mtu > uplink.mtu else None,
        down=not uplink.up,
    )
    return attrs.evolve(
        state,
        alias=(kept or note).make_alias(plan.mark),
        mac=uplink.mac,
        mtu=plan.mtu or (old.mtu if old else uplink.mtu),
    )


def _plan_addresses(plan: NetworkPlan) -> frozenset[IpInterface]:
    """The gateway's; with IPv6 also one for the link, from which router advertisements come."""
    addresses: set[IpInterface] = {plan.gateway} if plan.gateway else set()
    if plan.gateway6:
        addresses |= {plan.gateway6, IPv6Interface((make_link_local(plan.mac), 64))}
    return frozenset(addresses)


def _make_state(link: Link, host: HostNetwork) -> BridgeState:
    return BridgeState(
        alias=link.alias,
        mac=link.mac,
        up=link.up,
        mtu=link.mtu,
        stp=link.stp,
        forward_delay=link.forward_delay,
        vlan_filtering=link.vlan_filtering,
        addresses=frozenset(x.ip for x in host.addresses if x.interface == link.name),
    )


def _ensure_trunk(
    plan: NetworkPlan, uplink: Link, links: Links, report: Report, undo: Undo
) -> None:
    """Let the uplink carry VLANs, tagged; what is not tagged stays the host's own, VLAN 1."""
    wanted = frozenset(plan.trunk or VLANS) - {1}
    missing = wanted - links.find_port_vlans(uplink.index)
    if missing:
        report("trunk")
        undo.append(partial(links.try_send, make_port_vlan_removals(uplink.index, missing)))
        links.send(
            make_port_vlans(uplink.index, missing, None, drop_default=False),
            f"cannot make {uplink.name} carry VLANs",
        )


def _find_made(index: int, links: Links) -> Link:
    return next(link for link in links.find_links("bridge") if link.index == index)


def _ensure_subinterface(
    plan: NetworkPlan,
    name: str,
    bridge: Link | None,
    host: HostNetwork,
    links: Links,
    report: Report,
    undo: Undo,
) -> None:
    """Make the VLAN's sub-interface of the uplink, plugged into the bridge if there is one."""
    lower = host.find_link(plan.uplink or "")
    if lower is None or plan.vlan is None:
        return
    link = host.find_link(name)
    master = bridge.name if bridge else None
    if link and link.up and (link.alias, link.master) == (plan.mark.alias, master):
        return
    report("vlan")
    index = link.index if link else pick_index()
    wanted = [
        *([] if link else make_vlan(index, name, lower=lower.index, vlan=plan.vlan, mtu=plan.mtu)),
        make_link(
            index,
            ("IFLA_IFALIAS", plan.mark.alias),
            ("IFLA_MASTER", bridge.index if bridge else None),
            up=True,
        ),
    ]
    failure = f"cannot make {name}, VLAN {plan.vlan} of {plan.uplink}"
    if link is None:
        undo.append(partial(links.delete, index, name))
        links.create(index, name, wanted, failure)
    else:
        links.send(wanted, failure)
