"""The host's network as it was when looked at, and whether a plan fits into it."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

import attrs

from qorch_net.plan import Mark, find_mark

if TYPE_CHECKING:
    from qorch_net.plan import NetworkPlan
    from qorch_net.records import IpInterface, IpNetwork


@attrs.frozen(kw_only=True)
class Link:
    """An interface. `kind` is the kernel's (`bridge`, `tun`, `veth`; None for hardware).

    `master` is the bridge it is plugged into, `lower` the interface that it sits upon: for a `vlan`
    if it is one's sub-interface. `stp`, `forward_delay` (1/100 s), `vlan_filtering` are a bridge's.
    """

    index: int
    name: str
    up: bool
    mac: str | None = None
    mtu: int = 0
    kind: str | None = None
    alias: str | None = None
    master: str | None = None
    lower: str | None = None
    vlan: int | None = None
    loopback: bool = False
    wireless: bool = False
    stp: bool = False
    forward_delay: int = 0
    vlan_filtering: bool = False

    @property
    def mark(self) -> Mark | None:
        """Whose it is, if it is ours."""
        return find_mark(self.alias)


@attrs.frozen(kw_only=True)
class Address:
    """An address on an interface."""

    interface: str
    ip: IpInterface


@attrs.frozen(kw_only=True)
class Route:
    """A route; `interface` is None where several are used (multipath) or none (blackhole)."""

    network: IpNetwork
    interface: str | None


@attrs.frozen(kw_only=True)
class HostNetwork:
    """Interfaces, addresses and routes of one network namespace, and net.ipv4.ip_forward.

    `managers` says which interfaces NetworkManager or systemd-networkd looks after.
    """

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    forwarding: bool
    managers: Mapping[str, str] = attrs.field(factory=dict)

    def find_link(self, name: str) -> Link | None:
        """Find the interface of this name."""
        return next((link for link in self.links if link.name == name), None)

    def find_marked(self, mark: Mark) -> tuple[Link, ...]:
        """Find the interfaces that carry this mark."""
        return tuple(link for link in self.links if link.mark == mark)

    def find_bridge(self, plan: NetworkPlan) -> Link | None:
        """Find the network's bridge. A lost mark is forgiven where name and MAC are the plan's."""
        link = self.find_link(plan.bridge or "")
        if not link or link.kind != "bridge":
            return None
        nameless = not link.alias and link.mac == plan.mac
        return link if link.mark == plan.mark or nameless else None

    def find_use(self, subnet: IpNetwork, *, besides: str = "") -> str | None:
        """Find who uses addresses of `subnet`, not counting the interface `besides`.

        Routes wider than /8 say where everything else goes: they use nothing.
        """
        for address in self.addresses:
            if address.interface != besides and _overlap(address.ip.network, subnet):
                return f"address {address.ip} of interface {address.interface}"
        for route in self.routes:
            if route.interface == besides or route.network.prefixlen < 8:
                continue
            if _overlap(route.network, subnet):
                return f"route {route.network} over {route.interface or 'no single interface'}"
        return None


def _overlap(one: IpNetwork, other: IpNetwork) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
