"""The verbs about networks and the host: what they print, how they end."""

import json

import pytest

SHOWN = """\
lan: nat, up
bridge:          br0
subnet:          192.168.133.0/24
machines:        web db
uplink:          eth0
subinterface:    eth0.10
forward:         tcp 8080-8081 -> web (192.168.133.5) 80-81
forward:         udp 10.0.0.1:53 -> 192.168.133.7 53
stopped by:      nftables: table inet wall stops all
cure:            nft x
cure:            nft y
eth0
└── eth0.10
    └── br0
        ├── qo1  web/nic0  52:54:00:00:00:01  192.168.133.5  sent 2KiB (20 packets), received \
4KiB (40 packets)  dropped 3
        ├── qo2  db/nic0  52:54:00:00:00:01  not there
        └── veth7  sent 2KiB (20 packets), received 4KiB (40 packets)  dropped 3
"""


def test_ls(qorch, served):
    """`network ls` prints a row for each network."""
    assert qorch("network", "ls").out == (
        "name  mode  state  bridge  subnet            subnet6  machines\n"
        "lan   nat   up     br0     192.168.133.0/24           web db\n"
    )
    assert json.loads(qorch("network", "ls", "--json").out)[0]["machines"] == ["web", "db"]


def test_show(qorch, served):
    """`network show` draws uplink, sub-interface, bridge and taps below each other."""
    assert qorch("network", "show", "lan").out == SHOWN
    assert json.loads(qorch("network", "show", "lan", "--json").out)["ports"][0]["tap"] == "qo1"


def test_leases(qorch, served):
    """`network leases` tells what is kept for whom from what DHCP has given out."""
    assert qorch("network", "leases", "lan").out.splitlines() == [
        "ip             mac                name  state            expires",
        "192.168.133.5  52:54:00:00:00:01  web   planned, leased  2026-11-25T12:00:00+00:00",
        "192.168.133.9  52:54:00:00:00:09        leased",
    ]
    assert len(json.loads(qorch("network", "leases", "lan", "--json").out)) == 2


def test_up_and_down(qorch, served):
    """Steps are told; a network that is not there is one clear error, the others get their turn."""
    done = qorch("network", "up", "nowhere", "lan")
    assert done.status == 3
    assert done.err == (
        "network lan: bridge\nerror: there is no network 'nowhere'\nhint: networks: lan\n"
    )
    assert qorch("network", "down", "lan").status == 0


def test_ip_json(qorch, served):
    """`ip --json` tells planned, leased and seen addresses apart."""
    (nic,) = json.loads(qorch("ip", "web", "--json").out)
    assert (nic["ips"], nic["planned"], nic["leased"]) == (["192.168.133.5"],) * 2 + ([],)
    assert "fe80::5054:ff:fe00:1" in nic["seen"]


@pytest.mark.parametrize("name", ["..", "a/b", "%2e", "\udcff"])
def test_odd_names_are_no_networks(qorch, served, name):
    """What cannot be a name goes nowhere."""
    assert qorch("network", "show", name.encode(errors="surrogateescape")).status == 3
