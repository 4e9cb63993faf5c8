"""Forwarded ports: that they lead somewhere, and that no port of the host is promised twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qorch.errors import Problem
from qorch.plan.values import Defined
from qorch.spec import Spec
from qorch.units import Name
from qorch_net.plan import NetworkPlan, PortForward


def find_forward_problems(
    spec: Spec, plans: Mapping[Name, NetworkPlan], defined: Defined
) -> Iterator[Problem]:
    """What is wrong with the forwarded ports of the document's networks."""
    yield from _find_strangers(spec, defined)
    yield from _find_clashes(spec, {**defined.networks, **plans})


def _find_strangers(spec: Spec, defined: Defined) -> Iterator[Problem]:
    """Those that lead to machines that nobody knows, or that are not on the network."""
    cards = {name: {nic.network for nic in plan.nics} for name, plan in defined.machines.items()}
    cards |= {name: {nic.network for nic in vm.nics} for name, vm in spec.vms.items()}
    for name, network in spec.networks.items():
        for index, forward in enumerate(network.forwards):
            path = f"network.{name}.forward[{index}].vm"
            if forward.vm is None:
                continue
            if forward.vm not in cards:
                known = ", ".join(sorted(cards)) or "none"
                yield Problem(path, f"there is no machine {forward.vm!r}", f"machines: {known}")
            elif name not in cards[forward.vm]:
                hint = f"give it one: [[vm.{forward.vm}.nic]] network = {str(name)!r}"
                yield Problem(path, f"{forward.vm} has no network card on {name}", hint)


def _find_clashes(spec: Spec, plans: Mapping[Name, NetworkPlan]) -> Iterator[Problem]:
    """Two forwards that take the same port of the same address, in one network or in two."""
    taken: list[tuple[Name, PortForward]] = []
    ours_last = sorted(plans, key=lambda name: name in spec.networks)
    for name in ours_last:
        for index, forward in enumerate(plans[name].forwards):
            path = f"network.{name}.forward[{index}].host_port"
            for other, their in taken:
                if name in spec.networks and (port := _find_shared(forward, their)):
                    message = f"{port}/{forward.proto.value} is forwarded already by {other}"
                    yield Problem(path, message, "choose another host_port, or host address")
                    break
            taken.append((name, forward))


def _find_shared(one: PortForward, other: PortForward) -> int | None:
    """The first port that both take."""
    if one.proto is not other.proto:
        return None
    if one.address and other.address and one.address != other.address:
        return None
    first = max(one.host_port, other.host_port)
    last = min(one.host_port + one.count, other.host_port + other.count) - 1
    return first if first <= last else None
