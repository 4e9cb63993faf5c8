"""What each mode lets through: guests, the host, and a server in another namespace."""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address, IPv6Interface
from pathlib import Path

import pytest
from net_guests import (
    WEB,
    accept,
    add_ipv6_uplink,
    ask_dhcp,
    ask_dhcp6,
    connect,
    listen,
    listen6,
    plug,
    settle,
    uplink,
)

from qorch_net.dnsmasq import find_leases
from qorch_net.plan import Dhcp6Range, Lease, Mode, PortForward, Transport
from qorch_net.rules import make_link_local

pytestmark = pytest.mark.live
WEB_IP, DB, DB_IP = "192.168.133.150", "52:54:00:00:00:02", "192.168.133.151"
FORWARDING6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")


def reaches(lab, there, here, address, port=80):
    """Connect from one namespace into another; the address that it came from, None if it fails."""
    with listen(lab, there, port) as listener:
        try:
            connect(lab, here, address, port, seconds=0.5).close()
        except (TimeoutError, OSError):
            return None
        return accept(listener)


@pytest.mark.parametrize("bridge_nf", [0, 1])
def test_two_guests_on_nat(lab, tools, bridge_nf):
    """They reach each other, the host and, masqueraded, the world; the world reaches a port only.

    The port leads in from the world, from the host by each of its addresses, from the other guest
    and from the guest that it leads to. The last one needs br_netfilter off: it translates before
    the bridge decides, which sends no frame back where it came from.
    """
    tools.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-iptables={bridge_nf}")
    forward = PortForward(host_port=8080, port=80, ip=IPv4Address(WEB_IP))
    plan = lab.make_plan(forwards=(forward,))
    lab.ensure(plan)
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    settle(lab, tools, web, f"{WEB_IP}/24")
    settle(lab, tools, db, f"{DB_IP}/24")
    with uplink(lab, tools) as server:
        assert reaches(lab, db, web, DB_IP) == WEB_IP
        assert reaches(lab, server, web, "10.99.0.2") == "10.99.0.1"
        assert reaches(lab, web, server, WEB_IP) is None
        with listen(lab, web) as listener:
            for guest, address, source in (
                (server, "10.99.0.1", "10.99.0.2"),
                (db, "10.99.0.1", "192.168.133.1"),
                (db, "192.168.133.1", "192.168.133.1"),
                *([(web, "10.99.0.1", "192.168.133.1")] if not bridge_nf else []),
            ):
                connect(lab, guest, address, 8080).close()
                assert accept(listener) == source
            for address in ("127.0.0.1", "10.99.0.1", "192.168.133.1"):
                socket.create_connection((address, 8080), timeout=5).close()
                assert accept(listener) in {"192.168.133.1", "10.99.0.1"}
        with socket.create_server(("127.0.0.1", 9000)), pytest.raises(OSError):
            connect(lab, web, "127.0.0.1", 9000, seconds=0.5)
    lab.remove()


def test_guests_reach_no_loopback_of_the_host(lab, tools):
    """Forwarding from 127.0.0.1 opens the host's loopback services to nobody."""
    forward = PortForward(host_port=8080, port=80, name="web")
    plan = lab.make_plan(forwards=(forward,))
    lab.ensure(plan)
    web = plug(lab, tools, plan, "web")
    settle(lab, tools, web, f"{WEB_IP}/24")
    with lab.inside(web):
        tools.run("ip", "link", "set", "lo", "down")
        tools.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        tools.run("ip", "route", "add", "127.0.0.7", "via", "192.168.133.1")
    with socket.create_server(("127.0.0.7", 9000)):
        with pytest.raises(TimeoutError):
            connect(lab, web, "127.0.0.7", 9000, seconds=0.5)
        # Without our rules the same connection is made.
        tools.run("nft", "flush", "chain", "inet", f"qorch-{lab.owner}", "input")
        connect(lab, web, "127.0.0.7", 9000).close()
    lab.remove()


def test_forwarded_udp_port(lab, tools):
    """UDP, several ports in a row."""
    forward = PortForward(host_port=5000, port=6000, name="web", count=3, proto=Transport.UDP)
    plan = lab.make_plan(forwards=(forward,))
    lab.ensure(plan)
    web = plug(lab, tools, plan, "web")
    settle(lab, tools, web, f"{WEB_IP}/24")
    with uplink(lab, tools) as server:
        with lab.inside(web):
            inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            inside.bind(("", 6002))
        with lab.inside(server):
            outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with inside, outside:
            for sock in (inside, outside):
                sock.settimeout(5)
            outside.sendto(b"ping", ("10.99.0.1", 5002))
            data, peer = inside.recvfrom(64)
            inside.sendto(data, peer)
            assert outside.recvfrom(64) == (b"ping", ("10.99.0.1", 5002))
    lab.remove()


