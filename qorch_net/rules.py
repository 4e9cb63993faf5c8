"""The packet filter rules of networks, as data that can be read and compared without a kernel.

All networks of one owner share the table `inet qorch-<owner>`. Its base chains accept what no rule
drops, so that an `accept` of ours only ends our own chain: other tables still have their word, and
each rule speaks of its own bridge only, so the order of the networks does not matter.

Each rule carries the comment `<network>:<digest of the rule>` in the kernel. The comments alone
tell which network a rule belongs to, and whether what is there is what is wanted.
"""

from __future__ import annotations

import enum
import hashlib
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from qorch_net.plan import NetworkPlan

TABLE_PREFIX: Final = "qorch-"
# An empty chain of this name says: net.ipv4.ip_forward was 0 before the first of our networks.
RESTORE_FORWARDING: Final = "restore-ip-forward"
_NOT_ROUTED: Final = (IPv4Network("224.0.0.0/4"), IPv4Network("255.255.255.255/32"))


class Verdict(enum.Enum):
    """What happens to a packet that matches."""

    ACCEPT = "accept"
    DROP = "drop"
    MASQUERADE = "masquerade"


class Protocol(enum.Enum):
    """The network layer; the value is the kernel's NFPROTO number (linux/netfilter.h)."""

    IPV4 = 2
    IPV6 = 10


@attrs.frozen(kw_only=True)
class Chain:
    """A chain; with a `hook` a base chain, in the kernel's words."""

    name: str
    type: str = ""
    hook: str = ""
    priority: int = 0


CHAINS: Final = (
    Chain(name="input", type="filter", hook="input", priority=0),
    Chain(name="forward", type="filter", hook="forward", priority=0),
    Chain(name="postrouting", type="nat", hook="postrouting", priority=100),
)


@attrs.frozen(kw_only=True)
class KernelRule:
    """A rule as the kernel gave it, to be compared by its comment and handed back unread."""

    chain: str
    comment: str
    expressions: bytes = attrs.field(repr=False)

    @property
    def network(self) -> str:
        """The network it belongs to; empty for a rule that somebody else put into our table."""
        return self.comment.rpartition(":")[0]


@attrs.frozen(kw_only=True)
class Rule:
    """One rule; the fields that are set must all match. `str()` gives it in nft's syntax."""

    network: str
    chain: str
    verdict: Verdict
    iifname: str | None = None
    oifname: str | None = None
    protocol: Protocol | None = None
    answers: bool = False
    saddr: IPv4Network | None = None
    not_daddr: tuple[IPv4Network, ...] = ()

    def __str__(self) -> str:
        return " ".join(
            [
                *([f'iifname "{self.iifname}"'] if self.iifname else []),
                *([f'oifname "{self.oifname}"'] if self.oifname else []),
                *([f"meta nfproto {self.protocol.name.lower()}"] if self.protocol else []),
                *(["ct state established,related"] if self.answers else []),
                *([f"ip saddr {self.saddr}"] if self.saddr else []),
                *(f"ip daddr != {network}" for network in self.not_daddr),
                self.verdict.value,
            ]
        )

    @property
    def comment(self) -> str:
        """What the rule is called in the kernel."""
        digest = hashlib.sha256(f"{self.chain} {self}".encode()).hexdigest()
        return f"{self.network}:{digest[:8]}"


@attrs.frozen(kw_only=True)
class Table:
    """An owner's table. `restore_forwarding`: the last one who leaves sets ip_forward back to 0."""

    rules: tuple[Rule | KernelRule, ...] = ()
    restore_forwarding: bool = False
    chains: frozenset[Chain] = frozenset(CHAINS)

    @property
    def networks(self) -> frozenset[str]:
        """The networks that have rules here."""
        return frozenset(rule.network for rule in self.rules) - {""}

    def is_like(self, other: Table) -> bool:
        """Whether both do the same."""
        return (
            self.chains == other.chains
            and self.restore_forwarding == other.restore_forwarding
            and self._words() == other._words()
        )

    def replace(self, network: str, rules: tuple[Rule, ...]) -> Table:
        """Make the table with these rules for `network`, those of other networks kept."""
        kept = tuple(rule for rule in self.rules if rule.network not in {network, ""})
        return attrs.evolve(self, rules=(*kept, *rules), chains=frozenset(CHAINS))

    def _words(self) -> list[tuple[str, str]]:
        rules = sorted(self.rules, key=lambda rule: (rule.chain, rule.network))
        return [(rule.chain, rule.comment) for rule in rules]


def make_table_name(owner: str) -> str:
    """Make the name of the owner's table in family inet."""
    return TABLE_PREFIX + owner


def make_rules(plan: NetworkPlan) -> tuple[Rule, ...]:
    """Make the rules of one NAT network.

    Towards the bridge only answers pass; what leaves the subnet leaves it with the host's address.
    The host's own side of the bridge speaks no IPv6: a guest that announces itself as a router must
    not become the host's.
    """
    name, bridge = plan.name, plan.bridge
    return (
        Rule(
            network=name,
            chain="input",
            iifname=bridge,
            protocol=Protocol.IPV6,
            verdict=Verdict.DROP,
        ),
        Rule(network=name, chain="forward", oifname=bridge, answers=True, verdict=Verdict.ACCEPT),
        Rule(network=name, chain="forward", iifname=bridge, oifname=bridge, verdict=Verdict.ACCEPT),
        Rule(network=name, chain="forward", oifname=bridge, verdict=Verdict.DROP),
        Rule(
            network=name,
            chain="postrouting",
            protocol=Protocol.IPV4,
            saddr=plan.subnet,
            not_daddr=(*([plan.subnet] if plan.subnet else []), *_NOT_ROUTED),
            verdict=Verdict.MASQUERADE,
        ),
    )
