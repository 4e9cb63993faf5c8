"""Networks that no host could make work are refused before any host is looked at."""

from pathlib import Path

import pytest

from qorch.errors import InputError
from qorch.load import load_text


def check(text):
    """The problems of a document by path."""
    with pytest.raises(InputError) as caught:
        load_text(text, Path("/here"))
    return {problem.path: problem for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("lines", "path", "message"),
    [
        ('mode = "bridge"', ".bridge", "needs the name of a bridge, or an uplink"),
        ('mode = "bridge"\nbridge = "bridge-of-sixteen"', ".bridge", "longer than an interface"),
        ('mode = "bridge"\nbridge = "eth0"\nuplink = "eth0"', ".bridge", "as its uplink is"),
        ('uplink = "eth0"', ".uplink", "means nothing in mode nat"),
        ('mode = "vlan"\nvlan = 10', ".uplink", "mode vlan needs one"),
        ('mode = "vlan"\nuplink = "eth0"', ".vlan", "needs the number of its VLAN"),
        ('mode = "vlan"\nuplink = "eth0"\nvlan = 4095', ".vlan", "there is no VLAN 4095"),
        ('mode = "vlan"\nuplink = "eth0"\nvlan = 0', ".vlan", "there is no VLAN 0"),
        ("vlan = 10", ".vlan", "means nothing in mode nat"),
        ('mode = "macvtap"\nuplink = "eth0"\nbridge = "br0"', ".bridge", "has none"),
        ('mode = "macvtap"', ".uplink", "needs one"),
        ('mode = "tap"\nvlan_filtering = true', ".vlan_filtering", "means nothing in mode tap"),
        ('mode = "bridge"\nuplink = "eth0"\ntrunk = [10]', ".trunk", "VLAN-aware bridge"),
        (
            'mode = "bridge"\nuplink = "eth0"\nvlan_filtering = true\ntrunk = [10, 4095]',
            ".trunk[1]",
            "there is no VLAN 4095",
        ),
        ("mtu = 70000", ".mtu", "70000 is not possible"),
        ('forward_delay = "4s"', ".forward_delay", "goes with spanning tree"),
        ('stp = true\nforward_delay = "1s"', ".forward_delay", "1s is not possible"),
        (
            'mode = "bridge"\nbridge = "b"\nsubnet = "10.9.0.0/24"',
            ".subnet",
            "has no part",
        ),
        (
            'mode = "bridge"\nbridge = "b"\nforward = [{ host_port = 1, ip = "10.0.0.1" }]',
            ".forward",
            "has no part",
        ),
        ('gateway = "10.9.0.1"', ".gateway", "goes with a subnet"),
        ('dhcp = { start = "10.9.0.1" }', ".dhcp", "needs both ends"),
        ('gateway6 = "fd00::1"', ".gateway6", "goes with an IPv6 subnet"),
        ("ra = true", ".ra", "goes with an IPv6 subnet"),
        ('subnet6 = "fd00::/127"\nra = false', ".subnet6", "has no room"),
        ('subnet6 = "fd00::/80"', ".subnet6", "in a /64 only"),
        ('subnet6 = "fd00::/64"\ngateway6 = "fd01::1"', ".gateway6", "no address of fd00::/64"),
        (
            'subnet6 = "fd00::/64"\ndhcp6 = { start = "fd00::9", end = "fd00::2" }',
            ".dhcp6",
            "comes after",
        ),
        ("forward = [{ host_port = 80 }]", ".forward[0]", "a machine or an address"),
        (
            'forward = [{ host_port = 0, ip = "10.0.0.1" }]',
            ".forward[0].host_port",
            "there is no port 0",
        ),
        (
            'mode = "route"\nforward = [{ host_port = 1, ip = "10.0.0.1" }]',
            ".forward",
            "nothing but in mode nat",
        ),
        (
            'forward = [{ host_port = 80, port = 65530, ip = "10.0.0.1", count = 7 }]',
            ".forward[0].count",
            "7 ports from 65530 on are not possible",
        ),
        ('reach = ["lan"]', ".reach[0]", "is the network itself"),
    ],
)
def test_a_network_that_makes_no_sense_is_refused(lines, path, message):
    """One clear error at the key that is wrong."""
    problems = check(f"[network.lan]\n{lines}\n")
    assert message in problems[f"network.lan{path}"].message


@pytest.mark.parametrize(
    ("one", "other", "path", "message"),
    [
        ('subnet6 = "fd00::/64"', 'subnet6 = "fd00::/60"\nra = false', ".subnet6", "overlaps"),
        ('bridge = "b"', 'mode = "isolated"\nbridge = "b"', ".bridge", "the bridge of network a"),
    ],
)
def test_two_networks_that_want_the_same_are_refused(one, other, path, message):
    """Subnets and bridges are one network's."""
    problems = check(f"[network.a]\n{one}\n[network.b]\n{other}\n")
    assert message in problems[f"network.b{path}"].message


def test_networks_may_share_what_can_be_shared():
    """Several VLANs of one uplink, several networks on one VLAN-aware bridge, macvtaps."""
    spec = load_text(
        """
        [network.ten]
        mode = "vlan"
        uplink = "eth0"
        vlan = 10
        [network.twenty]
        mode = "vlan"
        uplink = "eth0"
        vlan = 20
        [network.direct]
        mode = "macvtap"
        uplink = "eth1"
        macvtap = "vepa"
        [network.wire]
        mode = "bridge"
        uplink = "eth2"
        bridge = "br0"
        vlan_filtering = true
        [network.desk]
        mode = "bridge"
        bridge = "br0"
        vlan = 30
        """,
        Path("/here"),
    )
    assert len(spec.networks) == 5