def test_forwarded_port_follows_its_machine(lab, tools):
    """Forwards of a machine that is not there lead nowhere until it is."""
    forward = PortForward(host_port=8080, port=80, name="web")
    lab.ensure(lab.make_plan(forwards=(forward,), leases=()))
    assert "dnat ip to" not in lab.look()["rules"]
    lab.ensure(lab.make_plan(forwards=(forward,)))
    assert f"dnat ip to {WEB_IP}:80" in lab.look()["rules"]
    lab.remove()


def test_forwarded_port_over_ipv6(lab, tools):
    """From the world, from the host, from a neighbour and from the guest itself."""
    tools.run("sysctl", "-qw", "net.bridge.bridge-nf-call-ip6tables=0")
    lease = Lease(mac=WEB, ip=IPv4Address(WEB_IP), ip6=IPv6Address("fd00:133::5"), name="web")
    forwards = (PortForward(host_port=8080, port=80, name="web"),)
    gateway6 = IPv6Interface("fd00:133::1/64")
    plan = lab.make_plan(gateway6=gateway6, leases=(lease,), forwards=forwards)
    lab.ensure(plan)
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    settle(lab, tools, web, f"{WEB_IP}/24", "fd00:133::5/64")
    settle(lab, tools, db, f"{DB_IP}/24", "fd00:133::6/64")
    with uplink(lab, tools) as server, listen6(lab, web) as listener:
        add_ipv6_uplink(lab, tools, server)
        for here in (server, web, db):
            connect(lab, here, "fd99::1", 8080).close()
            assert accept(listener) == ("fd99::2" if here is server else "fd00:133::1")
        socket.create_connection(("fd99::1", 8080), timeout=5).close()
        accept(listener)
    lab.remove()


def test_routed_network(lab, tools):
    """Both sides open connections, with their own addresses."""
    plan = lab.make_plan(mode=Mode.ROUTE)
    lab.ensure(plan)
    web = plug(lab, tools, plan, "web")
    settle(lab, tools, web, f"{WEB_IP}/24")
    with uplink(lab, tools) as server:
        assert reaches(lab, server, web, "10.99.0.2") == WEB_IP
        assert reaches(lab, web, server, WEB_IP) == "10.99.0.2"
    lab.remove()


def test_isolated_network(lab, tools):
    """Guests reach each other and the host, nothing else; forwarding stays off."""
    plan = lab.make_plan(mode=Mode.ISOLATED)
    lab.ensure(plan)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    told = ask_dhcp(lab, web)
    assert (told["ip"], told.get("router")) == (WEB_IP, None)
    settle(lab, tools, web)
    settle(lab, tools, db, f"{DB_IP}/24")
    with lab.inside(web):
        tools.run("ip", "route", "add", "default", "via", "192.168.133.1")
    tools.run("sysctl", "-qw", "net.ipv4.ip_forward=1")  # somebody else routes
    with uplink(lab, tools) as server:
        assert reaches(lab, db, web, DB_IP) == WEB_IP
        with socket.create_server(("192.168.133.1", 80)) as listener:
            connect(lab, web, "192.168.133.1").close()
            assert accept(listener) == WEB_IP
        assert reaches(lab, server, web, "10.99.0.2") is None
        assert reaches(lab, web, server, WEB_IP) is None
    tools.run("sysctl", "-qw", "net.ipv4.ip_forward=0")
    lab.remove()


@pytest.mark.parametrize("first", ["lan", "dmz"])
def test_reach(lab, tools, first):
    """Who may reach a network does, with its own address, and not the other way round.

    Whichever comes up first.
    """
    dmz = lab.make_plan("dmz", 134, mode=Mode.ISOLATED)
    lan = lab.make_plan(reach=(dmz.bridge,))
    plans = {"lan": lan, "dmz": dmz}
    for name in (first, *(plans.keys() - {first})):
        lab.ensure(plans[name])
    web, db = plug(lab, tools, lan, "web"), plug(lab, tools, dmz, "db", mac=DB)
    settle(lab, tools, web, f"{WEB_IP}/24")
    settle(lab, tools, db, "192.168.134.150/24")
    assert reaches(lab, db, web, "192.168.134.150") == WEB_IP
    assert reaches(lab, web, db, WEB_IP) is None
    lab.remove("dmz")
    lab.remove()


def test_isolated_guests(lab, tools):
    """Guests on isolated ports do not reach each other, neither directly nor by the host."""
    plan = lab.make_plan(isolated_guests=True)
    lab.ensure(plan)
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    for name in ("web", "db"):
        tools.run("bridge", "link", "set", "dev", name, "isolated", "on")
    settle(lab, tools, web, f"{WEB_IP}/24")
    settle(lab, tools, db, f"{DB_IP}/24")
    assert reaches(lab, db, web, DB_IP) is None
    for guest in (web, db):
        with lab.inside(guest):
            tools.run("ip", "route", "replace", "192.168.133.1", "dev", "eth0")
            tools.run("ip", "route", "replace", "192.168.133.0/24", "via", "192.168.133.1")
    assert reaches(lab, db, web, DB_IP) is None
    with uplink(lab, tools) as server:
        assert reaches(lab, server, web, "10.99.0.2") == "10.99.0.1"
    lab.remove()


