"""Networks of every mode, down to names and addresses."""

from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

import attrs
import pytest
from fake_host import NETWORK, plan_text

from qorch.errors import InputError
from qorch.plan import Defined
from qorch_net.host import Link
from qorch_net.plan import DhcpOption, MacvtapMode, Mode, Rate, Transport

OFFICE = '[network.office]\nmode = "bridge"\nuplink = "eth0"\nbridge = "br0"\n'


def plan(text, **changes):
    """The networks of a document on the fake host."""
    return plan_text(text, **changes).networks


def refuse(text, **changes):
    """The problems of a document that does not fit the fake host, by path."""
    with pytest.raises(InputError) as caught:
        plan(text, **changes)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_network_of_the_host_has_what_it_is_given():
    """IPv6, options, servers, forwarded ports, neighbours: every key is in the plan."""
    networks = plan(
        """
        [network.lan]
        subnet = "10.9.0.0/24"
        subnet6 = "fd09::/64"
        dhcp = { options = { ntp-server = "10.9.0.1" } }
        dhcp6 = { start = "fd09::100", end = "fd09::1ff", options = { sntp-server = "[fd09::1]" } }
        dns = ["9.9.9.9", "2620:fe::fe"]
        isolated_guests = true
        reach = ["dmz"]
        mtu = 9000
        forward = [
          { host_port = 8080, vm = "web", port = 80 },
          { proto = "udp", host = "127.0.0.1", host_port = 53, ip = "10.9.0.9", count = 2 },
        ]
        [network.dmz]
        mode = "isolated"
        bridge = "dmz0"
        dhcp = false
        [vm.web]
        kernel = "k"
        nic = [{ network = "lan" }]
        """
    )
    lan, dmz = networks["lan"], networks["dmz"]
    assert lan.gateway == IPv4Interface("10.9.0.1/24")
    assert lan.gateway6 == IPv6Interface("fd09::1/64")
    assert lan.ra
    assert str(lan.dhcp6) == "fd09::100-fd09::1ff"
    assert lan.dhcp_options == (
        DhcpOption(option="ntp-server", value="10.9.0.1"),
        DhcpOption(option="option6:sntp-server", value="[fd09::1]"),
    )
    web, dns = lan.forwards
    assert (web.name, web.host_port, web.port) == ("web", 8080, 80)
    assert (dns.proto, dns.address, dns.port) == (Transport.UDP, IPv4Address("127.0.0.1"), 53)
    assert lan.reach == ("dmz0",)
    assert (dmz.mode, dmz.dhcp, dmz.mtu) == (Mode.ISOLATED, None, None)


def test_a_network_around_an_uplink_has_no_part_of_the_host():
    """No subnet is taken, no dnsmasq is needed; spanning tree waits as 802.1D says."""
    text = OFFICE + "stp = true\nvlan_filtering = true\ntrunk = [10, 20]\n"
    office = plan(text, programs={})["office"]
    assert (office.bridge, office.enslaved, office.gateway) == ("br0", "eth0", None)
    assert (office.stp, office.forward_delay, office.trunk) == (True, 1500, (10, 20))


def test_a_vlan_has_its_sub_interface_and_bridge():
    """The bridge gets a name of ours if it is given none."""
    ten = plan('[network.ten]\nmode = "vlan"\nuplink = "eth0"\nvlan = 10\n')["ten"]
    assert ten.subinterface == "eth0.10"
    assert ten.bridge.endswith("-ten")


def test_bridges_come_before_what_is_plugged_into_them():
    """A network on the bridge of another one is brought up after it."""
    networks = plan('[network.a]\nmode = "bridge"\nbridge = "br0"\n' + OFFICE)
    assert list(networks) == ["office", "a"]


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        (OFFICE.replace("eth0", "eth9"), "network.office", "there is no interface eth9"),
        ('[network.a]\nmode = "bridge"\nbridge = "br9"', "network.a", "there is no bridge br9"),
        ('[network.a]\nreach = ["b"]', "network.a.reach[0]", "there is no network 'b'"),
        (
            '[network.a]\nforward = [{ host_port = 80, vm = "b" }]',
            "network.a.forward[0].vm",
            "there is no machine 'b'",
        ),
    ],
)
def test_what_is_not_there_is_named(text, path, message):
    """Uplinks, bridges, networks and machines."""
    assert message in refuse(text)[path]


def test_an_uplink_of_networkmanager_is_left_to_it():
    """The plan says so before anything is touched."""
    host = attrs.evolve(NETWORK, managers={"eth0": "NetworkManager"})
    assert "managed by NetworkManager" in refuse(OFFICE, network=host)["network.office"]


def plan_tap(network, nic=""):
    """The tap of a card on a network."""
    card = f'[vm.web]\nkernel = "k"\n[[vm.web.nic]]\nnetwork = "n"\n{nic}\n'
    (web,) = plan_text(f"[network.n]\n{network}\n{card}").machines.values()
    (tap,) = web.taps
    return tap


