"""Subnets, gateways and DHCP ranges of the networks that the host serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

import attrs

from qorch.facts import Facts
from qorch.spec import NetworkSpec
from qorch.units import Name
from qorch_net.errors import NetError
from qorch_net.plan import Dhcp6Range, DhcpRange, NetworkPlan

_FREE_SUBNETS = tuple(IPv4Network(f"192.168.{third}.0/24") for third in range(133, 149))


@attrs.frozen
class Subnets:
    """The subnets that other networks have, by whose they are."""

    subnets: tuple[tuple[Name, IPv4Network], ...]
    subnets6: tuple[tuple[Name, IPv6Network], ...]

    @classmethod
    def from_networks(
        cls, wanted: Mapping[Name, NetworkSpec], known: Mapping[Name, NetworkPlan], *, besides: Name
    ) -> Subnets:
        """Those of all networks but one, as the document says, else as they are."""
        known4 = {name: plan.subnet for name, plan in known.items()}
        known6 = {name: plan.subnet6 for name, plan in known.items()}
        named4 = known4 | {name: x.subnet for name, x in wanted.items() if x.subnet}
        named6 = known6 | {name: x.subnet6 for name, x in wanted.items()}
        return cls(
            tuple((name, x) for name, x in named4.items() if x and name != besides),
            tuple((name, x) for name, x in named6.items() if x and name != besides),
        )

    def find_overlaps(self, plan: NetworkPlan) -> Iterator[tuple[str, str]]:
        """Which keys of a network say what overlaps another network's subnet, and with what."""
        for name, other in self.subnets:
            if plan.subnet and other.overlaps(plan.subnet):
                yield "subnet", f"{plan.subnet} overlaps {other} of network {name}"
        for name, other6 in self.subnets6:
            if plan.subnet6 and other6.overlaps(plan.subnet6):
                yield "subnet6", f"{plan.subnet6} overlaps {other6} of network {name}"


def plan_gateways(
    name: Name, network: NetworkSpec, kept: NetworkPlan | None, facts: Facts, others: Subnets
) -> tuple[IPv4Interface, IPv6Interface | None]:
    """The host's addresses: those asked for, else the first ones of the subnets.

    Raises NetError if no subnet is free.
    """
    bridge = network.bridge or (kept.bridge if kept else None) or ""
    subnet = network.subnet or (kept.subnet if kept else None) or _find_free(facts, others, bridge)
    if subnet is None:
        raise NetError(f"no free subnet was found for network {name}", "give one: subnet = …")
    gateway = IPv4Interface((network.gateway or subnet.network_address + 1, subnet.prefixlen))
    if network.subnet6 is None:
        return gateway, None
    address = network.gateway6 or network.subnet6.network_address + 1
    return gateway, IPv6Interface((address, network.subnet6.prefixlen))


def plan_dhcp(network: NetworkSpec, gateway: IPv4Interface) -> DhcpRange | None:
    """The range asked for, else the larger part of the subnet on one side of the gateway."""
    dhcp, subnet = network.dhcp, gateway.network
    if dhcp is not None and not dhcp.enabled:
        return None
    if dhcp is not None and dhcp.start and dhcp.end:
        return DhcpRange(start=dhcp.start, end=dhcp.end)
    first, last = subnet.network_address + 1, subnet.broadcast_address - 1
    if int(gateway.ip) - int(first) > int(last) - int(gateway.ip):
        return DhcpRange(start=first, end=gateway.ip - 1)
    return DhcpRange(start=gateway.ip + 1, end=last)


def plan_dhcp6(network: NetworkSpec) -> Dhcp6Range | None:
    """The range asked for."""
    dhcp6 = network.dhcp6
    return Dhcp6Range(start=dhcp6.start, end=dhcp6.end) if dhcp6 else None


def _find_free(facts: Facts, others: Subnets, bridge: str) -> IPv4Network | None:
    taken = [subnet for _, subnet in others.subnets]
    return next(
        (
            subnet
            for subnet in _FREE_SUBNETS
            if facts.network.find_use(subnet, besides=bridge) is None
            and not any(subnet.overlaps(other) for other in taken)
        ),
        None,
    )
