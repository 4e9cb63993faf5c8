"""Networks: which ones a document needs, their subnets, addresses and interface names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from qorch.errors import Problem
from qorch.facts import Facts
from qorch.plan.forwards import find_forward_problems
from qorch.plan.subnets import Subnets, plan_dhcp, plan_dhcp6, plan_gateways
from qorch.plan.uplinks import find_uplink_problems
from qorch.plan.values import Defined
from qorch.spec import DEFAULT_NETWORK, NetworkSpec, Spec
from qorch.spec.network import ForwardSpec
from qorch.units import Name
from qorch_net.check import check_network
from qorch_net.errors import NetError
from qorch_net.plan import (
    DhcpOption,
    Mark,
    Mode,
    NetworkPlan,
    PortForward,
    make_bridge_mac,
    make_interface_name,
)

_STP_DELAY = 15.0  # seconds a port listens and learns before it forwards: 802.1D's
_BRIDGELESS = (Mode.MACVTAP, Mode.TAP)


def plan_networks(
    spec: Spec, facts: Facts, defined: Defined, problems: list[Problem]
) -> dict[Name, NetworkPlan]:
    """The networks that the document defines or its machines use, without leases.

    Those that make a bridge come before those that are plugged into it.
    """
    wanted: dict[Name, NetworkSpec] = dict(spec.networks)
    used = {nic.network for vm in spec.vms.values() for nic in vm.nics if nic.is_networked}
    if DEFAULT_NETWORK in used and DEFAULT_NETWORK not in defined.networks:
        wanted.setdefault(DEFAULT_NETWORK, NetworkSpec())
    plans = {
        name: defined.networks[name] for name in used - wanted.keys() if name in defined.networks
    }
    bridges = _name_bridges(wanted, facts, defined)
    for name, network in wanted.items():
        subnets = Subnets.from_networks(wanted, {**defined.networks, **plans}, besides=name)
        if plan := _plan_network(name, network, facts, defined, subnets, bridges, problems):
            plans[name] = plan
    problems += find_forward_problems(spec, plans, defined)
    problems += find_uplink_problems(spec, plans, defined)
    coming = {plan.bridge for plan in plans.values() if plan.makes_bridge and plan.bridge}
    for name, plan in plans.items():
        problems += _check(name, plan, facts, coming)
        problems += _find_rebuilds(plan, defined.networks.get(name), facts)
    return dict(sorted(plans.items(), key=lambda item: not item[1].makes_bridge))


def _name_bridges(
    wanted: Mapping[Name, NetworkSpec], facts: Facts, defined: Defined
) -> dict[Name, str]:
    """The bridge of every network that has one, defined or wanted."""
    known = {name: plan.bridge for name, plan in defined.networks.items() if plan.bridge}
    named = {
        name: network.bridge or make_interface_name(facts.owner, f"network/{name}", name)
        for name, network in wanted.items()
        if network.mode not in _BRIDGELESS
    }
    return known | named


def _plan_network(
    name: Name,
    network: NetworkSpec,
    facts: Facts,
    defined: Defined,
    subnets: Subnets,
    bridges: Mapping[Name, str],
    problems: list[Problem],
) -> NetworkPlan | None:
    path = f"network.{name}"
    delay = (network.forward_delay or _STP_DELAY) if network.stp else 0
    try:
        plan = NetworkPlan(
            name=name,
            owner=facts.owner,
            mode=network.mode,
            bridge=bridges[name] if network.mode not in _BRIDGELESS else None,
            mac=make_bridge_mac(facts.owner, name),
            uplink=network.uplink,
            vlan=network.vlan,
            vlan_filtering=network.vlan_filtering,
            trunk=network.trunk,
            macvtap=network.macvtap,
            mtu=network.mtu,
            stp=network.stp,
            forward_delay=round(delay * 100),
            domain=network.domain or name,
            isolated_guests=network.isolated_guests,
            antispoof=network.antispoof,
            **_plan_service(name, network, facts, defined, subnets),
        )
    except NetError as error:
        problems.append(Problem(path, error.message, error.hint))
        return None
    overlaps = [Problem(f"{path}.{key}", text) for key, text in subnets.find_overlaps(plan)]
    problems += overlaps
    reach = _plan_reach(path, network, bridges, problems)
    return None if overlaps else attrs.evolve(plan, reach=reach)


def _plan_service(
    name: Name, network: NetworkSpec, facts: Facts, defined: Defined, subnets: Subnets
) -> dict[str, Any]:
    """What the host does in a network that it serves. Raises NetError."""
    if not network.mode.is_served:
        return {}
    kept = defined.networks.get(name)
    gateway, gateway6 = plan_gateways(name, network, kept, facts, subnets)
    options = [*(network.dhcp.options.items() if network.dhcp else ())]
    options += [
        (f"option6:{key}", value)
        for key, value in (network.dhcp6.options.items() if network.dhcp6 else ())
    ]
    return {
        "gateway": gateway,
        "gateway6": gateway6,
        "dhcp": plan_dhcp(network, gateway),
        "dhcp6": plan_dhcp6(network),
        "ra": gateway6 is not None and network.ra is not False,
        "dns": network.dns,
        "dhcp_options": tuple(DhcpOption(option=key, value=value) for key, value in options),
        "forwards": tuple(_plan_forward(forward) for forward in network.forwards),
    }


def _plan_forward(forward: ForwardSpec) -> PortForward:
    return PortForward(
        proto=forward.proto,
        address=forward.host,
        host_port=forward.host_port,
        name=forward.vm,
        ip=forward.ip,
        port=forward.port or forward.host_port,
        count=forward.count,
    )


def _plan_reach(
    path: str, network: NetworkSpec, bridges: Mapping[Name, str], problems: list[Problem]
) -> tuple[str, ...]:
    """The bridges of the networks that may be reached."""
    for index, name in enumerate(network.reach):
        if name not in bridges:
            known = ", ".join(sorted(bridges))
            problems.append(
                Problem(
                    f"{path}.reach[{index}]", f"there is no network {name!r}", f"known: {known}"
                )
            )
    return tuple(bridges[name] for name in network.reach if name in bridges)


def _check(name: Name, plan: NetworkPlan, facts: Facts, coming: set[str]) -> Iterator[Problem]:
    """What of the host stands in a network's way."""
    try:
        check_network(plan, facts.network, coming=coming)
    except NetError as error:
        yield Problem(f"network.{name}", error.message, error.hint, on_host=True)
    if plan.mode.is_served and "dnsmasq" not in facts.programs:
        yield Problem(
            f"network.{name}",
            "dnsmasq is not installed; it gives the guests their addresses and names",
            "apt-get install dnsmasq-base",
            on_host=True,
        )


