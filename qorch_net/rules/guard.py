"""Anti-spoofing: what a guest's tap lets through, in the owner's table of the family bridge.

The base chain finds the tap of a frame in the map `guards` and goes on in that tap's own chain. A
chain is named by network, tap and the digest of its rules: the list of chains tells whether what is
there is what is wanted, and a chain is never changed, only replaced.
"""

from __future__ import annotations

import hashlib
from ipaddress import IPv4Address, IPv6Address, IPv6Network
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
    from collections.abc import Iterator, Mapping

    from qorch_net.plan import Guard, NetworkPlan
    from qorch_net.rules.table import KernelRule

GUARDS: Final = "guards"
# Before bridge-nf hands frames to the family inet: NF_BR_PRI_NAT_DST_BRIDGED is -300.
GUARD_CHAIN: Final = Chain(name="prerouting", type="filter", hook="prerouting", priority=-310)
_PREFIX: Final = "guard"
_NOWHERE, _NOWHERE6 = IPv4Address("0.0.0.0"), IPv6Address("::")  # noqa: S104 - DHCP, DAD
_LINK_LOCAL: Final = IPv6Network("fe80::/64")
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


@attrs.frozen(kw_only=True)
class Slaac:
    """What the guests of a network with router advertisements may give themselves.

    An address says nothing of whose it is: its lower half may come from the MAC address, from a
    secret (RFC 7217) or from nowhere (RFC 8981). So any will do that is nobody's: neither the
    gateway's nor planned for another guest.
    """

    prefix: IPv6Network
    taken: Mapping[IPv6Address, str]  # by the MAC address of whose they are

    @classmethod
    def from_network(cls, plan: NetworkPlan) -> Slaac | None:
        """None where guests are not told the prefix."""
        if plan.gateway6 is None or not plan.ra:
            return None
        planned = {lease.ip6: lease.mac for lease in plan.leases if lease.ip6}
        own = dict.fromkeys((plan.gateway6.ip, make_link_local(plan.mac)), plan.mac)
        return cls(prefix=plan.gateway6.network, taken=planned | own)


def make_guards(plan: NetworkPlan) -> tuple[GuardChain, ...]:
    """Make the chains of a network's guarded taps."""
    slaac = Slaac.from_network(plan)
    chains = []
    for guard in plan.guards:
        text = "\n".join(map(str, _make_rules("", guard, slaac)))
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        chain = GuardChain(network=plan.name, tap=guard.tap, digest=digest)
        rules = tuple(_make_rules(chain.name, guard, slaac))
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
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(_LINK_LOCAL.network_address.packed[:8] + identifier)


def _make_rules(chain: str, guard: Guard, slaac: Slaac | None) -> Iterator[Rule]:
    """Drop what is not the guest's own; what comes to the end of the chain passes.

    A guest without planned addresses may choose them, but not its MAC address.
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
        yield from _ipv6_rules(chain, guard, slaac)


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


def _ipv6_rules(chain: str, guard: Guard, slaac: Slaac | None) -> Iterator[Rule]:
    def rule(*matches: Match, action: Verdict = Verdict.DROP) -> Rule:
        return Rule(
            subject=guard.tap,
            chain=chain,
            matches=(ethertype(EtherType.IP6), *matches),
            action=action,
        )

    own: list[IPv6Address | IPv6Network] = [ip for ip in guard.ips if ip.version == 6]
    own += [_LINK_LOCAL, slaac.prefix] if slaac else [make_link_local(guard.mac)]
    advertised = icmpv6(Icmpv6.NEIGHBOUR_ADVERTISEMENT)
    for ip, mac in slaac.taken.items() if slaac else ():
        if mac != guard.mac:
            yield rule(*advertised, Match(Field.ND_TARGET, ip))
            yield rule(saddr(ip))
    yield rule(*advertised, *(~Match(Field.ND_TARGET, ip) for ip in own))
    for kind in (
        Icmpv6.NEIGHBOUR_SOLICITATION,
        Icmpv6.ROUTER_SOLICITATION,
        Icmpv6.MLD2_REPORT,
    ):  # before it has an address of its own (RFC 4862, RFC 3810)
        yield rule(saddr(_NOWHERE6), *icmpv6(kind), action=Verdict.ACCEPT)
    yield rule(*(~saddr(ip) for ip in own))
