"""The host's network as it was when looked at, and whether a plan fits into it."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from typing import TYPE_CHECKING

import attrs

from qorch_net.errors import NetError
from qorch_net.plan import Mark, find_mark

if TYPE_CHECKING:
    from qorch_net.plan import NetworkPlan


@attrs.frozen(kw_only=True)
class Link:
    """An interface. `kind` is the kernel's (`bridge`, `tun`, `veth`; None for hardware).

    `master` is the bridge it is plugged into. `stp` and `forward_delay` (1/100 s) are a bridge's.
    """

    index: int
    name: str
    up: bool
    mac: str | None = None
    mtu: int = 0
    kind: str | None = None
    alias: str | None = None
    master: str | None = None
    stp: bool = False
    forward_delay: int = 0

    @property
    def mark(self) -> Mark | None:
        """Whose it is, if it is ours."""
        return find_mark(self.alias)


@attrs.frozen(kw_only=True)
class Address:
    """An IPv4 address on an interface."""

    interface: str
    ip: IPv4Interface


@attrs.frozen(kw_only=True)
class Route:
    """An IPv4 route; `interface` is None where several are used (multipath) or none (blackhole)."""

    network: IPv4Network
    interface: str | None


@attrs.frozen(kw_only=True)
class HostNetwork:
    """Interfaces, IPv4 addresses and routes of one network namespace, and net.ipv4.ip_forward."""

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]
    forwarding: bool

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

    def find_use(self, subnet: IPv4Network, *, besides: str = "") -> str | None:
        """Find who uses addresses of `subnet`, not counting the interface `besides`.

        Routes wider than /8 say where everything else goes: they use nothing.
        """
        for address in self.addresses:
            if address.interface != besides and address.ip.network.overlaps(subnet):
                return f"address {address.ip} of interface {address.interface}"
        for route in self.routes:
            if route.interface == besides or route.network.prefixlen < 8:
                continue
            if route.network.overlaps(subnet):
                return f"route {route.network} over {route.interface or 'no single interface'}"
        return None


def check_network(plan: NetworkPlan, host: HostNetwork) -> None:
    """Raise NetError if `plan` cannot be had on `host` as it is."""
    for link in host.find_marked(plan.mark):
        if link.name != plan.bridge:
            raise NetError(
                f"the network {plan.name} is up on bridge {link.name}, not {plan.bridge}",
                "take the network down before its bridge gets another name",
            )
    taken = host.find_link(plan.bridge or "")
    if taken and not host.find_bridge(plan):
        raise NetError(
            f"the bridge name {plan.bridge} is taken: {_describe(taken)}",
            "choose another bridge name",
        )
    if plan.subnet and (use := host.find_use(plan.subnet, besides=plan.bridge or "")):
        raise NetError(
            f"the subnet {plan.subnet} of network {plan.name} is in use: {use}",
            "choose a subnet that the host does not use",
        )


def _describe(link: Link) -> str:
    kind = link.kind or "physical"
    owner = f" of qorch {link.mark.owner}, {link.mark.label}" if link.mark else ""
    return f"there is a {kind} interface of that name{owner}"
