"""Whether a plan fits a host, decided without one."""

from ipaddress import IPv4Interface, IPv4Network

import pytest

from qorch_net.check import check_network
from qorch_net.errors import NetError
from qorch_net.host import Address, HostNetwork, Link, Route


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
