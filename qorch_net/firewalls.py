"""Find what in others' firewalls would stop a network's guests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from qorch_net.foreign import make_blockers
from qorch_net.iptables import find_legacy_chains
from qorch_net.netlink.foreign import find_foreign_chains

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qorch_net.foreign import Blocker, ForeignChain
    from qorch_net.plan import NetworkPlan

_BRIDGE_NF: Final = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


def find_chains() -> tuple[ForeignChain, ...]:
    """Find the chains of others that stop what they do not let through. Raises NetError."""
    return (*find_foreign_chains(), *find_legacy_chains())


def find_blockers(plans: Iterable[NetworkPlan]) -> tuple[Blocker, ...]:
    """Find the chains that stop some of these networks. Raises NetError."""
    chains = find_chains()
    if not chains:
        return ()
    bridge_nf = is_bridge_filtered()
    return tuple(x for plan in plans for x in make_blockers(plan, chains, bridge_nf=bridge_nf))


def is_bridge_filtered() -> bool:
    """Whether frames that only cross a bridge go through iptables, too (br_netfilter)."""
    try:
        return _BRIDGE_NF.read_text().strip() == "1"
    except FileNotFoundError:
        return False
