"""Networks: which ones a document needs, their subnets, addresses and bridge names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.values import Defined
from qorch.spec import DEFAULT_NETWORK, NetworkSpec, Spec
from qorch.units import Name
from qorch_net.check import check_network
from qorch_net.errors import NetError
from qorch_net.plan import DhcpRange, Mark, NetworkPlan, make_bridge_mac, make_interface_name

_FREE_SUBNETS = tuple(IPv4Network(f"192.168.{third}.0/24") for third in range(133, 149))


def plan_networks(
    spec: Spec, facts: Facts, defined: Defined, problems: list[Problem]
) -> dict[Name, NetworkPlan]:
    """The networks that the document defines or its machines use, without leases."""
    wanted: dict[Name, NetworkSpec] = dict(spec.networks)
    used = {nic.network for vm in spec.vms.values() for nic in vm.nics}
    if DEFAULT_NETWORK in used and DEFAULT_NETWORK not in defined.networks:
        wanted.setdefault(DEFAULT_NETWORK, NetworkSpec())
    plans = {
        name: defined.networks[name] for name in used - wanted.keys() if name in defined.networks
    }
    for name, network in wanted.items():
        others = _subnets(wanted, plans, defined, besides=name)
        if plan := _plan_network(name, network, facts, defined, others, problems):
            plans[name] = plan
    for name, plan in plans.items():
        _check(name, plan, facts, problems)
    return plans


def _subnets(
    wanted: Mapping[Name, NetworkSpec],
    plans: Mapping[Name, NetworkPlan],
    defined: Defined,
    *,
    besides: Name,
) -> dict[Name, IPv4Network]:
    """The subnets of all other networks, planned, wanted or defined."""
    given = {name: network.subnet for name, network in wanted.items() if network.subnet}
    plans = {**defined.networks, **plans}
    known = {name: plan.subnet for name, plan in plans.items() if plan.subnet}
    return {name: subnet for name, subnet in {**known, **given}.items() if name != besides}


def _plan_network(
    name: Name,
    network: NetworkSpec,
    facts: Facts,
    defined: Defined,
    others: Mapping[Name, IPv4Network],
    problems: list[Problem],
) -> NetworkPlan | None:
    path, label = f"network.{name}", f"network/{name}"
    bridge = network.bridge or make_interface_name(facts.owner, label, name)
    kept = defined.networks.get(name)
    subnet = (
        network.subnet
        or (kept.subnet if kept else None)
        or _free_subnet(facts, others.values(), bridge)
    )
    if subnet is None:
        problems.append(Problem(path, "no free subnet was found", "give one: subnet = …"))
        return None
    for other, theirs in others.items():
        if theirs.overlaps(subnet):
            problems.append(
                Problem(f"{path}.subnet", f"{subnet} overlaps {theirs} of network {other}")
            )
            return None
    gateway = network.gateway or subnet.network_address + 1
    try:
        return NetworkPlan(
            name=name,
            owner=facts.owner,
            bridge=bridge,
            mac=make_bridge_mac(facts.owner, name),
            gateway=IPv4Interface((gateway, subnet.prefixlen)),
            dhcp=_plan_range(network, subnet, gateway),
            domain=network.domain or name,
            mode=network.mode,
        )
    except NetError as error:
        problems.append(Problem(path, error.message, error.hint))
        return None


def _plan_range(network: NetworkSpec, subnet: IPv4Network, gateway: IPv4Address) -> DhcpRange:
    """The range asked for, else the larger part of the subnet on one side of the gateway."""
    if network.dhcp is not None:
        return DhcpRange(start=network.dhcp.start, end=network.dhcp.end)
    first, last = subnet.network_address + 1, subnet.broadcast_address - 1
    if int(gateway) - int(first) > int(last) - int(gateway):
        return DhcpRange(start=first, end=gateway - 1)
    return DhcpRange(start=gateway + 1, end=last)


def _free_subnet(facts: Facts, others: Iterable[IPv4Network], bridge: str) -> IPv4Network | None:
    taken = tuple(others)
    return next(
        (
            subnet
            for subnet in _FREE_SUBNETS
            if facts.network.find_use(subnet, besides=bridge) is None
            and not any(subnet.overlaps(other) for other in taken)
        ),
        None,
    )


def _check(name: Name, plan: NetworkPlan, facts: Facts, problems: list[Problem]) -> None:
    """What of the host stands in a network's way."""
    try:
        check_network(plan, facts.network)
    except NetError as error:
        problems.append(Problem(f"network.{name}", error.message, error.hint, on_host=True))
    if plan.dhcp and "dnsmasq" not in facts.programs:
        problems.append(
            Problem(
                f"network.{name}",
                "dnsmasq is not installed; it gives the guests their addresses and names",
                "apt-get install dnsmasq-base",
                on_host=True,
            )
        )


def is_up(plan: NetworkPlan, facts: Facts) -> bool:
    """Whether its bridge is there, with our mark."""
    return bool(facts.network.find_marked(Mark(plan.owner, f"network/{plan.name}")))


def same_network(one: NetworkPlan, other: NetworkPlan) -> bool:
    """Whether two plans differ in nothing but the machines on them."""
    return attrs.evolve(one, leases=()) == attrs.evolve(other, leases=())
