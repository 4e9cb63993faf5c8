"""Guests (namespaces on a veth) that use a network: DHCP, DNS, the world, each other."""

import json
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
from net_guests import WEB, accept, ask_dhcp, connect, listen, plug, uplink

from qorch_net.dnsmasq import find_leases

pytestmark = pytest.mark.live


def test_dhcp_gives_the_fixed_lease_at_once(lab, tools):
    """The machine's name resolves before it boots; it gets its address well within 0.5 s."""
    plan = lab.make_plan(mtu=1400)
    lab.ensure(plan)
    assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150"
    guest = plug(lab, tools, plan, "guest")
    assert find_leases(lab.run_dir, "lan") == ()
    start = time.monotonic()
    told = ask_dhcp(lab, guest, "-O", "mtu")
    took = time.monotonic() - start
    assert told["ip"] == "192.168.133.150"
    assert told["router"] == told["dns"] == "192.168.133.1"
    assert (told["hostname"], told["domain"], told["mtu"]) == ("web", "lan", "1400")
    assert took < 2  # some 0.1 s on a quiet machine; dnsmasq's ping check alone would take 3 s
    with lab.inside(guest):
        assert tools.resolve("web.lan", "192.168.133.1") == "192.168.133.150"
        assert tools.resolve("web", "192.168.133.1") == "192.168.133.150"
        assert tools.resolve("nobody.lan", "192.168.133.1") is None
    (lease,) = find_leases(lab.run_dir, "lan")
    assert (lease.mac, str(lease.ip), lease.name) == (WEB, "192.168.133.150", "web")
    assert timedelta(minutes=59) < lease.expires - datetime.now(UTC) <= timedelta(hours=1)
    lab.remove()
    assert find_leases(lab.run_dir, "lan") == ()


def test_unknown_machine_gets_an_address_of_the_range(lab, tools):
    """A machine without a lease of its own is served too, never with a kept address."""
    plan = lab.make_plan()
    lab.ensure(plan)
    guest = plug(lab, tools, plan, "guest", mac="52:54:00:00:00:99")
    told = ask_dhcp(lab, guest)
    assert told["ip"] != "192.168.133.150"
    assert 100 <= int(told["ip"].rpartition(".")[2]) <= 199
    lab.remove()


def test_address_of_a_removed_machine_is_free_for_the_next(lab, tools):
    """An address kept for a new machine is its own, though the old one's lease has not ended."""
    lab.ensure(lab.make_plan())
    old = plug(lab, tools, lab.make_plan(), "old")
    assert ask_dhcp(lab, old)["ip"] == "192.168.133.150"
    tools.run("ip", "link", "del", "old")
    plan = lab.make_plan(leases=(tools.make_lease(2, "192.168.133.150", "new"),))
    lab.ensure(plan)
    new = plug(lab, tools, plan, "new", mac="52:54:00:00:00:02")
    assert ask_dhcp(lab, new)["ip"] == "192.168.133.150"
    lab.remove()


def test_world_sees_the_host_and_cannot_connect_in(lab, tools):
    """What leaves is masqueraded; nothing comes in unasked, though a route leads there."""
    plan = lab.make_plan()
    lab.ensure(plan)
    with uplink(lab, tools) as server:
        guest = plug(lab, tools, plan, "guest")
        ask_dhcp(lab, guest)
        with listen(lab, server) as socket_, connect(lab, guest, "10.99.0.2"):
            assert accept(socket_) == "10.99.0.1"
        with listen(lab, guest):
            with pytest.raises(TimeoutError):
                connect(lab, server, "192.168.133.150", seconds=0.5)
            connect(lab, guest, "192.168.133.150").close()
            # Without our table the same connection is made: it is the rules that stop it.
            tools.run("nft", "delete", "table", "inet", f"qorch-{lab.owner}")
            connect(lab, server, "192.168.133.150").close()
        lab.ensure(plan)
    lab.remove()
    tools.run("sysctl", "-qw", "net.ipv4.ip_forward=0")


def test_guests_reach_each_other_and_the_host(lab, tools):
    """On one network guests talk with their own addresses; the host reaches them too."""
    leases = (
        tools.make_lease(1, "192.168.133.150", "web"),
        tools.make_lease(2, "192.168.133.151", "db"),
    )
    plan = lab.make_plan(leases=leases)
    lab.ensure(plan)
    web, db = (plug(lab, tools, plan, x.name, mac=x.mac) for x in leases)
    for guest in (web, db):
        ask_dhcp(lab, guest)
    with listen(lab, db) as socket_:
        with connect(lab, web, "192.168.133.151"):
            assert accept(socket_) == "192.168.133.150"
        with socket.create_connection(("192.168.133.151", 80), timeout=5):
            assert accept(socket_) == "192.168.133.1"
    lab.remove()


def test_networks_are_closed_to_each_other(lab, tools):
    """A guest of one NAT network cannot connect into another, whichever came up first."""
    plans = [lab.make_plan(), lab.make_plan("dmz", 134)]
    guests = []
    for plan in plans:
        lab.ensure(plan)
        guests.append(plug(lab, tools, plan, plan.name))
        ask_dhcp(lab, guests[-1])
    for here, there, number in ((0, 1, 134), (1, 0, 133)):
        with listen(lab, guests[there]), pytest.raises(TimeoutError):
            connect(lab, guests[here], f"192.168.{number}.150", seconds=0.5)
    for plan in plans:
        lab.remove(plan.name)


def test_dns_answers_only_on_its_own_bridge(lab, tools):
    """A query for the gateway's address that arrives from elsewhere gets no answer."""
    lab.ensure(lab.make_plan())
    with uplink(lab, tools) as server, lab.inside(server):
        assert tools.run("ping", "-c1", "-W5", "192.168.133.1")
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            tools.resolve("web.lan", "192.168.133.1", seconds=0.5)
    lab.remove()


def test_host_takes_no_router_from_a_guest(lab, tools):
    """The host's side of the bridge has no IPv6 address, and drops what guests send there."""
    plan = lab.make_plan()
    lab.ensure(plan)
    guest = plug(lab, tools, plan, "guest")
    link = json.loads(tools.run("ip", "-j", "-6", "addr", "show", plan.bridge))
    assert [x for x in link if x.get("addr_info")] == []
    with lab.inside(guest):
        words = ["ping", "-6", "-c1", "-W1", "ff02::1%eth0"]
        assert subprocess.run(words, capture_output=True, check=False).returncode
    lab.remove()
