"""Others' firewalls: what in them would stop the guests of a network, and the exact cure.

A packet passes only if nobody drops it: an `accept` in our table does not overrule a `drop` in
another one. So whoever runs a firewall whose forward or input chain drops by default must let the
network's bridge through in *its* words.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

from qorch_net.plan import IpAddress, Mode, Transport
from qorch_net.rules import TABLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qorch_net.plan import NetworkPlan


class Kind(enum.Enum):
    """Whose firewall it is, and so in which words it wants to be told."""

    NFT = "nftables"
    IPTABLES = "iptables"
    LEGACY = "iptables-legacy"
    DOCKER = "Docker"
    FIREWALLD = "firewalld"
    UFW = "ufw"


@attrs.frozen(kw_only=True)
class ForeignChain:
    """A base chain of others. `why`: what in it stops a packet that nothing else lets through.

    `family` is ip, ip6 or inet. `accepts`: interfaces that a rule of its table lets through.
    """

    kind: Kind
    family: str
    table: str
    name: str
    hook: str
    why: str
    accepts: frozenset[str] = frozenset()

    def __str__(self) -> str:
        where = f"table {self.family} {self.table}, chain {self.name}"
        return f"{self.kind.value}: {where} ({self.why})"


@attrs.frozen(kw_only=True)
class Blocker:
    """A chain that stops a network's guests, and the commands that let them through."""

    chain: ForeignChain
    bridge: str
    cures: tuple[str, ...]

    def __str__(self) -> str:
        what = "guests' packets" if self.chain.hook == "forward" else "guests' DHCP and DNS"
        return f"{self.chain} stops the {what} on {self.bridge}"


@attrs.frozen(kw_only=True)
class ForeignForward:
    """Ports of this host that a rule of others leads elsewhere. `address` None: any of the host's.

    `subject`: the network, where it is another qorch's.
    """

    family: str
    table: str
    chain: str
    subject: str = ""
    transport: Transport
    first: int
    last: int
    address: IpAddress | None = None

    def __str__(self) -> str:
        if self.subject:
            return f"network {self.subject} of qorch {self.table.removeprefix(TABLE_PREFIX)}"
        return f"table {self.family} {self.table}, chain {self.chain}"

    def takes(self, transport: Transport, port: int, address: IpAddress | None) -> bool:
        """Whether it takes packets for this port of this address; None: of some address."""
        here = None in {self.address, address} or self.address == address
        return here and transport is self.transport and self.first <= port <= self.last


def make_blockers(
    plan: NetworkPlan, chains: tuple[ForeignChain, ...], *, bridge_nf: bool
) -> tuple[Blocker, ...]:
    """Find which of these chains stop a network. `bridge_nf`: they see bridged packets, too."""
    bridge = plan.bridge
    if bridge is None:
        return ()
    hooks = set(_find_hooks(plan, bridge_nf=bridge_nf))
    families = {"inet"} | ({"ip"} if plan.gateway or not plan.mode.is_served else set())
    families |= {"ip6"} if plan.gateway6 else set()
    return tuple(
        Blocker(chain=chain, bridge=bridge, cures=make_cures(chain, bridge))
        for chain in chains
        if chain.hook in hooks and chain.family in families and bridge not in chain.accepts
    )


def _find_hooks(plan: NetworkPlan, *, bridge_nf: bool) -> Iterator[str]:
    if plan.mode.is_served:
        yield "input"
    if plan.mode in {Mode.NAT, Mode.ROUTE} or plan.reach or bridge_nf:
        yield "forward"


def make_cures(chain: ForeignChain, bridge: str) -> tuple[str, ...]:
    """Make the commands that let a bridge through, in the words of whose firewall it is."""
    forward = chain.hook == "forward"
    match chain.kind:
        case Kind.FIREWALLD:
            return (
                f"firewall-cmd --permanent --zone=trusted --add-interface={bridge}",
                "firewall-cmd --reload",
            )
        case Kind.UFW if forward:
            return f"ufw route allow in on {bridge}", f"ufw route allow out on {bridge}"
        case Kind.UFW:
            return (f"ufw allow in on {bridge}",)
        case Kind.NFT:
            where = f"{chain.family} {chain.table} {chain.name}"
            keys = ("iifname", "oifname") if forward else ("iifname",)
            return tuple(f"nft 'insert rule {where} {key} \"{bridge}\" accept'" for key in keys)
    name = "DOCKER-USER" if chain.kind is Kind.DOCKER and forward else chain.name
    program = "ip6tables" if chain.family == "ip6" else "iptables"
    program += "-legacy" if chain.kind is Kind.LEGACY else ""
    switches = ("-i", "-o") if forward else ("-i",)
    return tuple(f"{program} -I {name} {switch} {bridge} -j ACCEPT" for switch in switches)
