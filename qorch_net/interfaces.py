"""The interfaces of a network: made as planned, and removed by their mark."""

from __future__ import annotations

import socket
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TYPE_CHECKING

from qorch_net.errors import NetError
from qorch_net.netlink.links import BridgeState, Links
from qorch_net.rules import make_link_local

if TYPE_CHECKING:
    from qorch_net.host import HostNetwork, Link
    from qorch_net.plan import Mark, NetworkPlan
    from qorch_net.steps import Report, Undo


def find_related(plan: NetworkPlan, links: Links) -> tuple[Link, ...]:
    """Find the bridges; all interfaces, if one that is no bridge has the name of ours."""
    found = links.find_links("bridge")
    try:
        socket.if_nametoindex(plan.bridge or "")
    except OSError:
        return found
    return found if any(link.name == plan.bridge for link in found) else links.find_links()


def ensure_interfaces(
    plan: NetworkPlan, host: HostNetwork, links: Links, report: Report, undo: Undo
) -> None:
    """Make the network's interfaces be as planned."""
    if plan.bridge is None or not plan.mode.is_served:
        return
    link = host.find_bridge(plan)
    old = _make_state(link, host) if link else None
    new = BridgeState(
        alias=plan.mark.alias,
        mac=plan.mac,
        up=True,
        mtu=plan.mtu or (old.mtu if old else None),
        stp=False,
        forward_delay=0,  # a port must not wait 15 s before it passes the first frame
        addresses=_make_addresses(plan),
    )
    if old != new:
        report("bridge")
    if old == new:
        pass
    elif link and old:
        undo.append(partial(links.change_bridge, link.index, plan.bridge, new, old))
        links.change_bridge(link.index, plan.bridge, old, new)
    else:
        index = links.create_bridge(plan.bridge, new)
        undo.append(partial(links.delete, index, plan.bridge))
    _ensure_localnet(plan.bridge, bool(plan.forwards), undo)


def remove_interfaces(mark: Mark, links: Links, report: Report) -> frozenset[str]:
    """Remove a network's interfaces; give the names of the owner's networks that have some left."""
    found = links.find_links("bridge")
    for link in found:
        if link.mark == mark:
            report("bridge")
            links.delete(link.index, link.name)
    left = {x.mark.network for x in found if x.mark and x.mark.owner == mark.owner}
    return frozenset(name for name in left if name and name != mark.network)


def _make_addresses(plan: NetworkPlan) -> frozenset[IPv4Interface | IPv6Interface]:
    """The gateway's; with IPv6 also a link-local one, by which guests know their router."""
    addresses: list[IPv4Interface | IPv6Interface] = [plan.gateway] if plan.gateway else []
    if plan.gateway6:
        addresses += [plan.gateway6, IPv6Interface((make_link_local(plan.mac), 64))]
    return frozenset(addresses)


def _ensure_localnet(bridge: str, on: bool, undo: Undo) -> None:
    """Let packets to and from 127.0.0.0/8 through the bridge: forwarded ports need it."""
    path = Path(f"/proc/sys/net/ipv4/conf/{bridge}/route_localnet")
    before, after = path.read_text().strip(), str(int(on))
    if before != after:
        undo.append(partial(_write_localnet, path, before))
        _write_localnet(path, after)


def _write_localnet(path: Path, value: str) -> None:
    try:
        path.write_text(value)
    except OSError as error:
        raise NetError(
            f"cannot write {path}: {error.strerror}",
            "forwarded ports need it: mount /proc/sys writable",
        ) from error


def _make_state(link: Link, host: HostNetwork) -> BridgeState:
    return BridgeState(
        alias=link.alias,
        mac=link.mac,
        up=link.up,
        mtu=link.mtu,
        stp=link.stp,
        forward_delay=link.forward_delay,
        addresses=frozenset(x.ip for x in host.addresses if x.interface == link.name),
    )
