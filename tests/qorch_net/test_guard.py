"""Anti-spoofing on a real bridge: what a guest sends as somebody else is not captured behind it."""

import socket
import struct
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address, IPv6Interface

import attrs
import pytest
from net_guests import WEB, ask_dhcp, plug, settle

from qorch_net.netlink.nft import find_ruleset
from qorch_net.network import apply_rules
from qorch_net.plan import Guard, Lease
from qorch_net.rules import make_link_local

pytestmark = pytest.mark.live
DB = "52:54:00:00:00:02"
IP, IP6 = IPv4Address("192.168.133.150"), IPv6Address("fd00:133::5")
OTHER, OTHER6 = IPv4Address("192.168.133.77"), IPv6Address("fd00:133::77")
ANY, ANY6 = IPv4Address("0.0.0.0"), IPv6Address("::")  # noqa: S104
LL = make_link_local(WEB)
PRIVATE, PRIVATE6 = IPv6Address("fe80::1234:5678:9abc:def0"), IPv6Address("fd00:133::9abc:1:2:3")
BROADCAST = "ff:ff:ff:ff:ff:ff"
ETH_P_ALL = 3
UDP, ICMPV6 = 17, 58
DATAGRAM = struct.pack("!HHHH", 1000, 1000, 8, 1)


def frame(kind, payload, *, source=WEB):
    """An Ethernet frame for everybody."""
    macs = bytes.fromhex((BROADCAST + source).replace(":", ""))
    return macs + struct.pack("!H", kind) + payload


def arp(mac=WEB, ip=IP, **options):
    """A question of ours for 192.168.133.1."""
    sender = bytes.fromhex(mac.replace(":", "")) + ip.packed
    target = bytes(6) + IPv4Address("192.168.133.1").packed
    return frame(0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + sender + target, **options)


def udp(source=IP, ports=(1000, 1000), **options):
    """A datagram to everybody."""
    header = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, UDP, 0)
    header += source.packed + IPv4Address("255.255.255.255").packed
    total = sum(struct.unpack("!10H", header))
    checksum = 0xFFFF - (total % 0xFFFF)
    header = header[:10] + struct.pack("!H", checksum) + header[12:]
    return frame(0x0800, header + struct.pack("!HHHH", *ports, 8, 0), **options)


def ipv6(source=LL, protocol=UDP, payload=DATAGRAM, **options):
    """An IPv6 packet to all nodes."""
    header = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255)
    return frame(
        0x86DD, header + source.packed + IPv6Address("ff02::1").packed + payload, **options
    )


def icmpv6(kind, source=LL, target=LL, **options):
    """A message of neighbour discovery."""
    payload = struct.pack("!BBHI", kind, 0, 0, 0) + target.packed
    return ipv6(source, ICMPV6, payload, **options)


GOOD = {
    "arp": arp(),
    "arp probe": arp(ip=ANY),
    "ipv4": udp(),
    "dhcp": udp(ANY, (68, 67)),
    "ipv6 link-local": ipv6(),
    "ipv6 planned": ipv6(IP6),
    "ipv6 slaac": ipv6(IPv6Address("fd00:133::5054:ff:fe00:1")),
    "ipv6 private": ipv6(PRIVATE6),
    "ipv6 private link-local": ipv6(PRIVATE),
    "dad": icmpv6(135, ANY6),
    "neighbour": icmpv6(136),
    "neighbour planned": icmpv6(136, IP6, IP6),
    "neighbour private": icmpv6(136, PRIVATE, PRIVATE6),
    "router wanted": icmpv6(133),
    "rarp": frame(0x8035, bytes(28)),
}
BAD = {
    "mac": udp(source=IP)[:6] + bytes.fromhex(DB.replace(":", "")) + udp()[12:],
    "arp mac": arp(mac=DB),
    "arp ip": arp(ip=OTHER),
    "ipv4": udp(OTHER),
    "ipv4 nobody": udp(ANY),
    "dhcp server": udp(ports=(67, 68)),
    "ipv6": ipv6(OTHER6),
    "ipv6 gateway": ipv6(IPv6Address("fd00:133::1")),
    "ipv6 elsewhere": ipv6(IPv6Address("fd00:134::5")),
    "ipv6 nobody": ipv6(ANY6),
    "neighbour": icmpv6(136, target=OTHER6),
    "router": icmpv6(134),
    "redirect": icmpv6(137),
    "dhcpv6 server": ipv6(payload=struct.pack("!HHHH", 547, 546, 8, 1)),
    "bpdu": frame(0x0027, b"\x42\x42\x03" + bytes(40)),
    "other": frame(0x88B5, bytes(46)),
}


@contextmanager
def capture(lab, namespace):
    """Everything that arrives at a guest's card."""
    with lab.inside(namespace):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        sock.bind(("eth0", ETH_P_ALL))
    with sock:
        sock.settimeout(10)
        yield sock


def send(lab, namespace, data):
    """Send a frame as it is."""
    with lab.inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind(("eth0", 0))
        sock.send(data)


def arrives(lab, guest, watcher, data):
    """Whether a frame comes through, seen before the mark that is sent after it and always does."""
    mark = arp(ip=ANY) + b"mark"
    with capture(lab, watcher) as sock:
        send(lab, guest, data)
        send(lab, guest, mark)
        seen = []
        while not seen or not seen[-1].endswith(b"mark"):
            seen.append(sock.recv(1500))
    return any(data.rstrip(b"\0") in found for found in seen[:-1])


