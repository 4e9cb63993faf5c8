"""The interfaces of a network: made as planned, and removed by their mark."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

from qorch_net.netlink.links import BridgeState, Links

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
    if plan.bridge is None or plan.gateway is None:
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
        addresses=frozenset({plan.gateway}),
    )
    if old == new:
        return
    report("bridge")
    if link and old:
        undo.append(partial(links.change_bridge, link.index, plan.bridge, new, old))
        links.change_bridge(link.index, plan.bridge, old, new)
    else:
        index = links.create_bridge(plan.bridge, new)
        undo.append(partial(links.delete, index, plan.bridge))


def remove_interfaces(mark: Mark, links: Links, report: Report) -> frozenset[str]:
    """Remove a network's interfaces; give the names of the owner's networks that have some left."""
    found = links.find_links("bridge")
    for link in found:
        if link.mark == mark:
            report("bridge")
            links.delete(link.index, link.name)
    left = {x.mark.network for x in found if x.mark and x.mark.owner == mark.owner}
    return frozenset(name for name in left if name and name != mark.network)


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
