"""What a network and a tap shall be: values and pure helpers, the same on any machine.

Names and addresses are made from hashes of the owner (8 hex digits that stand for a state
directory) and of the thing's label (`network/lan`, `vm/web/nic0`): the same input gives the same
plan, and two state directories on one host do not meet. Whatever we make on the host carries
`owner` and `label` as its mark, so that it is found again without a record of ours.
"""

from qorch_net.plan.dhcp import (
    Dhcp6Range,
    DhcpOption,
    DhcpRange,
    Lease,
    PortForward,
    Transport,
    pick_address,
)
from qorch_net.plan.names import (
    IFNAMSIZ,
    IpAddress,
    Mark,
    find_mark,
    make_bridge_mac,
    make_interface_name,
    make_subinterface_name,
)
from qorch_net.plan.network import Mode, NetworkPlan
from qorch_net.plan.tap import Guard, MacvtapMode, Rate, TapPlan

__all__ = [
    "IFNAMSIZ",
    "Dhcp6Range",
    "DhcpOption",
    "DhcpRange",
    "Guard",
    "IpAddress",
    "Lease",
    "MacvtapMode",
    "Mark",
    "Mode",
    "NetworkPlan",
    "PortForward",
    "Rate",
    "TapPlan",
    "Transport",
    "find_mark",
    "make_bridge_mac",
    "make_interface_name",
    "make_subinterface_name",
    "pick_address",
]
