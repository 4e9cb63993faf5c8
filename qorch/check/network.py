"""Networks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import combinations

from qorch.errors import Problem
from qorch.spec import NetworkSpec, Spec
from qorch.spec.network import Dhcp6Spec, DhcpSpec, ForwardSpec
from qorch_net.plan import Mode

_MAX_INTERFACE_NAME = 15  # IFNAMSIZ less the final NUL
_VLANS = range(1, 4095)
_PORTS = range(1, 1 << 16)
_SERVED = (
    *("subnet", "gateway", "subnet6", "gateway6", "dhcp", "dhcp6", "ra", "domain", "dns"),
    *("forwards", "reach"),
)
_WITH_UPLINK = (Mode.BRIDGE, Mode.VLAN, Mode.MACVTAP)
_WITHOUT_BRIDGE = (Mode.MACVTAP, Mode.TAP)


def find_network_problems(network: NetworkSpec) -> Iterator[Problem]:
    """What is wrong with a network."""
    yield from _interfaces(network)
    yield from _vlans(network)
    yield from _timing(network)
    if network.mode.is_served:
        yield from _served(network)
        return
    for field in _SERVED:
        if getattr(network, field):
            key = "forward" if field == "forwards" else field
            yield Problem(
                f".{key}",
                f"means nothing in mode {network.mode.value}: the host has no part in the network",
                "the modes nat, route and isolated have",
            )


def _interfaces(network: NetworkSpec) -> Iterator[Problem]:
    for key in ("bridge", "uplink"):
        if (name := getattr(network, key)) is not None:
            yield from _interface_name(f".{key}", name)
    mode = network.mode
    if network.uplink is not None and mode not in _WITH_UPLINK:
        yield Problem(".uplink", f"means nothing in mode {mode.value}", "mode bridge or vlan has")
    if mode in (Mode.VLAN, Mode.MACVTAP) and network.uplink is None:
        yield Problem(".uplink", f"mode {mode.value} needs one", 'uplink = "eth0", for example')
    if mode is Mode.BRIDGE and network.uplink is None and network.bridge is None:
        yield Problem(
            ".bridge",
            "mode bridge needs the name of a bridge, or an uplink to make one around",
            'bridge = "br0", or uplink = "eth0", for example',
        )
    if network.bridge is not None and mode in _WITHOUT_BRIDGE:
        yield Problem(".bridge", f"mode {mode.value} has none", "leave it out")
    if network.uplink is not None and network.uplink == network.bridge:
        yield Problem(".bridge", "cannot be called as its uplink is", "choose another name")
    if network.mtu is not None and not 576 <= network.mtu < 1 << 16:
        yield Problem(".mtu", f"{network.mtu} is not possible", "576 to 65535; 9000 is jumbo")


def _interface_name(path: str, name: str) -> Iterator[Problem]:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        yield Problem(
            path, f"{name!r} is no interface name", "up to 15 characters, without spaces and '/'"
        )
    elif len(name) > _MAX_INTERFACE_NAME:
        yield Problem(
            path,
            f"{name!r} is longer than an interface name can be",
            f"use at most {_MAX_INTERFACE_NAME} characters",
        )


def _vlans(network: NetworkSpec) -> Iterator[Problem]:
    mode = network.mode
    if network.vlan is None and mode is Mode.VLAN:
        yield Problem(".vlan", "mode vlan needs the number of its VLAN", "vlan = 10, for example")
    if network.vlan is not None and mode not in _WITH_UPLINK:
        yield Problem(".vlan", f"means nothing in mode {mode.value}", "mode vlan has one")
    if network.vlan is not None:
        yield from _vlan(".vlan", network.vlan)
    for index, vlan in enumerate(network.trunk):
        yield from _vlan(f".trunk[{index}]", vlan)
    if network.vlan_filtering and (mode in _WITHOUT_BRIDGE or mode is Mode.VLAN):
        yield Problem(
            ".vlan_filtering",
            f"means nothing in mode {mode.value}",
            'a VLAN-aware bridge has mode = "bridge"',
        )
    if network.trunk and not (network.vlan_filtering and network.uplink):
        yield Problem(
            ".trunk",
            "is for the uplink of a VLAN-aware bridge",
            "give vlan_filtering = true and an uplink",
        )


def _vlan(path: str, vlan: int) -> Iterator[Problem]:
    if vlan not in _VLANS:
        yield Problem(path, f"there is no VLAN {vlan}", "VLANs have numbers from 1 to 4094")


def _timing(network: NetworkSpec) -> Iterator[Problem]:
    delay = network.forward_delay
    if delay is None:
        return
    if not network.stp:
        yield Problem(".forward_delay", "goes with spanning tree", "give stp = true, too")
    elif not 2 <= delay <= 30:
        yield Problem(".forward_delay", f"{delay} is not possible", "the kernel takes 2s to 30s")


def _served(network: NetworkSpec) -> Iterator[Problem]:
    if network.subnet is not None:
        yield from _subnet(network, network.subnet)
    elif network.gateway is not None or (network.dhcp and network.dhcp.start):
        key = "gateway" if network.gateway is not None else "dhcp"
        yield Problem(f".{key}", "goes with a subnet", "give subnet = …, too")
    yield from _dhcp(network.dhcp)
    yield from _subnet6(network)
    if network.forwards and network.mode is not Mode.NAT:
        yield Problem(".forward", "means nothing but in mode nat", "guests are reached directly")
    for index, forward in enumerate(network.forwards):
        for problem in (*_forward(forward), *_target(network, forward)):
            yield Problem(f".forward[{index}]{problem.path}", problem.message, problem.hint)


def _subnet(network: NetworkSpec, subnet: IPv4Network) -> Iterator[Problem]:
    if subnet.is_multicast or subnet.is_reserved or subnet.is_unspecified:
        yield Problem(".subnet", f"{subnet} is not for hosts", "take one of 192.168.0.0/16")
    if subnet.prefixlen > 30:
        yield Problem(".subnet", f"{subnet} has no room for a guest", "a /24 has room for 253")
    ends = {"dhcp.start": network.dhcp.start, "dhcp.end": network.dhcp.end} if network.dhcp else {}
    for key, address in {"gateway": network.gateway, **ends}.items():
        if address is not None and not _is_host(address, subnet):
            yield Problem(
                f".{key}",
                f"{address} is no host address of {subnet}",
                "choose one within it, neither its first nor its last",
            )


def _is_host(address: IPv4Address, subnet: IPv4Network) -> bool:
    return subnet.network_address < address < subnet.broadcast_address


def _dhcp(dhcp: DhcpSpec | None) -> Iterator[Problem]:
    if dhcp is None:
        return
    if (dhcp.start is None) != (dhcp.end is None):
        yield Problem(".dhcp", "needs both ends of its range", "give start and end, or neither")
    elif dhcp.start and dhcp.end and dhcp.start > dhcp.end:
        yield Problem(".dhcp", f"{dhcp.start} comes after {dhcp.end}", "start = the smaller one")


def _subnet6(network: NetworkSpec) -> Iterator[Problem]:
    subnet, dhcp = network.subnet6, network.dhcp6
    if subnet is None:
        for key in ("gateway6", "dhcp6", "ra"):
            if getattr(network, key):
                yield Problem(f".{key}", "goes with an IPv6 subnet", "give subnet6 = …, too")
        return
    yield from _kind6(subnet)
    if subnet.prefixlen > 126:
        yield Problem(".subnet6", f"{subnet} has no room for a guest", "/64 is usual")
    if network.ra is not False and subnet.prefixlen != 64:
        yield Problem(
            ".subnet6",
            f"guests make themselves addresses in a /64 only, not in {subnet}",
            "take a /64, or give ra = false",
        )
    ends: dict[str, IPv6Address | None] = {"gateway6": network.gateway6}
    if isinstance(dhcp, Dhcp6Spec):
        ends |= {"dhcp6.start": dhcp.start, "dhcp6.end": dhcp.end}
        if dhcp.start > dhcp.end:
            yield Problem(
                ".dhcp6", f"{dhcp.start} comes after {dhcp.end}", "start = the smaller one"
            )
    for key, address in ends.items():
        if address is not None and address not in subnet:
            yield Problem(f".{key}", f"{address} is no address of {subnet}", "choose one within it")


def _kind6(subnet: IPv6Network) -> Iterator[Problem]:
    if subnet.is_multicast or subnet.is_link_local or subnet.is_loopback or subnet.is_unspecified:
        yield Problem(".subnet6", f"{subnet} is not for hosts", "take one of fd00::/8")


def _forward(forward: ForwardSpec) -> Iterator[Problem]:
    if (forward.vm is None) == (forward.ip is None):
        yield Problem("", "leads to a machine or an address: one of them", 'vm = "web" or ip = …')
    for key in ("host_port", "port"):
        port = getattr(forward, key)
        if port is not None and port not in _PORTS:
            yield Problem(f".{key}", f"there is no port {port}", "1 to 65535")
    first = max(forward.host_port, forward.port or 0)
    if forward.count < 1:
        yield Problem(".count", f"{forward.count} ports are not possible", "1 or more")
    elif first in _PORTS and first + forward.count - 1 not in _PORTS:
        yield Problem(
            ".count",
            f"{forward.count} ports from {first} on are not possible",
            f"{_PORTS.stop - first} at most: ports have numbers up to 65535",
        )


def _target(network: NetworkSpec, forward: ForwardSpec) -> Iterator[Problem]:
    subnet, ip = network.subnet, forward.ip
    if subnet is None or ip is None:
        return
    if not _is_host(ip, subnet):
        yield Problem(".ip", f"{ip} is no host address of {subnet}", "a guest of this network")
    elif ip == (network.gateway or subnet.network_address + 1):
        yield Problem(".ip", f"{ip} is the host itself", "a guest of this network")


def find_overlapping_subnets(spec: Spec) -> Iterator[Problem]:
    """Networks of one document that want the same addresses, or the same bridge."""
    for name, network in spec.networks.items():
        if name in network.reach:
            index = network.reach.index(name)
            yield Problem(
                f"network.{name}.reach[{index}]",
                "is the network itself",
                "its guests reach each other anyway, unless isolated_guests = true",
            )
    for (one, first), (other, second) in combinations(spec.networks.items(), 2):
        if first.subnet and second.subnet and first.subnet.overlaps(second.subnet):
            yield Problem(
                f"network.{other}.subnet",
                f"{second.subnet} overlaps {first.subnet} of network {one}",
                "give one of them another subnet",
            )
        if first.subnet6 and second.subnet6 and first.subnet6.overlaps(second.subnet6):
            yield Problem(
                f"network.{other}.subnet6",
                f"{second.subnet6} overlaps {first.subnet6} of network {one}",
                "give one of them another subnet",
            )
        if first.bridge and first.bridge == second.bridge and _owns(first) and _owns(second):
            yield Problem(
                f"network.{other}.bridge",
                f"is the bridge of network {one} already",
                "give each network its own",
            )


def _owns(network: NetworkSpec) -> bool:
    """Whether its bridge is made for it."""
    return network.mode is not Mode.BRIDGE or network.uplink is not None
