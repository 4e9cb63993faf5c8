"""What netlink does for a tap: its mark, its port of the bridge, its VLANs and its limits."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

from qorch_net.errors import NetError
from qorch_net.netlink.messages import (
    make_link,
    make_macvtap,
    make_port,
    make_port_vlans,
    make_quiet,
    make_removal,
    make_simple,
    pick_index,
)
from qorch_net.netlink.tc import make_diversion, make_limit
from qorch_net.steps import ignore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qorch_net.host import Link
    from qorch_net.netlink.links import Links
    from qorch_net.plan import Mark, TapPlan
    from qorch_net.steps import Report

_LASTING: Final = ("macvtap", "ifb")
_DEFAULT_VLAN: Final = 1


def create_macvtap(plan: TapPlan, links: Links) -> int:
    """Make a macvtap on its uplink, in the place of one of the same mark; give its index."""
    remove_lasting(links, lambda mark: mark == plan.mark)
    index = pick_index()
    uplink = plan.uplink or ""
    try:
        lower = socket.if_nametoindex(uplink)
    except OSError as error:
        raise NetError(
            f"there is no uplink {uplink} for macvtap {plan.name}", "bring its network up first"
        ) from error
    wanted = make_macvtap(index, plan, lower=lower)
    links.create(index, plan.name, wanted, f"cannot make macvtap {plan.name} on {uplink}")
    return index


def plug(plan: TapPlan, links: Links) -> None:
    """Mark a tap, plug it in, limit it and set it up."""
    index = socket.if_nametoindex(plan.name)
    bridge = _find_bridge(plan, plan.bridge, links) if plan.bridge is not None else None
    wanted = [
        make_quiet(index),
        make_link(
            index,
            ("IFLA_IFALIAS", plan.mark.alias),
            ("IFLA_MTU", plan.mtu or (bridge.mtu if bridge else None)),
            ("IFLA_MASTER", bridge.index if bridge else None),
        ),
    ]
    wanted += _make_port_settings(plan, index)
    if plan.rate_out_of_it:
        wanted.append(make_limit(index, plan.rate_out_of_it))
    if plan.rate_into_it:
        ifb = _create_ifb(plan, links)
        wanted += [make_limit(ifb, plan.rate_into_it), *make_diversion(index, ifb)]
    if plan.up:
        wanted.append(make_link(index, up=True))
    place = f" into bridge {plan.bridge}" if plan.bridge else " in"
    links.send(wanted, f"cannot plug tap {plan.name}{place}")


def replug(plans: Iterable[TapPlan], links: Links, report: Report = ignore) -> None:
    """Plug taps in again whose bridge was removed by somebody and has been made anew."""
    found = {link.mark: link for link in links.find_links("tun") if not link.master}
    for plan in plans:
        link = found.get(plan.mark)
        if link is None or plan.bridge is None:
            continue
        report(f"tap {plan.name}")
        bridge = _find_bridge(plan, plan.bridge, links)
        joined = make_link(link.index, ("IFLA_MASTER", bridge.index))
        wanted = [joined, *_make_port_settings(plan, link.index)]
        links.send(wanted, f"cannot plug tap {plan.name} into bridge {plan.bridge}")


def _make_port_settings(plan: TapPlan, index: int) -> list[Any]:
    """Make the messages for what a bridge forgets with a port."""
    wanted = []
    if not (plan.learning and plan.flood) or plan.isolated:
        wanted.append(make_port(index, plan))
    if plan.vlan is not None or plan.trunk:
        untagged = plan.vlan if plan.vlan is not None else plan.native
        tagged = set(plan.trunk) - {plan.native}
        drop = _DEFAULT_VLAN not in {untagged, *tagged}
        wanted += make_port_vlans(index, tagged, untagged, drop_default=drop)
    return wanted


def remove_lasting(
    links: Links, chosen: Callable[[Mark], bool], report: Report = ignore
) -> tuple[Mark, ...]:
    """Remove the macvtaps and ifbs whose marks are chosen; give the marks."""
    found: list[Link] = []
    for kind in _LASTING:
        found += [x for x in links.find_links(kind) if x.mark and chosen(x.mark)]
    for link in found:
        report(f"remove {link.kind} {link.name}")
        links.send([make_removal(link.index)], f"cannot remove {link.kind} {link.name}")
    return tuple(link.mark for link in found if link.mark)


def _create_ifb(plan: TapPlan, links: Links) -> int:
    remove = [link for link in links.find_links("ifb") if link.mark == plan.mark]
    links.send([make_removal(link.index) for link in remove], f"cannot remove {plan.ifb}")
    index = pick_index()
    wanted = make_simple(index, plan.ifb, "ifb", plan.mark.alias)
    links.create(index, plan.ifb, wanted, f"cannot limit tap {plan.name}")
    return index


def _find_bridge(plan: TapPlan, name: str, links: Links) -> Link:
    """The bridge; one that knows no VLANs would put the guest among everybody else."""
    found = next((link for link in links.find_links("bridge") if link.name == name), None)
    if found is None:
        raise NetError(
            f"there is no bridge {name} for tap {plan.name}", "bring its network up first"
        )
    if (plan.vlan is not None or plan.trunk) and not found.vlan_filtering:
        raise NetError(
            f"tap {plan.name} cannot be in a VLAN: the bridge {name} does not know VLANs",
            "vlan_filtering must be on",
        )
    return found
