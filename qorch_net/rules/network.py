"""The rules of one network, for the table that all networks of an owner share.

The base chains accept what no rule drops, so that an `accept` of ours only ends our own chain:
other tables still have their word. Each rule speaks of its own network only. What must be decided
before another network's rule ends the chain has a lower phase: of the forwarded packets first come
those that some network lets in, then those that some network keeps out.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Final

from qorch_net.plan import Mode
from qorch_net.rules.match import (
    ANSWER,
    FORWARDED,
    TO_THE_HOST,
    Field,
    Icmpv6,
    Match,
    Protocol,
    Transport,
    daddr,
    dport,
    icmpv6,
    iif,
    oif,
    proto,
    saddr,
    transport,
)
from qorch_net.rules.table import Dnat, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.plan import IpAddress, NetworkPlan, PortForward

_ACCEPT, _DROP, _MASQUERADE = Verdict.ACCEPT, Verdict.DROP, Verdict.MASQUERADE
_FIRST, _THEN, _LAST = 0, 1, 2
_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
_NOT_ROUTED: Final[tuple[IPv4Network | IPv6Network, ...]] = (
    IPv4Network("224.0.0.0/4"),
    IPv4Network("255.255.255.255/32"),
    IPv6Network("ff00::/8"),
    IPv6Network("fe80::/10"),
)


def make_rules(plan: NetworkPlan) -> tuple[Rule, ...]:
    """Make the rules of a network; none where the host has no part in it.

    `nat`: towards the bridge pass answers, forwarded ports and those who may `reach` it; what
    leaves our networks leaves with the host's address. `route`: all passes. `isolated`: nothing
    passes but what `reach` allows.
    """
    if not plan.mode.is_served or plan.bridge is None:
        return ()
    return (
        *_input(plan, plan.bridge),
        *_forward(plan, plan.bridge),
        *(rule for _, rule, _ in find_port_rules(plan)),
        *_translate_out(plan, plan.bridge),
    )


def find_targets(plan: NetworkPlan) -> Iterator[tuple[PortForward, IpAddress, int]]:
    """Find where forwarded ports lead: address, and how far to count on from the first port.

    What leads to a machine that is not there leads nowhere.
    """
    for forward in plan.forwards:
        for target in plan.find_targets(forward):
            yield from ((forward, target, step) for step in range(forward.count))


def find_port_rules(plan: NetworkPlan) -> Iterator[tuple[PortForward, Rule, int]]:
    """Find the rules of forwarded ports, for packets from elsewhere and for the host's own."""
    for forward, target, step in find_targets(plan):
        where = daddr(forward.address) if forward.address else TO_THE_HOST
        matches = (
            proto(target),
            where,
            transport(Transport[forward.proto.name]),
            dport(forward.host_port + step),
        )
        action = Dnat(target, forward.port + step)
        for chain in ("prerouting", "output"):
            rule = Rule(subject=plan.name, chain=chain, matches=matches, action=action)
            yield forward, rule, step


def _input(plan: NetworkPlan, bridge: str) -> Iterator[Rule]:
    """Towards the host: a guest that announces itself as a router must not become the host's."""

    def rule(*matches: Match) -> Rule:
        return Rule(subject=plan.name, chain="input", matches=(iif(bridge), *matches), action=_DROP)

    if plan.subnet6 is None:
        yield rule(Match(Field.NFPROTO, Protocol.IPV6))
    else:
        yield rule(*icmpv6(Icmpv6.ROUTER_ADVERTISEMENT))
        yield rule(*icmpv6(Icmpv6.REDIRECT))
    if plan.forwards:  # route_localnet lets 127.0.0.0/8 in by the bridge
        yield rule(proto(_LOOPBACK), daddr(_LOOPBACK), ~ANSWER)


def _forward(plan: NetworkPlan, bridge: str) -> Iterator[Rule]:
    here, out = oif(bridge), iif(bridge)

    def rule(phase: int, action: Verdict, *matches: Match) -> Rule:
        return Rule(subject=plan.name, chain="forward", matches=matches, action=action, phase=phase)

    closed = plan.mode in {Mode.NAT, Mode.ISOLATED}
    if closed:
        yield rule(_FIRST, _ACCEPT, here, ANSWER)
    if plan.mode is Mode.ISOLATED:
        yield rule(_FIRST, _ACCEPT, out, ANSWER)
    for target in sorted({address for _, address, _ in find_targets(plan)}, key=str):
        yield rule(_FIRST, _ACCEPT, here, proto(target), daddr(target), FORWARDED)
    for other in plan.reach:
        yield rule(_FIRST, _ACCEPT, out, oif(other))
    if plan.isolated_guests:  # those who go around the isolation of bridge ports, by the host
        yield rule(_FIRST, _DROP, out, here)
    elif closed:
        yield rule(_FIRST, _ACCEPT, out, here)
    if closed:
        yield rule(_THEN, _DROP, here)
    if plan.mode is Mode.ISOLATED:
        yield rule(_THEN, _DROP, out)


def _translate_out(plan: NetworkPlan, bridge: str) -> Iterator[Rule]:
    def rule(phase: int, action: Verdict, *matches: Match) -> Rule:
        return Rule(
            subject=plan.name, chain="postrouting", matches=matches, action=action, phase=phase
        )

    subnets = [subnet for subnet in (plan.subnet, plan.subnet6) if subnet]
    if plan.forwards:  # answers to a guest of the same bridge, and to 127.0.0.1, come by the host
        for source in (*subnets, _LOOPBACK):
            yield rule(_FIRST, _MASQUERADE, oif(bridge), proto(source), saddr(source), FORWARDED)
    yield rule(_THEN, _ACCEPT, oif(bridge))
    for subnet in subnets if plan.mode is Mode.NAT else ():
        elsewhere = [~daddr(x) for x in (subnet, *_NOT_ROUTED) if x.version == subnet.version]
        yield rule(_LAST, _MASQUERADE, proto(subnet), saddr(subnet), *elsewhere)
