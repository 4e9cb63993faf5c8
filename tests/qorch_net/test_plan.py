"""Plans: what is refused, and that names and addresses are always the same."""

from ipaddress import IPv4Address, IPv4Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qorch_net.errors import NetError
from qorch_net.plan import (
    IFNAMSIZ,
    DhcpRange,
    Lease,
    MacvtapMode,
    Mark,
    Mode,
    PortForward,
    TapPlan,
    find_mark,
    make_bridge_mac,
    make_interface_name,
    make_subinterface_name,
    pick_address,
)

FORWARD = PortForward(host_port=80, name="web", port=80)


def make_range(start, end):
    """Make a range from two words."""
    return DhcpRange(start=IPv4Address(start), end=IPv4Address(end))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bridge": "a" * 16}, "has 16 characters"),
        ({"bridge": "a/b"}, "is no interface name"),
        ({"bridge": ".."}, "is no interface name"),
        ({"name": "-lan"}, "is not a valid host name"),
        ({"domain": "lan..x"}, "is not a valid host name"),
        ({"owner": "me"}, "is no owner"),
        ({"mac": "02:00"}, "is no MAC address"),
        ({"mac": "03:00:00:00:00:00"}, "is a multicast MAC address"),
        ({"mtu": 100}, "an MTU of 100 is not possible"),
        ({"gateway": IPv4Interface("192.168.133.1/31")}, "has no room for a machine"),
        ({"gateway": IPv4Interface("192.168.133.0/24")}, "cannot be the gateway"),
        ({"dhcp": make_range("192.168.134.2", "192.168.134.9")}, "not inside the subnet"),
        ({"dhcp": make_range("192.168.133.9", "192.168.133.255")}, "not inside the subnet"),
        ({"dhcp": make_range("192.168.133.1", "192.168.133.9")}, "contains the gateway"),
    ],
)
def test_bad_plan_is_refused_with_a_hint(tools, changes, message):
    """Each mistake in a plan is one clear error with a hint, before the host is looked at."""
    with pytest.raises(NetError, match=message) as caught:
        tools.make_plan(**changes)
    assert caught.value.hint


NO_PART = {"gateway": None, "dhcp": None, "leases": ()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bridge": None}, "nat network lan needs a bridge"),
        ({"gateway": None, "leases": (), "dhcp": None}, "needs a gateway address"),
        ({"gateway": None, "leases": ()}, "needs a gateway address"),
        ({"uplink": "eth0"}, "nat network lan has no uplink"),
        ({"mode": Mode.VLAN, "vlan": 10, **NO_PART}, "needs an uplink"),
        ({"mode": Mode.VLAN, "uplink": "eth0", **NO_PART}, "needs the number of its VLAN"),
        ({"mode": Mode.VLAN, "uplink": "eth0", "vlan": 4095, **NO_PART}, "there is no VLAN 4095"),
        ({"mode": Mode.BRIDGE}, "the host has no part in bridge network lan"),
        ({"mode": Mode.MACVTAP, "uplink": "eth0", **NO_PART}, "macvtap network lan has no bridge"),
        ({"mode": Mode.TAP, "bridge": None, "uplink": "eth0", **NO_PART}, "has no uplink"),
        ({"trunk": (10, 10)}, "a VLAN is listed twice"),
        ({"stp": True, "forward_delay": 100}, "a forward delay of 1 s is not possible"),
        ({"mode": Mode.ROUTE, "forwards": (FORWARD,)}, "route network lan forwards no ports"),
    ],
)
def test_plan_that_does_not_fit_its_mode_is_refused(tools, changes, message):
    """Each mode says what it needs and what it cannot have."""
    with pytest.raises(NetError, match=message):
        tools.make_plan(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vlan": 10, "trunk": (20,)}, "cannot be an access port and a trunk"),
        ({"native": 10}, "has a native VLAN but no trunk"),
        ({"queues": 0}, "cannot have 0 queues"),
        ({"antispoof": True}, "cannot be guarded without a MAC"),
        ({"macvtap": MacvtapMode.BRIDGE}, "needs an uplink and no bridge"),
    ],
)
def test_tap_that_makes_no_sense_is_refused(changes, message):
    """VLANs, queues and guards of a tap that cannot be are told before it is opened."""
    with pytest.raises(NetError, match=message):
        TapPlan(name="t0", owner="0123abcd", label="vm/web/nic0", bridge="br0", **changes)


