"""Whether a plan fits a host, decided without one."""

from ipaddress import IPv4Interface, IPv4Network

import attrs
import pytest

from qorch_net.check import check_network
from qorch_net.errors import NetError
from qorch_net.host import Address, HostNetwork, Link, Route
from qorch_net.plan import Mode

NO_PART = {"gateway": None, "dhcp": None, "leases": ()}
VLAN = {"mode": Mode.VLAN, "vlan": 10}
MACVTAP = {"mode": Mode.MACVTAP, "bridge": None}
BRIDGE_ALIAS = "qorch:0123abcd:network/office uplink=eth0"


def make_host(*, links=(), addresses=(), routes=()):
    """Make a host from pairs of interface and address or network."""
    return HostNetwork(
        links=links,
        addresses=tuple(Address(interface=i, ip=IPv4Interface(ip)) for i, ip in addresses),
        routes=tuple(Route(interface=i, network=IPv4Network(net)) for i, net in routes),
        forwarding=False,
    )


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (make_host(addresses=[("eth0", "192.168.133.7/24")]), "192.168.133.7/24 of interface eth0"),
        (make_host(addresses=[("eth0", "192.168.0.7/16")]), "192.168.0.7/16 of interface eth0"),
        (make_host(routes=[("tun0", "192.168.128.0/17")]), "route 192.168.128.0/17 over tun0"),
        (make_host(routes=[(None, "192.168.133.128/25")]), "over no single interface"),
    ],
)
def test_subnet_in_use_names_the_user(tools, host, message):
    """A subnet that the host uses is refused, and the error says by what it is used."""
    with pytest.raises(NetError, match="is in use") as caught:
        check_network(tools.make_plan(), host)
    assert message in caught.value.message
    assert caught.value.hint


def test_wide_routes_use_nothing(tools):
    """A default route, also in halves as VPNs make it, does not take every subnet."""
    routes = [("eth0", "0.0.0.0/0"), ("tun0", "128.0.0.0/1")]
    check_network(tools.make_plan(), make_host(routes=routes))


def test_own_bridge_is_no_conflict(tools):
    """The network's own bridge, address and route do not stand in its way."""
    plan = tools.make_plan()
    link = Link(index=9, name=plan.bridge, up=True, kind="bridge", alias=plan.mark.alias)
    host = make_host(
        links=(link,),
        addresses=[(plan.bridge, "192.168.133.1/24")],
        routes=[(plan.bridge, "192.168.133.0/24")],
    )
    check_network(plan, host)
    assert host.find_bridge(plan) is link


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ({"kind": "dummy"}, "there is a dummy interface of that name"),
        ({"kind": None}, "there is a physical interface of that name"),
        ({"kind": "bridge"}, "there is a bridge interface of that name"),
        ({"kind": "bridge", "alias": "my bridge"}, "there is a bridge"),
        (
            {"kind": "bridge", "alias": "qorch:ffffffff:network/lan"},
            "of qorch ffffffff, network/lan",
        ),
    ],
)
def test_bridge_name_taken_by_another(tools, link, message):
    """An interface that is not ours keeps its name, and the error says what it is."""
    plan = tools.make_plan()
    host = make_host(links=(Link(index=9, name=plan.bridge, up=True, **link),))
    with pytest.raises(NetError, match="is taken") as caught:
        check_network(plan, host)
    assert message in caught.value.message


def test_network_on_another_bridge(tools):
    """A network that is up under another bridge name is not built a second time."""
    plan = tools.make_plan(bridge="new")
    link = Link(index=9, name="old", up=True, kind="bridge", alias=plan.mark.alias)
    with pytest.raises(NetError, match="is up on bridge old, not new"):
        check_network(plan, make_host(links=(link,)))


def test_lost_mark_is_forgiven_for_the_plans_mac(tools):
    """A bridge with the plan's name and MAC whose alias was wiped is still ours."""
    plan = tools.make_plan()
    link = Link(index=9, name=plan.bridge, up=True, kind="bridge", mac=plan.mac)
    host = make_host(links=(link,))
    check_network(plan, host)
    assert host.find_bridge(plan) is link


def make_office(tools, **changes):
    """A bridge around eth0."""
    values = {"mode": Mode.BRIDGE, "bridge": "br0", "uplink": "eth0", **NO_PART, **changes}
    return tools.make_plan("office", **values)


@pytest.mark.parametrize(
    ("links", "changes", "message", "hint"),
    [
        ([], {}, "there is no interface eth0", "no network card"),
        ([{"name": "ens3"}], {}, "there is no interface eth0", "the host has ens3"),
        ([{"wireless": True}], {}, "eth0 is wireless", "mode nat or route"),
        ([{"kind": "bridge"}], {}, "is a bridge itself", 'bridge = "eth0"'),
        ([{"master": "b"}, {"name": "b", "kind": "bridge"}], {}, "is a port of b", 'bridge = "b"'),
        ([{"master": "b"}, {"name": "b", "kind": "bond"}], {}, "is a port of b", "b as the uplink"),
        ([{}, {"name": "m", "lower": "eth0", "kind": "macvlan"}], {}, "macvlan m sits upon", ""),
        ([{"up": False}], VLAN, "the uplink eth0 is down", "ip link set eth0 up"),
        ([{"mtu": 1500}], {**VLAN, "mtu": 9000}, "more than the 1500 of", "mtu 9000"),
        (
            [{}, {"name": "v", "lower": "eth0", "kind": "vlan", "vlan": 10}],
            VLAN,
            "v is in the way",
            'uplink = "v"',
        ),
        ([{}, {"name": "eth0.10"}], VLAN, "eth0.10 is in the way", "another name"),
        ([{"master": "b"}], MACVTAP, "eth0 is a port of b", 'bridge = "b"'),
    ],
)
def test_uplink_that_does_not_fit_is_refused(tools, links, changes, message, hint):
    """One clear error, and what to do instead."""
    values = {"name": "eth0", "up": True, "mtu": 1500}
    found = tuple(Link(index=i, **{**values, **link}) for i, link in enumerate(links, 2))
    with pytest.raises(NetError) as caught:
        check_network(make_office(tools, **changes), make_host(links=found))
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("manager", ["NetworkManager", "systemd-networkd"])
def test_managed_uplink_is_left_alone(tools, manager):
    """Who manages it is told how to make the bridge; once it is our port, it is ours."""
    link = Link(index=2, name="eth0", up=True)
    host = attrs.evolve(make_host(links=(link,)), managers={"eth0": manager})
    with pytest.raises(NetError, match=f"eth0 is managed by {manager}") as caught:
        check_network(make_office(tools), host)
    assert "eth0" in caught.value.hint
    assert "no uplink" in caught.value.hint
    check_network(make_office(tools, **VLAN), host)
    port = attrs.evolve(link, master="br0")
    bridge = Link(index=3, name="br0", up=True, kind="bridge", alias=BRIDGE_ALIAS)
    check_network(make_office(tools), attrs.evolve(host, links=(port, bridge)))


def test_bridge_of_another_network_may_come_later(tools):
    """A network on the bridge of one that is brought up before it needs not wait for it."""
    plan = make_office(tools, uplink=None)
    with pytest.raises(NetError, match="there is no bridge br0"):
        check_network(plan, make_host())
    check_network(plan, make_host(), coming={"br0"})
