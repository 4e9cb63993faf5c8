"""The packet filter rules of networks and taps, as data."""

from qorch_net.rules.guard import (
    GUARD_CHAIN,
    GUARDS,
    GuardChain,
    find_guard,
    make_guards,
    make_link_local,
)
from qorch_net.rules.match import AddressType, Field, Match, Protocol, State
from qorch_net.rules.network import find_port_rules, make_rules
from qorch_net.rules.table import (
    CHAINS,
    RESTORE,
    RESTORE_ACCEPT_RA,
    RESTORE_FORWARDING,
    RESTORE_FORWARDING6,
    TABLE_PREFIX,
    Chain,
    Dnat,
    KernelRule,
    Rule,
    Table,
    Verdict,
    make_table_name,
)

__all__ = [
    "CHAINS",
    "GUARDS",
    "GUARD_CHAIN",
    "RESTORE",
    "RESTORE_ACCEPT_RA",
    "RESTORE_FORWARDING",
    "RESTORE_FORWARDING6",
    "TABLE_PREFIX",
    "AddressType",
    "Chain",
    "Dnat",
    "Field",
    "GuardChain",
    "KernelRule",
    "Match",
    "Protocol",
    "Rule",
    "State",
    "Table",
    "Verdict",
    "find_guard",
    "find_port_rules",
    "make_guards",
    "make_link_local",
    "make_rules",
    "make_table_name",
]
