"""The move of a host interface into a bridge of ours and back, step by step.

`qorch_net.uplink` says what is to be moved and why nothing is lost if this is killed.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from qorch_net.errors import NetError
from qorch_net.netlink.messages import make_link, make_removal
from qorch_net.netlink.records import make_address, make_route
from qorch_net.steps import undoing
from qorch_net.sysctl import copy_settings
from qorch_net.uplink import (
    Note,
    Side,
    find_missing_addresses,
    find_missing_routes,
    find_removals,
)

if TYPE_CHECKING:
    from qorch_net.host import Link
    from qorch_net.netlink.links import Links
    from qorch_net.steps import Report, Undo


def enslave(
    uplink: Link, bridge: Link, links: Links, report: Report, undo: Undo, *, mtu: int | None = None
) -> None:
    """Make `uplink` a port of `bridge`, with all addresses and routes of the host on the bridge.

    `mtu`: what the uplink must have at least.
    """
    port = uplink.master == bridge.name
    source = find_side(uplink, links)
    if port and uplink.up and source.is_empty:
        return
    _check_routes(source)
    if not port:
        copy_settings(uplink.name, bridge.name)
    _copy(source, bridge, links, report, undo)
    report("uplink")
    switch: list[Any] = []
    if mtu and uplink.mtu < mtu:
        switch.append(make_link(uplink.index, ("IFLA_MTU", mtu)))
    if not uplink.up:
        switch.append(make_link(uplink.index, up=True))
    if not port:
        switch.append(make_link(uplink.index, ("IFLA_MASTER", bridge.index)))
    undo.append(partial(_put_back, uplink, source, links))
    _switch(source, switch, links, f"cannot make {uplink.name} a port of {bridge.name}")


def release(bridge: Link, uplink: Link | None, links: Links, report: Report) -> None:
    """Remove `bridge`, with all its addresses and routes back on the uplink if that still exists.

    If a step fails, the bridge is as it was.
    """
    note = Note.from_alias(bridge.alias)
    with undoing() as undo:
        last: list[Any] = []
        if uplink and note:
            source = find_side(bridge, links)
            _check_routes(source)
            needed = not source.is_empty
            if needed and not uplink.up:
                links.send([make_link(uplink.index, up=True)], f"cannot set up {uplink.name}")
            _copy(source, uplink, links, report, undo)
            last.append(make_link(uplink.index, ("IFLA_MASTER", 0), ("IFLA_MTU", note.mtu)))
            last += [make_link(uplink.index, up=False)] if note.down and not needed else []
        report("bridge")
        links.send([*last, make_removal(bridge.index)], f"cannot remove bridge {bridge.name}")


def find_side(link: Link, links: Links) -> Side:
    """Find what is on an interface now."""
    return Side.from_records(
        link.index, link.name, links.find_address_records(), links.find_route_records()
    )


def _check_routes(source: Side) -> None:
    """Nexthop objects belong to whoever made them, and name their interface."""
    for route in source.routes:
        if route.has_nexthop_object:
            raise NetError(
                f"the route to {route.network} over {source.name} uses a nexthop object, "
                "which cannot move to another interface",
                "`ip route` shows its nhid: make the route without, or with one on the bridge",
            )


def _copy(source: Side, target: Link, links: Links, report: Report, undo: Undo) -> None:
    """Put a copy of each address and route of `source` on `target`, behind the original."""
    addresses = find_missing_addresses(source, find_side(target, links))
    if addresses:
        report("addresses")
        gone = [make_address(record, add=False) for record in reversed(addresses)]
        undo.append(partial(links.try_send, gone))
        added = [make_address(record, add=True) for record in addresses]
        links.send(added, f"cannot give {target.name} the addresses of {source.name}")
    routes = find_missing_routes(source, find_side(target, links))
    if routes:
        report("routes")
        gone = [make_route(record, add=False) for record in reversed(routes)]
        undo.append(partial(links.try_send, gone))
        added = [make_route(record, add=True) for record in routes]
        links.send(added, f"cannot make routes over {target.name} as over {source.name}")


def _switch(source: Side, switch: list[Any], links: Links, failure: str) -> None:
    """Send, in one go, the change of the interface and the removal of what it had."""
    routes, addresses = find_removals(source)
    links.send(
        [
            *switch,
            *(make_route(record, add=False) for record in routes),
            *(make_address(record, add=False) for record in addresses),
        ],
        failure,
    )


def _put_back(uplink: Link, source: Side, links: Links) -> None:
    """Make the uplink be as it was before the switch, whatever part of it was done."""
    failure = f"cannot put back {uplink.name}"
    links.send([make_link(uplink.index, up=True)], failure)
    empty = attrs.evolve(source, addresses=(), routes=())
    now = find_side(uplink, links)
    missing = find_missing_addresses(source, attrs.evolve(empty, addresses=now.addresses))
    links.send([make_address(record, add=True) for record in missing], failure)
    now = find_side(uplink, links)
    lost = find_missing_routes(source, attrs.evolve(empty, routes=now.routes))
    links.send([make_route(record, add=True) for record in lost], failure)
    master = None if uplink.master else 0
    before = make_link(
        uplink.index, ("IFLA_MASTER", master), ("IFLA_MTU", uplink.mtu), up=uplink.up
    )
    links.send([before], failure)