def test_nat66(lab, tools):
    """IPv6 leaves with the host's address, comes in as answers only, and ends with the network."""
    plan = lab.make_plan(gateway6=IPv6Interface("fd00:133::1/64"))
    lab.ensure(plan)
    assert FORWARDING6.read_text() == "1\n"
    web = plug(lab, tools, plan, "web")
    settle(lab, tools, web, "fd00:133::5/64")
    with uplink(lab, tools) as server:
        add_ipv6_uplink(lab, tools, server)
        with listen6(lab, server) as listener:
            connect(lab, web, "fd99::2").close()
            assert accept(listener) == "fd99::1"
        with listen6(lab, web), pytest.raises(TimeoutError):
            connect(lab, server, "fd00:133::5", seconds=0.5)
    lab.remove()
    assert FORWARDING6.read_text() == "0\n"


def test_ipv6_only(lab, tools):
    """A network may have no IPv4 at all; a guest asks by DHCPv6 for the address kept for it."""
    gateway, planned = IPv6Interface("fd00:133::1/64"), IPv6Address("fd00:133::50")
    plan = lab.make_plan(
        gateway=None,
        dhcp=None,
        gateway6=gateway,
        dhcp6=Dhcp6Range(start=gateway.ip + 0x100, end=gateway.ip + 0x1FF),
        leases=(Lease(mac=WEB, ip6=planned, name="web"),),
        ra=True,
    )
    lab.ensure(plan)
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == "0\n"
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    assert ask_dhcp6(lab, tools, web) == str(planned)
    other = IPv6Address(ask_dhcp6(lab, tools, db))
    assert other in plan.dhcp6
    leases = {lease.ip: lease.name for lease in find_leases(lab.run_dir, "lan")}
    assert leases[planned] == "web"
    assert other in leases
    with lab.inside(web):
        # Metric 1: the kernel makes one of its own when it hears of the router.
        route = f"route add default via {gateway.ip} dev eth0 onlink metric 1"
        tools.run("ip", *route.split())
        tools.run("ping", "-c1", "-W10", str(gateway.ip))
    with uplink(lab, tools) as server:
        add_ipv6_uplink(lab, tools, server)
        with listen6(lab, server) as listener:
            connect(lab, web, "fd99::2", seconds=30).close()
            assert accept(listener) == "fd99::1"
    lab.remove()


def test_guest_is_told_how_to_make_itself_an_address(lab, tools):
    """A guest that asks for routers hears the prefix, with the flag to use it, and who answers."""
    plan = lab.make_plan(gateway6=IPv6Interface("fd00:133::1/64"), ra=True)
    lab.ensure(plan)
    web = plug(lab, tools, plan, "web")
    with lab.inside(web):
        tools.run("ip", "addr", "add", "fe80::5/64", "dev", "eth0", "nodad")
        sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        scope = socket.if_nametoindex("eth0")
    with sock:
        sock.settimeout(30)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sock.sendto(struct.pack("!BBHI", 133, 0, 0, 0), ("ff02::2", 0, 0, scope))
        while (answer := sock.recvfrom(1500))[0][0] != 134:
            pass
    data, (router, *_) = answer
    assert router.startswith(str(make_link_local(plan.mac)))
    prefix = data.index(bytes([3, 4, 64]))  # RFC 4861, 4.6.2: 64 bits, on link and autonomous
    assert data[prefix + 3] & 0x40
    assert IPv6Address(data[prefix + 16 : prefix + 32]) == IPv6Address("fd00:133::")
    assert int.from_bytes(data[6:8]) > 0  # a default router
    lab.remove()


def test_host_keeps_its_own_router(lab, tools):
    """A default route that the host learned by IPv6 stays when it forwards, and goes on being told.

    The interface listens to routers all the same, and is told so only as long as it has to be.
    """
    accept_ra = Path("/proc/sys/net/ipv6/conf/uplink/accept_ra")
    with uplink(lab, tools) as server:
        add_ipv6_uplink(lab, tools, server)
        tools.run("ip", "-6", "route", "add", "default", "via", "fd99::2", "proto", "ra")
        plan = lab.make_plan(gateway6=IPv6Interface("fd00:133::1/64"))
        before = accept_ra.read_text()
        lab.ensure(plan)
        assert "fd99::2" in tools.run("ip", "-6", "route", "show", "default")
        lab.remove()
        assert accept_ra.read_text() == before