def test_a_card_is_as_its_network_says_and_as_it_says_itself():
    """Isolation, guards, size of frames, VLANs; limits in bytes."""
    tap = plan_tap("isolated_guests = true\nantispoof = true\nmtu = 9000")
    assert (tap.isolated, tap.antispoof, tap.mtu) == (True, True, 9000)
    assert tap.guard.ips == tap.ips
    tap = plan_tap("isolated_guests = true\nantispoof = true", "isolated = false\nlink = 'down'")
    assert (tap.isolated, tap.antispoof, tap.up) == (False, True, False)
    tap = plan_tap(
        "", "rate_in = '8Mbit'\nrate_out = { rate = '80kbit', burst = '1KiB' }\nqueues = 2"
    )
    assert (tap.rate_in, tap.rate_out) == (Rate(rate=1_000_000), Rate(rate=10_000, burst=1024))
    assert tap.queues == 2


def test_a_card_is_in_the_vlans_that_it_asks_for():
    """An access port or a trunk; else that of its network."""
    aware = "mode = 'bridge'\nuplink = 'eth0'\nvlan_filtering = true\nvlan = 5"
    assert plan_tap(aware).vlan == 5
    assert plan_tap(aware, "vlan = 10").vlan == 10
    tap = plan_tap(aware, "trunk = [10, 20]\nnative_vlan = 30")
    assert (tap.vlan, tap.trunk, tap.native) == (None, (10, 20), 30)
    problems = {
        "vm.web.nic[0].vlan": ("mode = 'nat'", "vlan = 10"),
        "vm.web.nic[0].trunk": ("mode = 'nat'", "trunk = [10]"),
        "vm.web.nic[0]": (aware, "vlan = 4095"),
    }
    for path, (network, nic) in problems.items():
        with pytest.raises(InputError) as caught:
            plan_tap(network, nic)
        assert [problem.path for problem in caught.value.problems] == [path]


def test_a_card_on_a_macvtap_network_sits_on_the_uplink():
    """Or on the uplink's sub-interface."""
    tap = plan_tap("mode = 'macvtap'\nuplink = 'eth0'\nmacvtap = 'vepa'")
    assert (tap.bridge, tap.uplink, tap.macvtap) == (None, "eth0", MacvtapMode.VEPA)
    assert tap.mac.startswith("52:54:00")
    assert plan_tap("mode = 'macvtap'\nuplink = 'eth0'\nvlan = 10").uplink == "eth0.10"
    assert plan_tap("mode = 'tap'").bridge is None


def test_a_network_that_is_up_is_not_rebuilt_under_its_machines():
    """Mode and uplink change only while it is down; modes of the same kind change at once."""
    old = plan("[network.a]\nsubnet = '10.9.0.0/24'\n")["a"]
    link = Link(index=9, name=old.bridge, up=True, kind="bridge", alias=old.mark.alias)
    up = attrs.evolve(NETWORK, links=(*NETWORK.links, link))
    defined = Defined(networks={"a": old})
    text = '[network.a]\nmode = "vlan"\nuplink = "eth0"\nvlan = 10\n'
    problems = refuse(text, network=up, defined=defined)
    assert problems.keys() == {f"network.a.{key}" for key in ("mode", "uplink", "vlan")}
    assert plan(text, defined=defined)["a"].mode is Mode.VLAN
    isolated = plan("[network.a]\nmode = 'isolated'\n", network=up, defined=defined)["a"]
    assert (isolated.mode, isolated.subnet) == (Mode.ISOLATED, old.subnet)


BRIDGE = 'mode = "bridge"\nuplink = "eth0"'
VLAN = 'mode = "vlan"\nuplink = "eth0"\nvlan = 10'
MACVTAP = 'mode = "macvtap"\nuplink = "eth0"'
PASSTHRU = f'{MACVTAP}\nmacvtap = "passthru"'


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (f'{BRIDGE}\nbridge = "b"', BRIDGE, "network a has eth0 already"),
        (BRIDGE, MACVTAP, "network a has eth0 already"),
        (MACVTAP, BRIDGE, "network a has eth0 already"),
        (MACVTAP, PASSTHRU, "network a has eth0 already"),
        (PASSTHRU, MACVTAP, "network a has eth0 already"),
        (VLAN, f'{VLAN}\nbridge = "b"', "network a has VLAN 10 of eth0 already"),
        (VLAN, f"{MACVTAP}\nvlan = 10", "network a has VLAN 10 of eth0 already"),
        (BRIDGE, VLAN, None),
        (VLAN, f"{MACVTAP}\nvlan = 20", None),
        (MACVTAP, MACVTAP, None),
        (MACVTAP, VLAN, None),
    ],
)
def test_an_uplink_that_is_taken_is_refused(one, other, message):
    """By a network of the same document, and by one that is defined already."""
    defined = Defined(networks=plan(f"[network.a]\n{one}\n"))
    text = f"[network.b]\n{other}\n"
    for tried, known in ((f"[network.a]\n{one}\n{text}", Defined()), (text, defined)):
        if message is None:
            assert "b" in plan(tried, defined=known)
        else:
            found = refuse(tried, defined=known)
            assert found == {"network.b.uplink": message}


def test_a_second_card_in_mode_passthru_is_refused():
    """The first one has the uplink to itself."""
    text = f'[network.a]\n{PASSTHRU}\n[vm.v]\nkernel = "k"\nnic = [{{ network = "a" }}]\n'
    assert plan(text)
    more = text + '[vm.w]\nkernel = "k"\nnic = [{ network = "a" }]\n'
    found = refuse(more)
    assert found == {
        "vm.w.nic[0].network": 'vm.v.nic[0] has eth0 to itself: macvtap = "passthru" takes one card'
    }