def make_guarded(lab, **changes):
    """A network whose guest `web` is guarded."""
    guard = Guard(tap="web", mac=WEB, ips=(IP, IP6))
    lease = Lease(mac=DB, name="db", ip6=OTHER6)
    values = {"gateway6": IPv6Interface("fd00:133::1/64"), "ra": True, "guards": (guard,)}
    values["leases"] = (*lab.make_plan().leases, lease)
    return lab.make_plan(**{**values, **changes})


def test_spoofed_frames_are_dropped(lab, tools):
    """What is the guest's own passes; a foreign MAC, ARP, IPv4, IPv6, DHCP server or router not.

    Neither to another guest nor to the host; and without the guard all of it would.
    """
    plan = make_guarded(lab)
    lab.ensure(plan)
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    assert {name for name, data in GOOD.items() if not arrives(lab, web, db, data)} == set()
    assert {name for name, data in BAD.items() if arrives(lab, web, db, data)} == set()
    assert all(arrives(lab, db, web, data) for data in (BAD["router"], BAD["dhcp server"]))
    lab.ensure(attrs.evolve(plan, guards=()))
    late = {name for name, data in BAD.items() if not arrives(lab, web, db, data)}
    assert late <= {"bpdu"}  # a bridge keeps those to itself
    lab.remove()


def test_guarded_guest_works(lab, tools):
    """DHCP, ARP and neighbour discovery of a guarded guest pass: it reaches the host."""
    plan = make_guarded(lab)
    lab.ensure(plan)
    web = plug(lab, tools, plan, "web")
    assert ask_dhcp(lab, web)["ip"] == str(IP)
    settle(lab, tools, web, f"{IP6}/64")
    with lab.inside(web):
        tools.run("ping", "-c1", "-W5", "192.168.133.1")
        tools.run("ping", "-c1", "-W5", "fd00:133::1")
    lab.remove()


def test_guard_without_planned_addresses(lab, tools):
    """Where no address is planned any passes, but not from another MAC."""
    plan = make_guarded(lab, guards=(Guard(tap="web", mac=WEB),))
    lab.ensure(plan)
    web, db = plug(lab, tools, plan, "web"), plug(lab, tools, plan, "db", mac=DB)
    passing = {name for name, data in BAD.items() if arrives(lab, web, db, data)}
    assert passing == {
        "arp ip",
        "ipv4",
        "ipv4 nobody",
        "ipv6",
        "ipv6 gateway",
        "ipv6 elsewhere",
        "ipv6 nobody",
        "neighbour",
    }
    lab.remove()


def test_guards_come_and_go_by_themselves(lab, tools):
    """A changed guard is replaced, others stay as they are; with the last the table goes."""
    web = Guard(tap="web", mac=WEB, ips=(IP,))
    db = Guard(tap="db", mac=DB, ips=(OTHER,))
    lab.ensure(make_guarded(lab, guards=(web, db)))
    lab.ensure(lab.make_plan("dmz", 134, guards=(attrs.evolve(db, tap="dmz0"),)))
    names = {guard.tap: guard.name for guard in find_ruleset(lab.owner).ours.guards}
    assert names.keys() == {"web", "db", "dmz0"}
    steps = []
    changed = attrs.evolve(web, ips=(OTHER,))
    lab.ensure(make_guarded(lab, guards=(changed, db)), report=steps.append)
    assert steps == ["rules"]
    after = {guard.tap: guard.name for guard in find_ruleset(lab.owner).ours.guards}
    assert {tap for tap in names if names[tap] != after[tap]} == {"web"}
    lab.ensure(make_guarded(lab, guards=(db,)))
    assert {guard.tap for guard in find_ruleset(lab.owner).ours.guards} == {"db", "dmz0"}
    lab.remove()
    assert "table bridge" in tools.run("nft", "list", "tables")
    lab.ensure(lab.make_plan("dmz", 134))
    assert "table bridge" not in tools.run("nft", "list", "tables")
    lab.remove("dmz")


def test_card_that_changes_its_network_takes_its_guard_along(lab):
    """A tap has one guard, that of the network that had it last."""
    guard = Guard(tap="web", mac=WEB, ips=(IP,))
    lab.ensure(make_guarded(lab, guards=(guard,)))
    lab.ensure(lab.make_plan("dmz", 134, guards=(guard,)))
    assert {x.network for x in find_ruleset(lab.owner).ours.guards} == {"dmz"}
    lab.remove("dmz")
    lab.remove()


def test_failure_puts_the_old_guards_back(lab, tools):
    """A call that fails leaves the guards as they were, rule by rule."""
    lab.ensure(make_guarded(lab))
    before = lab.look()

    def fail(step):
        if step == "dnsmasq":
            raise ValueError(step)

    other = Guard(tap="web", mac=DB)
    with pytest.raises(ValueError, match="dnsmasq"):
        lab.ensure(make_guarded(lab, guards=(other,), domain="other"), report=fail)
    assert lab.look() == before
    lab.remove()


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table bridge {table}",
        "flush table bridge {table}",
        "flush chain bridge {table} prerouting",
        "flush map bridge {table} guards",
        "add rule bridge {table} prerouting accept",
    ],
)
def test_guards_are_repaired(lab, tools, command):
    """Whatever somebody did to the guards, a repair puts them back; then there is nothing to do."""
    plan = make_guarded(lab)
    lab.ensure(plan)
    before = lab.look()
    right = apply_rules(lab.owner, [plan])
    assert (right.done, len(right.notes)) == ((), 2)
    tools.run("nft", *command.format(table=f"qorch-{lab.owner}").split())
    assert lab.look() != before
    assert "guards" in apply_rules(lab.owner, [plan], notes=right.notes).done
    after = lab.look()
    assert sorted(after.pop("rules").split()) == sorted(before.pop("rules").split())
    assert after == before
    assert apply_rules(lab.owner, [plan]) == right
    lab.remove()
