"""dnsmasq: DHCP, router advertisements and DNS of one network."""

from qorch_net.dnsmasq.config import Files, make_files, make_loaded
from qorch_net.dnsmasq.leases import ActiveLease, parse_leases
from qorch_net.dnsmasq.service import (
    Service,
    find_dnsmasq,
    find_leases,
    find_program,
    is_sound,
    pick_user,
)

__all__ = [
    "ActiveLease",
    "Files",
    "Service",
    "find_dnsmasq",
    "find_leases",
    "find_program",
    "is_sound",
    "make_files",
    "make_loaded",
    "parse_leases",
    "pick_user",
]