def test_sub_interface_is_called_as_everybody_calls_it():
    """`eth0.10`, or a name of ours where the kernel has no room for that."""
    assert make_subinterface_name("0123abcd", "eth0", 10) == "eth0.10"
    name = make_subinterface_name("0123abcd", "enp175s0f1np1", 4094)
    assert len(name) < IFNAMSIZ
    assert name != make_subinterface_name("0123abcd", "enp175s0f1np1", 4093)


def test_range_that_ends_before_it_starts_is_refused():
    """An empty DHCP range is an error."""
    with pytest.raises(NetError, match="is empty"):
        make_range("10.0.0.9", "10.0.0.2")


@pytest.mark.parametrize(
    ("lease", "message"),
    [
        ((2, "192.168.133.150", "db"), "both want 192.168.133.150"),
        ((1, "192.168.133.151", "db"), "both want 52:54:00:00:00:01"),
        ((2, "192.168.133.151", "WEB"), "both want web"),
        ((2, "192.168.133.1", "db"), "no address for a machine"),
        ((2, "10.0.0.1", "db"), "no address for a machine"),
    ],
)
def test_leases_that_contradict_are_refused(tools, lease, message):
    """MAC, address and name of a lease belong to one machine, inside the subnet."""
    web = tools.make_lease(1, "192.168.133.150", "web")
    with pytest.raises(NetError, match=message):
        tools.make_plan(leases=(web, tools.make_lease(*lease)))


def test_lease_name_is_a_host_name():
    """A name that could not be resolved is refused."""
    with pytest.raises(NetError, match="not a valid host name"):
        Lease(mac="52:54:00:00:00:01", ip=IPv4Address("10.0.0.2"), name="a_b")


def test_tap_name_is_checked():
    """A tap's name has at most 15 characters."""
    with pytest.raises(NetError, match="has 16 characters"):
        TapPlan(name="x" * 16, owner="0123abcd", label="vm/web/nic0", bridge="b")


def test_interface_names_and_macs_are_golden():
    """Names are the same on every machine and in every version."""
    assert make_interface_name("0123abcd", "vm/web/nic0", "web") == "qefdch-web"
    assert make_interface_name("0123abcd", "network/lan", "lan") == "qhuf26-lan"
    assert make_interface_name("0123abcd", "network/lan", "---") == "qhuf26"
    assert make_bridge_mac("0123abcd", "lan") == "02:20:1d:25:d1:e0"


@given(st.text(), st.text(), st.text())
def test_interface_names_always_fit(owner, label, hint):
    """Whatever goes in, the name is one that the kernel takes, and the hash tells labels apart."""
    name = make_interface_name(owner, label, hint)
    TapPlan(name=name, owner="0123abcd", label="x", bridge="b")
    assert name == make_interface_name(owner, label, hint)
    assert name[:6] != make_interface_name(owner, label + "x", hint)[:6]


@given(st.sets(st.integers(0, 63)), st.integers(0, 255))
def test_picked_address_is_free_and_inside(used, number):
    """An address is picked as long as one is free, always the same, never a used one."""
    dhcp = make_range("10.0.0.64", "10.0.0.127")
    taken = {dhcp.start + offset for offset in used}
    mac = f"52:54:00:00:00:{number:02x}"
    if len(taken) == len(dhcp):
        with pytest.raises(NetError, match="all 64 addresses"):
            pick_address(mac, dhcp, taken)
        return
    address = pick_address(mac, dhcp, taken)
    assert address in dhcp
    assert address not in taken
    assert address == pick_address(mac.upper(), dhcp, taken)


def test_full_range_is_an_error_with_a_hint():
    """No free address left: say so."""
    dhcp = make_range("10.0.0.2", "10.0.0.3")
    with pytest.raises(NetError, match=r"all 2 addresses .* are taken") as caught:
        pick_address("52:54:00:00:00:01", dhcp, {dhcp.start, dhcp.end})
    assert caught.value.hint == "widen the range or remove machines"


def test_mark_is_found_again():
    """What is written as an alias is read back; other aliases are nobody's mark."""
    mark = Mark("0123abcd", "network/lan")
    assert find_mark(mark.alias) == mark
    assert mark.network == "lan"
    assert Mark("0123abcd", "vm/web/nic0").network is None
    assert Mark("0123abcd", "network/../../etc").network is None
    for alias in (None, "", "office uplink", "qorch:x:network/lan", "qorch:0123abcd:"):
        assert find_mark(alias) is None
