"""Uplinks: that no two networks take the same one in ways that exclude each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qorch.errors import Problem
from qorch.plan.values import Defined
from qorch.spec import Spec
from qorch.units import Name
from qorch_net.plan import MacvtapMode, Mode, NetworkPlan


def find_uplink_problems(
    spec: Spec, plans: Mapping[Name, NetworkPlan], defined: Defined
) -> Iterator[Problem]:
    """What is wrong with the uplinks of the document's networks.

    A card is the port of one bridge, or carries macvtaps, one only in mode passthru; a VLAN of it
    has one sub-interface. Any number of VLANs goes with either.
    """
    yield from _find_crowds(spec, plans)
    known = {**defined.networks, **plans}
    order = sorted(known, key=lambda name: (name in spec.networks, list(known).index(name)))
    for index, name in enumerate(order):
        plan = known[name]
        if name not in spec.networks or plan.uplink is None:
            continue
        for other in order[:index]:
            their = known[other]
            if _exclude(plan, their):
                yield Problem(
                    f"network.{name}.uplink",
                    f"network {other} has {_describe(their)} already",
                    _advise(plan, their),
                )


def _find_crowds(spec: Spec, plans: Mapping[Name, NetworkPlan]) -> Iterator[Problem]:
    """Second cards on a macvtap in mode passthru, which has the uplink to itself."""
    taken: dict[Name, str] = {}
    for vm, machine in spec.vms.items():
        for index, nic in enumerate(machine.nics):
            plan = plans.get(nic.network) if nic.is_networked else None
            if plan is None or plan.mode is not Mode.MACVTAP:
                continue
            if plan.macvtap is not MacvtapMode.PASSTHRU:
                continue
            card = f"vm.{vm}.nic[{index}]"
            if (other := taken.setdefault(nic.network, card)) != card:
                yield Problem(
                    f"{card}.network",
                    f'{other} has {plan.uplink} to itself: macvtap = "passthru" takes one card',
                    'macvtap = "bridge" takes any number',
                )


def _exclude(one: NetworkPlan, other: NetworkPlan) -> bool:
    if one.uplink != other.uplink or _vlan_of(one) != _vlan_of(other):
        return False
    both = one.mode is other.mode is Mode.MACVTAP
    alone = MacvtapMode.PASSTHRU in {one.macvtap, other.macvtap}
    return not both or alone or _vlan_of(one) is not None


def _vlan_of(plan: NetworkPlan) -> int | None:
    """The VLAN whose sub-interface it takes; None: the uplink as a whole."""
    return plan.vlan if plan.subinterface else None


def _describe(plan: NetworkPlan) -> str:
    vlan = _vlan_of(plan)
    return f"{plan.uplink}" if vlan is None else f"VLAN {vlan} of {plan.uplink}"


def _advise(plan: NetworkPlan, their: NetworkPlan) -> str:
    if their.bridge is None:
        return f"have its cards on network {their.name}, or take another uplink than {plan.uplink}"
    return f'plug into its bridge: mode = "bridge" and bridge = "{their.bridge}", no uplink'
