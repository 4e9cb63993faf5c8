"""Addresses and routes on their way from one interface to another, decided without a kernel."""

import struct

import attrs
import pytest

from qorch_net.plan import Mark
from qorch_net.records import INET, INET6, AddressRecord, Ifa, RouteRecord, Rta
from qorch_net.uplink import (
    Note,
    Side,
    find_missing_addresses,
    find_missing_routes,
    find_removals,
)

FLAGS = 0x80 | 0x200  # permanent, noprefixroute


def number(value):
    """A u32 of netlink."""
    return struct.pack("=I", value)


def make_address(last, *, index=2, label=b"eth0\0", flags=0x80):
    """Make 10.0.0.LAST/24."""
    ip = bytes([10, 0, 0, last])
    attributes = (
        (Ifa.ADDRESS, ip),
        (Ifa.LOCAL, ip),
        (Ifa.LABEL, label),
        (Ifa.FLAGS, number(flags)),
    )
    return AddressRecord(index=index, family=INET, prefixlen=24, scope=0, attributes=attributes)


def make_route(*attributes, family=INET, scope=0, flags=0):
    """Make a unicast route of the main table."""
    return RouteRecord(
        family=family,
        dst_len=0,
        src_len=0,
        tos=0,
        protocol=3,
        scope=scope,
        type=1,
        flags=flags,
        attributes=((Rta.TABLE, number(254)), *attributes),
    )


def make_nexthop(index, gateway, *, hops=0):
    """Make one nexthop of several."""
    return struct.pack("=HBBiHH", 16, 0x11, hops, index, 8, Rta.GATEWAY) + gateway


GATEWAY = (Rta.GATEWAY, bytes([10, 0, 0, 1]))
DIRECT = make_route((Rta.OIF, number(2)), scope=253)
DEFAULT = make_route((Rta.OIF, number(2)), GATEWAY, flags=0x14)  # onlink, linkdown


def test_address_keeps_all_but_what_the_kernel_decides():
    """Flags of the kernel's own go, the label that was only the interface's name goes, too."""
    moved = make_address(7, flags=FLAGS | 0x01).move(9, "eth0")
    assert moved.index == 9
    assert moved.flags == 0x200
    assert moved.get(Ifa.LABEL) is None
    assert str(moved.ip) == "10.0.0.7/24"
    assert make_address(7, label=b"eth0:1\0").move(9, "eth0").get(Ifa.LABEL) == b"eth0:1\0"


def test_address_of_ipv6_asks_nobody_again():
    """No duplicate address detection: the host must not be without its address for a second."""
    ip = bytes.fromhex("fe80") + bytes(13) + b"\1"
    record = AddressRecord(
        index=2, family=INET6, prefixlen=64, scope=253, attributes=((Ifa.ADDRESS, ip),)
    )
    assert record.is_link_local
    assert record.move(9, "eth0").flags == 0x02


def test_route_leads_over_the_other_interface():
    """The interface changes; of the flags only `onlink` is not the kernel's."""
    moved = DEFAULT.move(2, 9)
    assert moved.indexes == (9,)
    assert moved.flags == 4
    assert moved.move(9, 2).identity == DEFAULT.identity


def test_route_with_a_lifetime_keeps_it():
    """The kernel tells it in ticks and wants it in seconds."""
    info = struct.pack("=IIiIIIII", 0, 0, 4200, 0, 0, 0, 0, 0)
    moved = attrs.evolve(DEFAULT, attributes=(*DEFAULT.attributes, (Rta.CACHEINFO, info)))
    assert moved.move(2, 9).get(Rta.EXPIRES) == number(42)
    assert moved.identity == DEFAULT.identity


@pytest.mark.parametrize("hops", [0, 2])
def test_nexthops_of_ipv6_are_routes_of_their_own(hops):
    """The kernel shows them as one route; weights are kept."""
    gateways = [bytes(15) + bytes([n]) for n in (1, 2)]
    both = b"".join(
        struct.pack("=HBBiHH", 28, 0, hops, index, 20, Rta.GATEWAY) + gateway
        for index, gateway in zip((2, 5), gateways, strict=True)
    )
    single = make_route((Rta.MULTIPATH, both), family=INET6).split()
    assert [route.indexes for route in single] == [(2,), (5,)]
    assert all(route.has_gateway for route in single)
    assert len({route.identity for route in single}) == 2


def test_nexthops_over_other_interfaces_stay():
    """Of several nexthops only those over the uplink lead over the bridge."""
    both = make_nexthop(2, bytes(4)) + make_nexthop(5, bytes(4), hops=3)
    route = make_route((Rta.MULTIPATH, both))
    assert route.split() == (route,)
    assert route.move(2, 9).indexes == (9, 5)
    assert route.move(2, 9).identity != route.identity
    assert route.move(2, 9).move(9, 2).identity == route.identity


def make_side(*, index=2, name="eth0", addresses=(), routes=()):
    """One side of a move."""
    return Side(index=index, name=name, addresses=addresses, routes=routes)


def test_only_what_is_missing_is_copied():
    """Whatever of a move was done before is not done again."""
    source = make_side(addresses=(make_address(7), make_address(8)), routes=(DEFAULT, DIRECT))
    target = make_side(
        index=9,
        name="br0",
        addresses=(make_address(7).move(9, "eth0"),),
        routes=(DIRECT.move(2, 9),),
    )
    assert [x.ip.ip.packed[3] for x in find_missing_addresses(source, target)] == [8]
    assert find_missing_routes(source, target) == (DEFAULT.move(2, 9),)


def test_routes_come_after_those_that_lead_to_their_gateways():
    """A gateway must be reachable when a route through it is made."""
    source = make_side(routes=(DEFAULT, DIRECT))
    missing = find_missing_routes(source, make_side(index=9, name="br0"))
    assert [route.has_gateway for route in missing] == [False, True]


def test_first_address_of_a_subnet_goes_last():
    """The kernel removes the others of the subnet with it."""
    source = make_side(addresses=(make_address(7), make_address(8)), routes=(DEFAULT,))
    routes, addresses = find_removals(source)
    assert [route.flags for route in routes] == [4]
    assert [x.ip.ip.packed[3] for x in addresses] == [8, 7]


@pytest.mark.parametrize(
    "note",
    [
        Note(uplink="eth0"),
        Note(uplink="enp1s0f0", mtu=1500),
        Note(uplink="e", down=True),
        Note(uplink="eth0.10", mtu=9000, down=True),
    ],
)
def test_note_is_read_back_from_the_alias(note):
    """And does not hide the mark that it follows."""
    mark = Mark("0123abcd", "network/office")
    alias = note.make_alias(mark)
    assert Note.from_alias(alias) == note
    assert alias.startswith(mark.alias + " ")
    assert Note.from_alias(mark.alias) is None
