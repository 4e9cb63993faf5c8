"""Rules, chains and tables as data that can be read and compared without a kernel.

Each rule carries the comment `<subject>:<phase>:<digest of the rule>` in the kernel; the subject is
a network or, in the bridge table, a tap. The comments alone tell whom a rule belongs to, in which
order rules of several subjects stand, and whether what is there is what is wanted.
"""

from __future__ import annotations

import enum
import hashlib
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

    from qorch_net.rules.match import Match

TABLE_PREFIX: Final = "qorch-"
# Empty chains of these names say: net.ipv4.ip_forward and net.ipv6.conf.all.forwarding were 0
# before the first of our networks, and net.ipv6.conf.INTERFACE.accept_ra was 1.
RESTORE_FORWARDING: Final = "restore-ip-forward"
RESTORE_FORWARDING6: Final = "restore-ip6-forward"
RESTORE_ACCEPT_RA: Final = "restore-accept-ra/"
RESTORE: Final = "restore-"


class Verdict(enum.Enum):
    """What happens to a packet that matches."""

    ACCEPT = "accept"
    DROP = "drop"
    MASQUERADE = "masquerade"

    def __str__(self) -> str:
        return self.value


@attrs.frozen
class Dnat:
    """It goes to this address and port instead."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        family, address = ("ip", str(self.address))
        if self.address.version == 6:
            family, address = "ip6", f"[{address}]"
        return f"dnat {family} to {address}:{self.port}"


@attrs.frozen(kw_only=True)
class Chain:
    """A chain; with a `hook` a base chain, in the kernel's words."""

    name: str
    type: str = ""
    hook: str = ""
    priority: int = 0


CHAINS: Final = (
    Chain(name="prerouting", type="nat", hook="prerouting", priority=-100),
    Chain(name="input", type="filter", hook="input", priority=0),
    Chain(name="forward", type="filter", hook="forward", priority=0),
    Chain(name="output", type="nat", hook="output", priority=-100),
    Chain(name="postrouting", type="nat", hook="postrouting", priority=100),
)


@attrs.frozen(kw_only=True)
class KernelRule:
    """A rule as the kernel gave it, to be compared by its comment and handed back unread."""

    chain: str
    comment: str
    expressions: bytes = attrs.field(repr=False)

    @property
    def subject(self) -> str:
        """Whose it is; empty for a rule that somebody else put into our table."""
        parts = self.comment.split(":")
        return parts[0] if len(parts) == 3 and parts[1].isdecimal() else ""

    @property
    def phase(self) -> int:
        """Its place among the rules of others."""
        return int(self.comment.split(":")[1]) if self.subject else 0


@attrs.frozen(kw_only=True)
class Rule:
    """One rule; all its matches must hold. `str()` gives it in nft's syntax.

    Of several subjects' rules in one chain, those of a lower phase come first.
    """

    subject: str
    chain: str
    matches: tuple[Match, ...]
    action: Verdict | Dnat
    phase: int = 0

    def __str__(self) -> str:
        return " ".join(map(str, (*self.matches, self.action)))

    @property
    def comment(self) -> str:
        """What the rule is called in the kernel."""
        digest = hashlib.sha256(f"{self.chain} {self}".encode()).hexdigest()
        return f"{self.subject}:{self.phase}:{digest[:8]}"


@attrs.frozen(kw_only=True)
class Table:
    """An owner's table. `notes`: what the last one who leaves puts back, as names of chains."""

    rules: tuple[Rule | KernelRule, ...] = ()
    notes: frozenset[str] = frozenset()
    chains: frozenset[Chain] = frozenset(CHAINS)

    @property
    def networks(self) -> frozenset[str]:
        """The networks that have rules here."""
        return frozenset(rule.subject for rule in self.rules) - {""}

    def is_like(self, other: Table) -> bool:
        """Whether both do the same."""
        return (
            self.chains == other.chains
            and self.notes == other.notes
            and self._words() == other._words()
        )

    def replace(self, network: str, rules: tuple[Rule, ...]) -> Table:
        """Make the table with these rules for `network`, those of other networks kept."""
        kept = (rule for rule in self.rules if rule.subject not in {network, ""})
        ordered = sorted((*kept, *rules), key=lambda rule: rule.phase)
        return attrs.evolve(self, rules=tuple(ordered), chains=frozenset(CHAINS))

    def _words(self) -> list[tuple[str, str]]:
        rules = sorted(self.rules, key=lambda rule: (rule.chain, rule.phase, rule.subject))
        return [(rule.chain, rule.comment) for rule in rules]


def make_table_name(owner: str) -> str:
    """Make the name of the owner's tables, in the families inet and bridge."""
    return TABLE_PREFIX + owner
