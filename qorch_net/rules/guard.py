"""Anti-spoofing: what a guest's tap lets through, in the owner's table of the family bridge.

The base chain finds the tap of a frame in the map `guards` and goes on in that tap's own chain. A
chain is named by network, tap and the digest of its rules: the list of chains tells whether what is
there is what is wanted, and a chain is never changed, only replaced.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

import attrs

from qorch_net.rules.match import (
    EtherType,
    Field,
    Icmpv6,
    Match,
    Transport,
    dport,
    ethertype,
    icmpv6,
    saddr,
    sport,
    transport,
)
from qorch_net.rules.table import Chain, Rule, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.plan import Guard, NetworkPlan
    from qorch_net.rules.table import KernelRule

GUARDS: Final = "guards"
# Before bridge-nf hands frames to the family inet: NF_BR_PRI_NAT_DST_BRIDGED is -300.
GUARD_CHAIN: Final = Chain(name="prerouting", type="filter", hook="prerouting", priority=-310)
_PREFIX: Final = "guard"
_NOWHERE, _NOWHERE6 = IPv4Address("0.0.0.0"), IPv6Address("::")  # noqa: S104 - DHCP, DAD
_DHCP_SERVER, _DHCP6_SERVER = 67, 547
_FAMILIES: Final = (EtherType.IP, EtherType.ARP, EtherType.IP6, EtherType.RARP)


@attrs.frozen(kw_only=True)
class GuardChain:
    """The chain of one tap."""

    network: str
    tap: str
    digest: str
    rules: tuple[Rule | KernelRule, ...] = attrs.field(default=(), repr=False, eq=False)

    @property
    def name(self) -> str:
        """What the chain is called in the kernel."""
        return f"{_PREFIX}/{self.network}/{self.tap}/{self.digest}"


def make_guards(plan: NetworkPlan) -> tuple[GuardChain, ...]:
    """Make the chains of a network's guarded taps."""
    prefix = plan.subnet6.network_address if plan.subnet6 and plan.ra else None
    chains = []
    for guard in plan.guards:
        text = "\n".join(map(str, _make_rules("", guard, prefix)))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        chain = GuardChain(network=plan.name, tap=guard.tap, digest=digest)
        rules = tuple(_make_rules(chain.name, guard, prefix))
        chains.append(attrs.evolve(chain, rules=rules))
    return tuple(chains)


def find_guard(chain: str) -> GuardChain | None:
    """Read the name of a chain; None if it is no tap's."""
    match chain.split("/"):
        case [prefix, network, tap, digest] if prefix == _PREFIX:
            return GuardChain(network=network, tap=tap, digest=digest)
    return None


def make_link_local(mac: str) -> IPv6Address:
    """Make the link-local address that comes from a MAC address (RFC 4291, appendix A)."""
    return _make_eui64(IPv6Address("fe80::"), mac)


def _make_eui64(prefix: IPv6Address, mac: str) -> IPv6Address:
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(prefix.packed[:8] + identifier)


def _make_rules(chain: str, guard: Guard, prefix: IPv6Address | None) -> Iterator[Rule]:
    """Drop what is not the guest's own; what comes to the end of the chain passes.

    A guest without planned addresses may choose them, but not its MAC address. With a `prefix` it
    may also have the address that comes from it and the MAC address (SLAAC).
    """

    def rule(*matches: Match, action: Verdict = Verdict.DROP) -> Rule:
        return Rule(subject=guard.tap, chain=chain, matches=matches, action=action)

    yield rule(~Match(Field.ETHER_SADDR, guard.mac))
    yield rule(*(~ethertype(family) for family in _FAMILIES))
    yield rule(ethertype(EtherType.ARP), ~Match(Field.ARP_SENDER_MAC, guard.mac))
    yield rule(
        ethertype(EtherType.IP), transport(Transport.UDP), sport(_DHCP_SERVER)
    )  # a server's answers
    yield rule(ethertype(EtherType.IP6), transport(Transport.UDP), sport(_DHCP6_SERVER))
    for kind in (Icmpv6.ROUTER_ADVERTISEMENT, Icmpv6.REDIRECT):
        yield rule(ethertype(EtherType.IP6), *icmpv6(kind))
    if guard.ips:
        yield from _ipv4_rules(chain, guard)
        yield from _ipv6_rules(chain, guard, prefix)


def _ipv4_rules(chain: str, guard: Guard) -> Iterator[Rule]:
    def rule(*matches: Match, action: Verdict = Verdict.DROP) -> Rule:
        return Rule(subject=guard.tap, chain=chain, matches=matches, action=action)

    ips = [ip for ip in guard.ips if isinstance(ip, IPv4Address)]
    probing = [*ips, _NOWHERE]  # RFC 5227: who asks whether an address is free has none yet
    yield rule(ethertype(EtherType.ARP), *(~Match(Field.ARP_SENDER_IP, ip) for ip in probing))
    yield rule(
        ethertype(EtherType.IP),
        saddr(_NOWHERE),
        transport(Transport.UDP),
        dport(_DHCP_SERVER),
        action=Verdict.ACCEPT,
    )
    yield rule(ethertype(EtherType.IP), *(~saddr(ip) for ip in ips))


def _ipv6_rules(chain: str, guard: Guard, prefix: IPv6Address | None) -> Iterator[Rule]:
    def rule(*matches: Match, action: Verdict = Verdict.DROP) -> Rule:
        return Rule(subject=guard.tap, chain=chain, matches=matches, action=action)

    own = [make_link_local(guard.mac)]
    own += [_make_eui64(prefix, guard.mac)] if prefix else []
    own += [ip for ip in guard.ips if isinstance(ip, IPv6Address)]
    yield rule(
        ethertype(EtherType.IP6),
        *icmpv6(Icmpv6.NEIGHBOUR_ADVERTISEMENT),
        *(~Match(Field.ND_TARGET, ip) for ip in own),
    )
    for kind in (
        Icmpv6.NEIGHBOUR_SOLICITATION,
        Icmpv6.ROUTER_SOLICITATION,
        Icmpv6.MLD2_REPORT,
    ):  # before it has an address of its own (RFC 4862, RFC 3810)
        yield rule(ethertype(EtherType.IP6), saddr(_NOWHERE6), *icmpv6(kind), action=Verdict.ACCEPT)
    yield rule(ethertype(EtherType.IP6), *(~saddr(ip) for ip in own))