def _find_rebuilds(plan: NetworkPlan, kept: NetworkPlan | None, facts: Facts) -> Iterator[Problem]:
    """What cannot be changed under the machines that are plugged in."""
    if kept is None or not (kept.makes_bridge or kept.subinterface) or not is_up(kept, facts):
        return
    served = kept.mode.is_served and plan.mode.is_served
    for key in ("bridge", "uplink", "vlan", *(() if served else ("mode",))):
        if getattr(kept, key) != getattr(plan, key):
            yield Problem(
                f"network.{plan.name}.{key}",
                "cannot change while the network is up",
                f"qorch network down {plan.name}",
            )


def is_up(plan: NetworkPlan, facts: Facts) -> bool:
    """Whether what the network needs on the host is there: its bridge, or the one of others."""
    if plan.makes_bridge or plan.subinterface:
        return bool(facts.network.find_marked(Mark(plan.owner, f"network/{plan.name}")))
    return plan.bridge is None or facts.network.find_link(plan.bridge) is not None


def describe_network(plan: NetworkPlan) -> str:
    """What is made for a network, in a few words."""
    match plan.mode:
        case Mode.BRIDGE if plan.uplink:
            return f"bridge {plan.bridge} around {plan.uplink}, with its addresses and routes"
        case Mode.BRIDGE:
            return f"bridge {plan.bridge} as it is"
        case Mode.VLAN:
            return f"bridge {plan.bridge} around {plan.subinterface}, VLAN {plan.vlan}"
        case Mode.MACVTAP:
            return f"macvtaps on {plan.subinterface or plan.uplink}"
        case Mode.TAP:
            return "taps that somebody else plugs in"
    subnets = " ".join(str(subnet) for subnet in (plan.subnet, plan.subnet6) if subnet)
    return f"bridge {plan.bridge}, {plan.mode.value} {subnets}"


def same_network(one: NetworkPlan, other: NetworkPlan) -> bool:
    """Whether two plans differ in nothing but the machines on them."""
    return attrs.evolve(one, leases=(), guards=()) == attrs.evolve(other, leases=(), guards=())
