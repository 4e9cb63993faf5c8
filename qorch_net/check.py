"""Whether a network can be had on a host as it is: one clear error if not, nothing touched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qorch_net.errors import NetError
from qorch_net.plan import Mode
from qorch_net.uplink import Note

if TYPE_CHECKING:
    from collections.abc import Collection

    from qorch_net.host import HostNetwork, Link
    from qorch_net.plan import NetworkPlan

_EXCLUSIVE: Final = {"macvlan", "macvtap", "ipvlan", "ipvtap"}  # take what comes in for themselves
_ADVICE: Final = {
    "NetworkManager": (
        "let it make the bridge (nmcli connection add type bridge ifname br0; nmcli connection add "
        'type ethernet ifname {0} master br0) and plug in with bridge = "br0" and no uplink; '
        "or take the interface from it: nmcli device set {0} managed no"
    ),
    "systemd-networkd": (
        "let it make the bridge (a .netdev of Kind=bridge, and Bridge=br0 in the .network of {0}) "
        'and plug in with bridge = "br0" and no uplink; or take the interface from it: '
        "Unmanaged=yes in its .network"
    ),
}


def check_network(plan: NetworkPlan, host: HostNetwork, *, coming: Collection[str] = ()) -> None:
    """Raise NetError if `plan` cannot be had on `host` as it is.

    `coming`: bridges that other networks will have made before this one is brought up.
    """
    if plan.makes_bridge:
        _check_bridge_name(plan, host)
    elif plan.bridge is not None and plan.bridge not in coming:
        _check_foreign_bridge(plan, plan.bridge, host)
    for subnet in (plan.subnet, plan.subnet6):
        if subnet and (use := host.find_use(subnet, besides=plan.bridge or "")):
            raise NetError(
                f"the subnet {subnet} of network {plan.name} is in use: {use}",
                "choose a subnet that the host does not use",
            )
    if plan.uplink is not None:
        _check_uplink(plan, _find_uplink(plan.uplink, host), host)


def _check_bridge_name(plan: NetworkPlan, host: HostNetwork) -> None:
    for link in host.find_marked(plan.mark):
        wanted = plan.bridge if link.kind == "bridge" else plan.subinterface
        if link.name != wanted:
            raise NetError(
                f"the network {plan.name} is up on {link.kind} {link.name}, not {wanted}",
                "take the network down before that changes",
            )
    taken = host.find_link(plan.bridge or "")
    if found := host.find_bridge(plan):
        _check_same_uplink(plan, found)
    elif taken:
        raise NetError(
            f"the bridge name {plan.bridge} is taken: {_describe(taken)}",
            "choose another bridge name",
        )


def _check_same_uplink(plan: NetworkPlan, bridge: Link) -> None:
    """A bridge with the host's addresses on it must not become another one."""
    note = Note.from_alias(bridge.alias)
    if (note.uplink if note else None) != plan.enslaved:
        raise NetError(
            f"the network {plan.name} is up "
            + (f"around {note.uplink}" if note else "without an uplink"),
            "take the network down before its uplink changes",
        )


def _check_foreign_bridge(plan: NetworkPlan, name: str, host: HostNetwork) -> None:
    link = host.find_link(name)
    if link is None:
        raise NetError(
            f"there is no bridge {name} for network {plan.name}",
            'make it, or have it made around an interface: uplink = "eth0", for example',
        )
    if link.kind != "bridge":
        raise NetError(
            f"{name} is no bridge: {_describe(link)}",
            f'to have a bridge made around it, give uplink = "{name}" and another bridge name',
        )
    if (plan.vlan_filtering or plan.vlan) and not link.vlan_filtering:
        raise NetError(
            f"the bridge {name} does not know VLANs, and is not ours to change",
            f"ip link set {name} type bridge vlan_filtering 1",
        )


def _find_uplink(name: str, host: HostNetwork) -> Link:
    if link := host.find_link(name):
        return link
    there = sorted(x.name for x in host.links if x.kind is None and not x.loopback)
    raise NetError(
        f"there is no interface {name}",
        f"the host has {', '.join(there)}" if there else "the host has no network card",
    )


def _check_uplink(plan: NetworkPlan, link: Link, host: HostNetwork) -> None:
    if link.loopback:
        raise NetError(f"{link.name} is the loopback interface: it leads nowhere", "take a card")
    if link.wireless and plan.mode is not Mode.VLAN:
        raise NetError(
            f"{link.name} is wireless: an access point takes frames of one MAC address only",
            "use mode nat or route",
        )
    if plan.enslaved:
        _check_enslaved(plan, link, host)
        return
    if not link.up:
        raise NetError(f"the uplink {link.name} is down", f"ip link set {link.name} up")
    if plan.mtu is not None and plan.mtu > link.mtu:
        raise NetError(
            f"an MTU of {plan.mtu} is more than the {link.mtu} of the uplink {link.name}",
            f"ip link set {link.name} mtu {plan.mtu}",
        )
    if plan.subinterface:
        _check_subinterface(plan, plan.subinterface, host)
    elif link.master is not None:
        raise NetError(
            f"{link.name} is a port of {link.master}: no macvtap can sit upon it",
            f'use mode = "bridge" with bridge = "{link.master}"',
        )


def _check_enslaved(plan: NetworkPlan, link: Link, host: HostNetwork) -> None:
    if link.kind == "bridge":
        raise NetError(
            f"{link.name} is a bridge itself", f'plug into it: bridge = "{link.name}", no uplink'
        )
    if link.master == plan.bridge:
        return
    if link.master is not None:
        master = host.find_link(link.master)
        plug = f'plug into it: bridge = "{link.master}", no uplink'
        raise NetError(
            f"{link.name} is a port of {link.master} already",
            plug if master and master.kind == "bridge" else f"take {link.master} as the uplink",
        )
    if manager := host.managers.get(link.name):
        raise NetError(
            f"{link.name} is managed by {manager}, which would undo the change",
            _ADVICE[manager].format(link.name),
        )
    for other in host.links:
        if other.lower == link.name and other.kind in _EXCLUSIVE:
            raise NetError(
                f"the {other.kind} {other.name} sits upon {link.name}: no bridge can have it",
                f"remove it, or use mode macvtap on {link.name}",
            )


def _check_subinterface(plan: NetworkPlan, name: str, host: HostNetwork) -> None:
    taken = host.find_link(name)
    for link in host.links:
        same = (link.lower, link.vlan) == (plan.uplink, plan.vlan)
        if (same or link is taken) and link.mark != plan.mark:
            raise NetError(
                f"the sub-interface of {plan.uplink} for VLAN {plan.vlan} cannot be made: "
                f"{link.name} is in the way, {_describe(link)}",
                f'make a bridge around it: mode = "bridge" with uplink = "{link.name}"'
                if same
                else "give it another name",
            )


def _describe(link: Link) -> str:
    kind = link.kind or "physical"
    owner = f" of qorch {link.mark.owner}, {link.mark.label}" if link.mark else ""
    return f"there is a {kind} interface of that name{owner}"
